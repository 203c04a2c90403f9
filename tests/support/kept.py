"""What tests of procmgr share: a run directory of their own, stand-in processes, and a look at what is left."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from drp.launch import Command
from drp.launch.identity import identity_of
from drp.launch.keepers import Keeper
from drp.launch.procmgr import Line, Procmgr

STAND_IN = Path(__file__).with_name("stand_in.py")
LIMIT_S = 20.0


class World:
    """One partition, `p0`, in `folder`."""

    def __init__(self, folder: Path, keeper: Keeper) -> None:
        self.folder = folder
        self.keeper = keeper
        self.procmgr = Procmgr("p0")

    def command(
        self, name: str, *words: str, interrupts: bool = False, kind: str = "stand_in", **env: str
    ) -> Command:
        """A stand-in, called `name`; it writes `<name>.json`."""
        argv = (sys.executable, "-IS", str(STAND_IN), *words, str(self.folder / f"{name}.json"))
        return Command(
            name, kind, argv, env, interrupts=interrupts, says_ready="ready" in words or "mute" in words
        )

    def start(self, *commands: Command, limit_s: float = LIMIT_S) -> dict[str, Line]:
        lines = self.procmgr.start(
            commands, keeper=self.keeper, log_root=self.folder / "logs", file="t.cnf", limit_s=limit_s
        )
        return {line.id: line for line in lines}

    def stop(self, *ids: str, limit_s: float = LIMIT_S) -> dict[str, Line]:
        return {line.id: line for line in self.procmgr.stop(ids or None, limit_s=limit_s)}

    def status(self, *commands: Command) -> dict[str, Line]:
        return {line.id: line for line in self.procmgr.status(commands)}

    def told(self, name: str) -> dict[str, Any]:
        """What a stand-in wrote."""
        content: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return content

    def left(self) -> list[str]:
        """What there still is of the partition."""
        return sorted(path.name for path in self.procmgr.folder.path.iterdir() if path.name != "lock")


def until(true: Any, what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def gone(pid: int) -> None:
    """Wait until a process is gone."""
    until(lambda: identity_of(pid) is None, f"process {pid} is still there")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
