"""What goes into a partition's state machine and comes out of it, as data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from drp.control.ledger import Account
from drp.control.members import Failure
from drp.control.move import Limits
from drp.control.plan import Selection


@dataclass(frozen=True, slots=True)
class Send:
    """A message to a member."""

    uid: str
    key: str
    msg_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Publish:
    """A message to all who listen."""

    key: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A job is over; it was done in full where there are no failures. `warnings` are those of control itself."""

    job: int
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keep:
    """A run's account, to be kept."""

    account: Account


Out = Send | Publish | Done | Keep


Configs = Callable[[str], Mapping[str, dict[str, Any]]]
"""Returns what is configured under an alias such as BEAM, by name: each a typed JSON. Raises DrpError."""


class Numbers(Protocol):
    """Where run numbers come from."""

    def last_run(self, experiment: str) -> int:
        """Return the last one given out, or 0; DrpError."""

    def next_run(self, experiment: str) -> int:
        """Return one that was never given out; DrpError."""


@dataclass(slots=True)
class Settings:
    """What the user may set, and what control was started with."""

    name: str
    instrument: str
    platform: int = 0
    experiment: str = "none"
    config_alias: str = "BEAM"
    trigger_config: str = ""
    slow_update_hz: int | None = None
    record: bool = False
    bypass: bool = False
    selection: Selection | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Job:
    """A row of transitions that somebody asked for. `phase1` is what the user adds to each, by its name."""

    number: int
    row: deque[str]
    phase1: dict[str, Any]
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
