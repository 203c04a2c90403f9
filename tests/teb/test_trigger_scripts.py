"""The trigger scripts that users copy decide as they say."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from built_events import TIMING, built, stream
from script_feed import ListFeed

from drp.core.batch import Contributor
from drp.script._link import FeedLink
from drp.script.info import DrpInfo
from drp.script.worker import serve
from xtc import TransitionId

SCRIPTS = Path(__file__).resolve().parents[2] / "fex_scripts"
A = Contributor(1, "epix_0", 0, (("peaks", "<u4"),))
B = Contributor(2, "epix_1", 0, (("peaks", "<u4"),))
MEBS = {"ami-meb0": 0, "ami-meb1": 1, "acr-meb": 2}


def decide(name, args, contributors, words, mebs=MEBS):
    feed = ListFeed(stream(contributors, [built(contributors, words)], mebs=mebs))
    with mock.patch.dict(sys.modules):
        code = serve(FeedLink(feed), DrpInfo(), [str(SCRIPTS / name), *args], trigger=True)
    assert code == 0, [one.json for one in feed.answers if one.json]
    (answer,) = feed.of(TransitionId.L1Accept)
    return np.frombuffer(answer.data, "<u4").tolist()


def both(a, b):
    return {alias: {"peaks": n} for alias, n in (("epix_0", a), ("epix_1", b)) if n is not None}


@pytest.mark.parametrize(
    ("args", "kept"),
    [([], [False, True, True, True, True, True]), (["--all"], [False, False, True, False, False, True])],
)
def test_hit_trigger_keeps_what_has_enough_peaks_or_may_have(args, kept):
    words = [both(0, 14), both(15, 0), both(15, 20), both(15, 0), both(0, None), both(15, None)]
    kept[4] = not args  # one has none: all cannot have
    found = decide("hit_trigger.py", ["--keep-every", "0", *args], (A, B, TIMING), words)
    assert [bool(one & 2) for one in found] == kept
    assert [one >> 2 for one in found] == [7 if one else 0 for one in kept]


@pytest.mark.parametrize("args", [[], ["--all"]])
def test_hit_trigger_looks_at_those_only_who_are_due_in_an_event(args):
    slow = Contributor(5, "slow_0", 2, (("peaks", "<u4"),))
    found = decide("hit_trigger.py", ["--keep-every", "0", *args], (A, B, slow), [both(0, 0), both(15, 15)])
    assert [bool(one & 2) for one in found] == [False, True]
    found = decide("hit_trigger.py", ["--keep-every", "0", *args], (slow, TIMING), [{"timing_1": {}}])
    assert found == [0]


def test_hit_trigger_keeps_every_nth_whole_and_shows_every_nth_hit():
    words = [both(20 * (k % 2), 0) for k in range(8)]
    found = decide("hit_trigger.py", ["--keep-every", "4", "--show-every", "2"], (A, B), words)
    assert [one & 1 for one in found] == [1, 0, 0, 0, 1, 0, 0, 0]
    assert [one & 2 for one in found] == [0, 2] * 4
    assert [one >> 2 for one in found] == [0, 0, 0, 7, 0, 0, 0, 7]


def test_monitor_router_sends_events_by_code_and_in_turns():
    def codes(*given):
        out = dict.fromkeys((f"codes{k}" for k in range(9)), 0)
        for code in given:
            out[f"codes{code >> 5}"] |= 1 << (code & 31)
        return {"timing_1": out}

    words = [codes(256), codes(30), codes(256, 30), codes(1), {"epix_0": {}}, codes(256)]
    args = ["--timing", "timing_1", "--route", "256:ami", "--route", "30:acr"]
    found = decide("monitor_router.py", args, (A, TIMING), words)
    assert found == [2 | one << 2 for one in (1, 4, 2 | 4, 0, 0, 1)]


def test_a_trigger_script_has_less_than_80_lines():
    for name in ("hit_trigger.py", "monitor_router.py"):
        assert len((SCRIPTS / name).read_text().splitlines()) < 80
