"""The drp of the timing stream: kept alive by timing, ended with it, and a member like any other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.timing import stream
from drp.timing.journal import read_journal
from drp.timing.stream import Stream
from tests.support.drp_command import ROOT
from xtc import Reader, TransitionId

pytestmark = pytest.mark.timeout(120)
LIMIT_S = 30.0
SLEEPS = "import time; time.sleep(60) # {parent}"
ENDS = "raise SystemExit(3) # {parent}"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(holds: object) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_a_child_that_ends_is_started_again_after_pauses_that_grow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream, "_COMMAND", ENDS)
    clock = Clock()
    made = Stream([], clock_s=clock)
    pids = [made._process.pid]
    for pause in (1, 2, 4):
        made._process.wait(LIMIT_S)
        clock.now += 1
        made.look()
        clock.now += pause - 0.1
        made.look()
        assert made._process.pid == pids[-1], "not yet"
        clock.now += 0.2
        made.look()
        pids.append(made._process.pid)
    assert len(set(pids)) == 4
    assert "ended with 3" in caplog.text
    made.close()


@pytest.mark.parametrize(
    ("alias", "drp"), [("timing_1", "timing_1"), ("timing", "timing_0"), ("ts_a", "ts_a_0")]
)
def test_the_drp_has_the_alias_of_timing_and_a_segment(alias: str, drp: str) -> None:
    words = stream.words_of(instrument="tst", platform=0, control_host="", alias=alias)
    assert words[words.index("-u") + 1] == drp


def test_closing_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_COMMAND", SLEEPS)
    made = Stream([])
    made.look()
    assert made._process.poll() is None
    made.close()
    assert made._process.returncode == -signal.SIGTERM


@pytest.fixture
def commands(folder: Path) -> Iterator[object]:
    """Start commands of a partition, which end with the test."""
    made: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        code = f"import sys; from drp_start import {name}; sys.exit({name}())"
        with (folder / f"{name}.log").open("ab") as log:
            made.append(
                subprocess.Popen(
                    [sys.executable, "-c", code, *words],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                )
            )
        return made[-1]

    yield start
    for one in reversed(made):
        one.terminate()
    for one in made:
        try:
            one.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def stands(listener: socket.socket) -> None:
    listener.settimeout(LIMIT_S)
    assert b"READY=1" in listener.recv(1000)


@pytest.mark.slow
def test_the_stream_has_every_trigger_and_comes_back_when_killed(
    folder: Path, commands: object, tmp_path: Path
) -> None:
    start = commands
    assert callable(start)
    start("control", "--record", "--store", str(tmp_path / "store"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "ready"))
        words = ("-u", "timing_0", "--stream", "-o", str(tmp_path / "out"), "--event-code", "40:/1")
        start("timing", *words, NOTIFY_SOCKET=str(folder / "ready"))
        stands(listener)
        for run in (1, 2):
            assert start("daqstate", "--state", "running").wait(60) == 0
            journal = tmp_path / "out" / f"tst-tst-r{run:04d}.triggers"
            until(lambda journal=journal: len(read_journal(journal)[1]) > 500)
            assert start("daqstate", "--state", "unallocated").wait(60) == 0
            _, records = read_journal(journal)
            fired = records[records["env"] >> 24 == TransitionId.L1Accept]
            (path,) = (tmp_path / "out").glob(f"*/*/xtc/*-r{run:04d}-*.xtc2")
            with Reader(path) as reader:
                times = [one.timestamp for one in reader if one.service == TransitionId.L1Accept]
            assert times == fired["timestamp"].tolist()
            if run == 1:
                (pid,) = [pid for pid in children_of_timing() if pid]
                os.kill(pid, signal.SIGKILL)
                stands(listener)


def children_of_timing() -> list[int]:
    """Return the drps that timing keeps, by their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        mine = os.environ["XDG_RUNTIME_DIR"].encode() in environment
        if mine and b"set_parent_death_signal" in words and b"--source\0ts" in words:
            found.append(int(folder.name))
    return found
