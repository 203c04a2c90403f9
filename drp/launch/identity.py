"""Which process is meant: a pid with the time it was started, since a pid alone may be another's by now. Linux only."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
_DEAD = ("Z", "X")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: its pid, and when it was started, in clock ticks since the boot that `boot` names."""

    pid: int
    ticks: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether it runs; one that ended and waits to be reaped does not."""
        found = _stat(self.pid)
        return (
            found is not None and found[0] not in _DEAD and found[2] == self.ticks and self.boot == boot_id()
        )

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; False where it is gone. Never reaches another process that has its pid now."""
        with self._opened() as fd:
            if fd is None:
                return False
            signal.pidfd_send_signal(fd, number)
            return True

    def wait(self, limit_s: float) -> bool:
        """Wait until it is gone, so long; say whether it is."""
        with self._opened() as fd:
            return fd is None or bool(select.select([fd], [], [], limit_s)[0])

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            yield None
            return
        try:
            yield (
                fd if self.alive else None
            )  # looked at after it was opened: what the descriptor means does not change
        except ProcessLookupError:
            return
        finally:
            os.close(fd)


def identity_of(pid: int) -> Identity | None:
    """Return who has a pid now; None where nobody does, or it has ended."""
    found = _stat(pid)
    return None if found is None or found[0] in _DEAD else Identity(pid, found[2], boot_id())


def name_of(process: Identity) -> str:
    """Return the name of a process's program, cut to 15 characters; empty where it is gone."""
    try:
        name = (PROC / str(process.pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""
    return name if process.alive else ""


def session_of(leader: Identity) -> list[Identity]:
    """Return the processes left in the session that `leader` led, without itself; none where its pid is another's by now."""
    found = _stat(leader.pid)
    if leader.boot != boot_id() or (found is not None and found[2] != leader.ticks):
        return []
    members = []
    for place in PROC.iterdir():
        if place.name.isdecimal() and int(place.name) != leader.pid:
            other = _stat(int(place.name))
            if other is not None and other[1] == leader.pid and other[0] not in _DEAD:
                members.append(Identity(int(place.name), other[2], leader.boot))
    return members


@cache
def boot_id() -> str:
    """Return what this boot of the machine is called."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state, session and start time of a process; None where there is none."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[3]), int(fields[19])
