"""The ways in which a worker fails, and how often each kind of failure was seen.

A kind of failure is told at length once, with the script's traceback, and counted ever after: a script that
raises on every 97th event must not bury the log. This module knows what a failure is called and what it
costs, not what is done about it.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from drp.core.ledger import Cause

MAX_KINDS = 200
OTHER_KINDS = "(other kinds)"
_FRAME = re.compile(r'^\s*File "([^"]*)", line (\d+)', re.MULTILINE)


class Failure(StrEnum):
    """Why a worker process ended, or had to be ended."""

    RAISED = "raised"
    TIMED_OUT = "timed_out"
    DIED = "died"
    NONSENSE = "nonsense"
    LEFT = "left"
    MEMORY = "memory"
    KILLED = "killed"
    NURSERY = "nursery"

    @property
    def cause(self) -> Cause:
        """What it is called in the damage of the event in hand."""
        return _CAUSES[self]

    @property
    def by_script(self) -> bool:
        """True where the script or the worker is to blame: not a signal from outside, nor the loss of the
        nursery.
        """
        return self not in (Failure.KILLED, Failure.NURSERY)


_CAUSES = {
    Failure.RAISED: Cause.raised,
    Failure.TIMED_OUT: Cause.timed_out,
    Failure.DIED: Cause.died,
    Failure.NONSENSE: Cause.nonsense,
    Failure.LEFT: Cause.left,
    Failure.MEMORY: Cause.none,
    Failure.KILLED: Cause.died,
    Failure.NURSERY: Cause.died,
}


@dataclass(frozen=True, slots=True)
class ScriptReport:
    """What a worker says of its own failure: name of the exception, its message, the script's traceback."""

    kind: str
    message: str
    traceback: str = ""

    def key(self, script: str = "") -> str:
        """Return what makes two failures the same kind: the exception and the last line of `script` it came
        through.
        """
        frames = _FRAME.findall(self.traceback)
        own = [frame for frame in frames if frame[0].endswith(script)] if script else []
        name, line = (own or frames or [("", "")])[-1]
        return f"{self.kind} at {name}:{line}" if name else self.kind


class Tally:
    """Count failures by kind. Kinds beyond MAX_KINDS share one count, so that it cannot grow without end."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, key: str) -> bool:
        """Count one failure of the kind `key`, and say whether it is the first of its kind."""
        if key not in self._counts and len(self._counts) >= MAX_KINDS:
            key = OTHER_KINDS
        self._counts[key] += 1
        return self._counts[key] == 1

    def as_dict(self) -> dict[str, int]:
        """Return the counts by kind, the most frequent first."""
        return dict(self._counts.most_common())


def classify_exit(wait_status: int | None) -> tuple[Failure, str]:
    """Return what an exit that nobody announced was, and in words; `wait_status` as waitpid gives it, None
    if unknown.

    SIGKILL and SIGTERM that drp did not send come from outside: an operator, a batch system, the kernel out
    of memory.
    """
    if wait_status is None:
        return Failure.DIED, "died, nobody knows of what"
    number = wait_status & 0x7F
    if not number:
        return Failure.DIED, f"exited with code {wait_status >> 8 & 0xFF} in the middle of the run"
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        return Failure.KILLED, "was killed from outside by SIGKILL (a user, the batch system, out of memory?)"
    if number == signal.SIGTERM:
        return Failure.KILLED, "was ended from outside by SIGTERM"
    return Failure.DIED, f"died of {name}"
