"""Who looks at a running partition sees all its detectors, and cannot hold it up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import drp
from drp.link.sockets import well_known
from drp.script.monitor import MonitorFeed
from tests.conftest import ROOT
from tests.support.partition import PLAIN, WORDS, World, partition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
EVENTS = 600
STOPPED_S = 3.0
KEEPS = WORDS.replace('        ds.remove_data(info.det_name, "raw")\n', "")
TRIGGER = """
from drp import TriggerDataSource
ds = TriggerDataSource()
for event in ds.events():
    peaks = event["epixhr_0"].npeaks
    ds.result(peaks >= 20, ds.mebs() if peaks % 2 else 0)
"""
LOOK = """
import sys
from drp import DataSource
ds = DataSource(monitor="tst:0")
for run in ds.runs():
    det, fex = run.Detector("epixhr").raw, run.Detector("epixhr").fex
    for evt in run.events():
        segments = det.segments(evt)
        print(evt.timestamp, fex.npeaks(evt), len(segments or ()), flush=True)
    print("end", run.runnum, ds.monitor_lost, flush=True)
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        yield made


@contextmanager
def looking(world: World) -> Iterator[subprocess.Popen[str]]:
    """A script that looks, in a process of its own."""
    words = [sys.executable, str(world.script(LOOK, "look.py"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def resident_mb(pid: int) -> float:
    """Return the memory that a process has for itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def test_a_viewer_sees_all_detectors_and_one_that_never_reads_holds_up_nobody(world: World) -> None:
    world.member("teb0", "teb", "-p", world.script(TRIGGER, "trigger.py"))
    world.member("meb0", "meb", "-n", 32)
    world.timing("--rate", 500, "-n", EVENTS)
    world.drp("epixhr_0", world.script(KEEPS))
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"))
    world.lead()
    world.go("configured")
    stuck = MonitorFeed(well_known("view-meb0-tst-p0"), window=8)
    while not stuck._stream:
        stuck._receive()
    with looking(world) as looks, drp.words("tst:0", limit_s=0.0) as words:
        world.until(lambda: world.log("meb0").count("comes") == 2, "viewers")
        for run in (1, 2):
            world.run(run, EVENTS)
            assert looks.stdout is not None
            seen = []
            while not (line := looks.stdout.readline()).startswith("end"):
                seen.append([int(one) for one in line.split()])
            lost = int(line.split()[2])
            triggered = world.triggered(run)
            odd = [one for one in triggered if one // 977 % 40 % 2]
            stamps = [one for one, _, _ in seen]
            assert set(stamps) <= set(odd) and stamps == sorted(stamps)
            assert all(npeaks == stamp // 977 % 40 for stamp, npeaks, _ in seen)
            assert {segments for _, _, segments in seen} == {2}, f"{line}{world.log('meb0')}"
            assert len(seen) > 0.5 * len(odd) or lost
            hits = [one for one in triggered if one // 977 % 40 >= 20]
            assert world.recorded(run, 0) == world.recorded(run, 1) == hits
            assert world.ledger(run)["closes"], world.ledger(run)
        told = [event.timestamp for event in words]
        assert set(told) <= {*world.triggered(1), *world.triggered(2)} and told == sorted(told)
        assert resident_mb(world.processes["meb0"].pid) < 300
    stuck.close()
    world.go("unallocated")


def test_a_meb_that_is_stopped_for_longer_than_drps_wait_for_it_disturbs_no_run(world: World) -> None:
    world.member("teb0", "teb", "-p", world.script(TRIGGER, "trigger.py"))
    world.member("meb0", "meb", "-n", 32)
    world.timing("--rate", 300)
    world.drp("epixhr_0", world.script(KEEPS))
    world.lead()
    world.go("configured")
    with looking(world) as looks:
        world.until(lambda: world.log("meb0").count("comes") == 1, "a viewer")
        assert looks.stdout is not None
        world.go("running")
        first = looks.stdout.readline()
        world.kill("meb0", signal.SIGSTOP)
        before = len(world.triggered(1))
        world.until(lambda: len(world.triggered(1)) > before + 300 * STOPPED_S, "triggers go on")
        world.kill("meb0", signal.SIGCONT)
        resumed = world.triggered(1)[-1]
        line = first
        while not line.startswith("end") and int(line.split()[0]) <= resumed:
            line = looks.stdout.readline()
        assert not line.startswith("end"), "it sees events again"
        world.go("configured")
        while not line.startswith("end"):
            line = looks.stdout.readline()
        hits = [one for one in world.triggered(1) if one // 977 % 40 >= 20]
        assert world.recorded(1, 0) == hits and world.ledger(1)["closes"]
    world.go("unallocated")
