"""A trigger script that fails in every way, again and again: each event comes back once, in order, and decided on or kept."""

from __future__ import annotations

import random
import select
import time

import numpy as np
import pytest
from built_events import BOTH, peaks

from drp.core.ledger import Cause
from drp.core.wire import PERSIST
from drp.teb.connect import connect_info
from drp.teb.stage import StageConfig, TriggerStage

FAILS = """
import os, signal, time
from drp import TriggerDataSource
ds = TriggerDataSource()
for evt in ds.events():
    n = evt["epix_0"].npeaks
    if n == 1000: raise ValueError(n)
    if n == 1001: os.kill(os.getpid(), signal.SIGKILL)
    if n == 1002: os._exit(0)
    if n == 1003: time.sleep(60)
    if n == 1004: ds.result(True)
    if n == 1005: continue
    if n == 1006: break
    ds.result(n % 2, n)
"""
KINDS = 7
LIMIT_S = 100.0


@pytest.mark.slow
def test_each_event_comes_back_once_whatever_the_script_does(tmp_path, times):
    path = tmp_path / "trigger.py"
    path.write_text(FAILS)
    stage = TriggerStage(StageConfig(str(path), event_timeout_s=0.2, first_event_timeout_s=1.0))
    chance = random.Random(5)
    batches = 300 * times
    numbers, expected, fatal = [], [], []
    found = []
    stage.start()
    try:
        stage.configure(BOTH, connect_info(BOTH))
        until = time.monotonic() + LIMIT_S * times
        for _ in range(batches):
            values = [chance.randrange(100) for _ in range(chance.randrange(1, 40))]
            if chance.random() < 0.08:
                values[chance.randrange(len(values))] = 1000 + chance.randrange(KINDS)
            first = 1 + sum(map(len, numbers))
            while not stage.room:
                assert select.select([stage.fd], [], [], until - time.monotonic())[0]
                found.append(stage.verdicts())
            stage.submit(*peaks(values, first=first))
            numbers.append(range(first, first + len(values)))
            expected += values
            fatal += [max(values) >= 1000] * len(values)
        while sum(map(len, found)) < len(expected):
            assert select.select([stage.fd], [], [], until - time.monotonic())[0]
            found.append(stage.verdicts())
        counts = stage.counts
    finally:
        stage.close()
    out = np.concatenate(found)
    assert out["pulse_id"].tolist() == list(range(1, 1 + len(expected)))
    answered = out["cause"] == 0
    # Those that are sure to fail persist; an innocent batch may only have passed while everybody was left out.
    assert not (answered & np.array(fatal)).any()
    assert set(out["cause"][~np.array(fatal)].tolist()) <= {0, Cause.no_worker}
    assert (out["result"][~answered] == PERSIST).all()
    values = np.array(expected)
    assert (out["result"] == np.where(values % 2, 2, 0) + (values % 16) * 4)[answered].all()
    assert counts.failed_batches >= len({k for k, one in enumerate(numbers) if fatal[one[0] - 1]})
