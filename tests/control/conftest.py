"""A partition of real processes: control, and members that do nothing but answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.control.client import DaqControl
from drp.link.control import Message
from drp.link.sockets import well_known
from tests.support.drp_fixtures import folder_in_memory

ROOT = Path(__file__).parents[2]
LIMIT_S = 40.0
CONTROL = "import sys, drp_start; sys.exit(drp_start.control())"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own."""
    with folder_in_memory(0o755) as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        monkeypatch.setenv("XDG_STATE_HOME", str(path / "state"))
        yield path


class Processes:
    """What a test has started, by name. All are killed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.named: dict[str, subprocess.Popen[bytes]] = {}
        self.daq = DaqControl.at(
            well_known("clients-tst-p0"), well_known("status-tst-p0"), None, LIMIT_S * 1000
        )

    def control(self, *words: str) -> None:
        """Start control."""
        self._start("control", ["-c", CONTROL, "-P", "tst", *words])

    def member(self, level: str, alias: str, *faults: str) -> None:
        """Start a member."""
        self._start(alias, ["-m", "tests.support.fake_members", level, alias, *faults])

    def all(self) -> None:
        """Start a control and a partition of four."""
        self.control("-T", "4000", "--record")
        for level, alias in (("timing", "ts"), ("drp", "cam_0"), ("drp", "cam_1"), ("teb", "teb0")):
            self.member(level, alias)
        self.until(lambda status: len(self.aliases(status)) == 4, "all four are there")

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        self.named[name].send_signal(number)
        if number == signal.SIGKILL:
            self.named.pop(name).wait(LIMIT_S)

    def aliases(self, status: dict[str, Any]) -> list[str]:
        members = [one for level in status["platform"].values() for one in level.values()]
        return sorted(one["proc_info"]["alias"] for one in members)

    def until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until control's status is so."""
        end = time.monotonic() + LIMIT_S
        while True:
            status = self.daq.ask("getStatus")
            if holds(status):
                return status
            assert time.monotonic() < end, f"waited for: {what}; {status}\n{self.log()}"
            self.hear(("status",), end - time.monotonic())

    def hear(self, keys: tuple[str, ...], limit_s: float = LIMIT_S) -> Message:
        """Wait for the next message of these keys."""
        while True:
            message = self.daq.news(int(limit_s * 1000))
            if message.key in keys:
                return message

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        self.daq.close()
        for one in self.named.values():
            one.kill()
            one.wait(LIMIT_S)

    def _start(self, name: str, words: list[str]) -> None:
        if name in self.named:
            self.named.pop(name).wait(LIMIT_S)
        with (self.folder / f"{name}.log").open("ab") as log:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            self.named[name] = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
            )


@pytest.fixture
def processes(folder: Path) -> Iterator[Processes]:
    """A partition of processes, none of them started yet."""
    made = Processes(folder)
    try:
        yield made
    finally:
        made.close()
