"""Members of a partition that do nothing, for tests of control: a real line to it, and a timing that tells them what it inserts.

As a program, `python -m tests.support.fake_members LEVEL ALIAS`, it is one such process. What it does wrong is said as KEY=FAULT: it answers KEY with
an error (`fail`), not at all (`hang`), or dies of it (`die`); `late:KEY=fail` is about what it tells when that has come through.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import Any

import zmq

from drp.core.partition import STEPS
from drp.link.control import Command, Member
from drp.link.sockets import join, listen, well_known

CONTROL = "control-tst-p0"
STREAM = "fake-timing"
LIMIT_S = 120.0
READERS_MS = 2000


class FakeMember:
    """One member. `faults` by key; `turn` does what is there to do."""

    def __init__(self, level: str, alias: str, faults: dict[str, str] | None = None, group: int = 0) -> None:
        self.level, self.alias, self.faults = level, alias, faults or {}
        self.seen: list[Command] = []
        self.group = group
        self.events = 10
        self._pulse_id = int(time.monotonic() * 1000)
        self._readers = self._wanted = 0
        if level == "timing":
            self._stream, _ = listen(zmq.XPUB, STREAM)
            self._stream.setsockopt(zmq.XPUB_VERBOSER, 1)
        else:
            self._stream = join(zmq.SUB, well_known(STREAM))
            self._stream.setsockopt(zmq.SUBSCRIBE, b"")
        self.member = Member(
            well_known(CONTROL), level=level, alias=alias, describe=lambda: {"det_info": {"readout": group}}
        )

    def close(self) -> None:
        self.member.close()
        self._stream.close()

    def turn(self, limit_ms: int = 100) -> None:
        """Wait for something, and do it."""
        fds: list[Any] = [self.member.fd, self._stream.getsockopt(zmq.FD)]
        if self.level == "timing" or not self._stream.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            select.select(fds, [], [], limit_ms / 1000)
        for command in self.member.commands():
            self.obey(command)
        while self.level != "timing" and self._stream.poll(0):
            self._tell(self._stream.recv())

    def obey(self, command: Command) -> None:
        self.seen.append(command)
        fault = self.faults.get(command.key, "")
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if command.key == "gone":
            self._wanted -= 1
        if fault == "hang" or not command.msg_id:
            return
        if fault == "fail":
            self.member.answer(command, error=f"{self.alias} cannot {command.key}")
            return
        body: dict[str, Any] = {"connect_info": {}} if command.key == "alloc" else {}
        if command.key == "connect":
            self._wanted = sum(len(command.body["partition"][level]) for level in ("drp", "teb", "meb"))
        if command.key == "insert":
            self._await_readers()
            self._pulse_id += 1
            body = {"pulse_id": self._pulse_id, "counts": {"groups": {"0": self.events}, "inhibited": {}}}
            self._stream.send_string(f"{command.body['service']} {self._pulse_id}")
        self.member.answer(command, body)

    def _await_readers(self) -> None:
        """Wait, for a while, until all read the stream: those that connect to a new timing need a moment."""
        while self._stream.poll(0 if self._readers >= self._wanted else READERS_MS):
            self._readers += 1 if self._stream.recv()[0] else -1

    def _tell(self, frame: bytes) -> None:
        service, pulse_id = frame.decode().split()
        key = next(key for key, step in STEPS.items() if step.service == service)
        fault = self.faults.get(f"late:{key}", "")
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            return
        error = (
            {"what": "the script raised", "where": "script.py", "hint": "", "traceback": "line 7"}
            if fault
            else None
        )
        body: dict[str, Any] = {"service": service, "pulse_id": int(pulse_id), "error": error}
        if key == "endrun" and self.level == "drp":
            body["ledger"] = {"recorded_verdict": self.events, "total": self.events}
        self.member.tell("timingTransition", body)


def main() -> int:
    """Be a member until killed; 0 where nobody did so for long."""
    level, alias, *faults = sys.argv[1:]
    made = FakeMember(level, alias, dict(one.split("=") for one in faults))
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        made.turn()
    return 0


if __name__ == "__main__":
    sys.exit(main())
