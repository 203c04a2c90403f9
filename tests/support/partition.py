"""A partition of real processes, each started as its command is, led through its states as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from drp.control.client import DaqControl
from drp.core import wire
from tests.conftest import ROOT
from xtc import Dgram, Reader, TransitionId

LIMIT_S = 40.0
END_S = 15.0
EXPERIMENT = "exp1"
WORDS = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
ds.add_trigger({"npeaks": np.int32})
for run in ds.runs():
    info = ds.drp_info
    det = run.Detector(info.det_name)
    fex = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 0, 0, 1), {"npeaks": (np.int32, 0)}
    )
    for evt in run.events():
        fex.fex.npeaks = npeaks = evt.timestamp // 977 % 40
        ds.add_data(fex.fex)
        ds.set_trigger(npeaks=npeaks)
        ds.remove_data(info.det_name, "raw")
"""
PLAIN = """
from drp import DataSource
ds = DataSource()
for run in ds.runs():
    det = run.Detector(ds.drp_info.det_name)
    for evt in run.events():
        assert det.raw.raw(evt) is not None
"""


@dataclass
class World:
    """One partition below `folder`."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    logs: dict[str, IO[bytes]] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """Where drps record."""
        return self.folder / "out"

    def script(self, text: str, name: str = "script.py") -> Path:
        """Write a script and return its path."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, name: str, command: str, *words: object) -> None:
        """Start a process by its command, or once more with the words it had."""
        if words:
            self.lines[name] = [command, *map(str, words)]
        command, *argv = self.lines[name]
        code = f"import sys, drp_start; sys.exit(drp_start.{command}())"
        if name in self.logs:
            self.logs[name].close()
        log = self.logs[name] = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-c", code, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def member(self, name: str, command: str, *words: object) -> None:
        """Start a member of the partition, called `name`."""
        self.start(name, command, "-P", "tst", "-p", 0, "-C", "localhost", "-u", name, *words)

    def lead(self, *words: object) -> None:
        """Start control, which waits for all that were started before it."""
        levels: dict[str, dict[str, Any]] = {}
        for name, (command, *_) in self.lines.items():
            levels.setdefault(command, {})[name] = {"active": 1}
        active = self.folder / "active.json"
        active.write_text(json.dumps({"activedet": levels}))
        fixed = ("-P", "tst", "-p", 0, "--record", "--experiment", EXPERIMENT, "-r", active)
        self.start("control", "control", *fixed, "--store", self.folder / "store", *words)

    def timing(self, *words: object) -> None:
        """Start timing."""
        self.member("timing", "timing", "-o", self.folder / "journal", *words)

    def drp(self, name: str, script: Path, *words: object) -> None:
        """Start a drp with a small camera."""
        fixed = (
            "--source",
            "sim:epixhr:1panel,frames=8",
            "-W",
            1,
            "-k",
            "pebbleBufCount=512",
            "-o",
            self.out,
        )
        self.member(name, "drp", *fixed, "-p", script, *words)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process."""
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait(END_S)

    def again(self, name: str) -> None:
        """Start a process that was killed once more."""
        self.start(name, "")

    def log(self, name: str) -> str:
        """Return what a process has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        """End all: in good order, and who does not is killed."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self.logs.values():
            log.close()

    # Leading it.

    @contextmanager
    def daq(self) -> Iterator[DaqControl]:
        """Connect to control, once it is there."""
        daq = DaqControl(platform=0, timeout=LIMIT_S * 1000, instrument="tst")
        try:
            yield daq
        finally:
            daq.close()

    def go(self, state: str, info: dict[str, Any] | None = None) -> None:
        """Bring the partition to a state; AssertionError, with what all have written, where it does not get there."""
        with self.daq() as daq:
            wrong = daq.setState(state, info or {})
        assert wrong is None, f"{wrong}\n{self.logs_text()}"

    def until(self, holds: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Look until something holds; AssertionError, with what all have written, where it does not within the limit."""
        end = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < end, f"waited {limit_s} s for {what}\n{self.logs_text()}"
            time.sleep(0.02)

    def logs_text(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"== {one}\n{self.log(one)[-2000:]}" for one in self.processes)

    def stood_still(self, name: str, seconds: float) -> bool:
        """Say whether a process was stopped this long; the time counts from the first call."""
        return time.monotonic() - self.stopped.setdefault(name, time.monotonic()) >= seconds

    def stands_still(self, run: int, seconds: float = 0.3) -> bool:
        """Say whether no event of a run was triggered for so long."""
        before = len(self.triggered(run))
        time.sleep(seconds)
        return len(self.triggered(run)) == before

    def end_run_with_a_loss(self) -> None:
        """End a run of which control will say that something is missing."""
        with self.daq() as daq:
            daq.setState("configured", {})
            assert daq.getState() == "configured", self.logs_text()

    def run(self, number: int, events: int) -> None:
        """Do a run of so many events, which timing counts, and leave it configured."""
        self.go("running")
        self.until(lambda: len(self.triggered(number)) >= events, f"{events} events of run {number}")
        self.go("configured")

    # What came of it.

    def journal(self, run: int) -> np.ndarray[Any, Any]:
        """Return the triggers that timing wrote down; none where there was no such run so far."""
        path = next((self.folder / "journal").rglob(f"*r{run:04d}*.triggers"), None)
        if path is None or path.stat().st_size < wire.TRIGGER.itemsize:
            return np.empty(0, wire.TRIGGER)
        return np.fromfile(path, wire.TRIGGER, offset=64)

    def triggered(self, run: int, group: int = 0) -> list[int]:
        """Return the time stamps of the events of a readout group, by the journal."""
        triggers = self.journal(run)
        events = triggers["env"] >> 24 & 0xF == TransitionId.L1Accept
        return [int(one) for one in triggers["timestamp"][events & (triggers["env"] >> group & 1 == 1)]]

    def events(self, run: int, stream: int) -> Iterator[Dgram]:
        """Yield the events in a stream."""
        (path,) = self.out.rglob(f"*-r{run:04d}-s{stream:03d}-c000.xtc2")
        yield from (dgram for dgram in Reader(path) if dgram.service == TransitionId.L1Accept)

    def recorded(self, run: int, stream: int) -> list[int]:
        """Return the time stamps of the events in a stream."""
        return [dgram.timestamp for dgram in self.events(run, stream)]

    def ledger(self, run: int) -> dict[str, Any]:
        """Return the partition's ledger of a run, as control keeps it."""
        (path,) = (self.folder).rglob(f"ledgers/*r{run:04d}.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


@contextmanager
def partition(folder: Path) -> Iterator[World]:
    """Make a world and end it."""
    world = World(folder)
    try:
        yield world
    finally:
        world.close()
