"""What the supervisor tells the engine to do. Plain messages: how each is done is the engine's affair."""

from __future__ import annotations

from dataclasses import dataclass

from drp.core.errors import RunStopped, ScriptError
from drp.core.failures import Failure
from drp.core.ledger import Cause
from xtc import TransitionId


@dataclass(frozen=True, slots=True)
class Fork:
    """Ask the nursery for a new process. `worker` is its post; None: a spare."""

    incarnation: int
    worker: int | None


@dataclass(frozen=True, slots=True)
class UseSpare:
    """Give the post `worker` and its queue to the spare `incarnation`, which has the environment already."""

    worker: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class AskTraceback:
    """Send SIGUSR1: the process prints where it stands. A kill follows shortly."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to the process group."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Give it nothing more, and a STOP entry after what it has: it is to be replaced between two events."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Release:
    """The process is gone and its published results are counted: settle what it leaves.

    An event in hand goes out raw with `cause`; with Cause.none it is done again, like everything that it
    had not taken.
    """

    incarnation: int
    worker: int | None
    cause: Cause
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """The post `worker` stays empty for `retry_s` seconds."""

    worker: int
    retry_s: float


@dataclass(frozen=True, slots=True)
class PassRaw:
    """With `on`, every worker is left out: pass events raw, with Cause.no_worker. Without, there are
    workers again.
    """

    on: bool


@dataclass(frozen=True, slots=True)
class RestartNursery:
    """The nursery does not answer: end it and start another."""


@dataclass(frozen=True, slots=True)
class FailTransition:
    """Configure or BeginRun failed, and with it the run."""

    service: TransitionId
    error: ScriptError


@dataclass(frozen=True, slots=True)
class StopRun:
    """A policy wants the run ended in good order."""

    error: RunStopped


@dataclass(frozen=True, slots=True)
class Log:
    """Say `text`; `level` is a name of the logging module in lower case."""

    level: str
    text: str


Instruction = (
    Fork
    | UseSpare
    | AskTraceback
    | Kill
    | Retire
    | Release
    | LeaveOut
    | PassRaw
    | RestartNursery
    | FailTransition
    | StopRun
    | Log
)
