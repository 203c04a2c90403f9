"""The states of a partition, the transitions between them, and how long each may take.

The names are LCLS's. In the first phase of a transition control tells every member and waits for all their answers. Those that have a `service`
have a second phase, in which timing puts it into the stream of triggers and everybody says when it has come through. `reset` is not in the
table: it leads from every state to `reset`, and every member to `unallocated`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

RESET = "reset"
OUT_OF_STREAM = "out_of_stream"
"""True in the answer to a first phase: transitions do not come to this member any more, its Configure has failed. There is no second phase for it."""
LEVELS = ("drp", "teb", "meb", "timing")


class State(StrEnum):
    """Where a partition stands."""

    RESET = "reset"
    UNALLOCATED = "unallocated"
    ALLOCATED = "allocated"
    CONNECTED = "connected"
    CONFIGURED = "configured"
    STARTING = "starting"
    PAUSED = "paused"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Step:
    """One transition: where it leads, the seconds its first phase may take, what undoes it (empty: it leads back itself), and the service of
    what timing inserts for it (empty: nothing).
    """

    after: State
    limit_s: float
    undone_by: str = ""
    service: str = ""


STEPS = {
    "rollcall": Step(State.UNALLOCATED, 30.0),
    "alloc": Step(State.ALLOCATED, 5.0, "dealloc"),
    "dealloc": Step(State.UNALLOCATED, 30.0),
    "connect": Step(State.CONNECTED, 20.0, "disconnect"),
    "disconnect": Step(State.ALLOCATED, 30.0),
    "configure": Step(State.CONFIGURED, 60.0, "unconfigure", service="Configure"),
    "unconfigure": Step(State.CONNECTED, 6.0, service="Unconfigure"),
    "beginrun": Step(State.STARTING, 6.0, "endrun", service="BeginRun"),
    "endrun": Step(State.CONFIGURED, 6.0, service="EndRun"),
    "beginstep": Step(State.PAUSED, 30.0, "endstep", service="BeginStep"),
    "endstep": Step(State.STARTING, 6.0, service="EndStep"),
    "enable": Step(State.RUNNING, 6.0, "disable", service="Enable"),
    "disable": Step(State.PAUSED, 6.0, service="Disable"),
}

TABLE: dict[tuple[State, str], State] = {
    (State.RESET, "rollcall"): State.UNALLOCATED,
    (State.UNALLOCATED, "rollcall"): State.UNALLOCATED,
    (State.UNALLOCATED, "alloc"): State.ALLOCATED,
    (State.ALLOCATED, "connect"): State.CONNECTED,
    (State.CONNECTED, "configure"): State.CONFIGURED,
    (State.CONFIGURED, "beginrun"): State.STARTING,
    (State.STARTING, "beginstep"): State.PAUSED,
    (State.PAUSED, "enable"): State.RUNNING,
    (State.RUNNING, "disable"): State.PAUSED,
    (State.PAUSED, "endstep"): State.STARTING,
    (State.STARTING, "endrun"): State.CONFIGURED,
    (State.CONFIGURED, "unconfigure"): State.CONNECTED,
    (State.CONNECTED, "disconnect"): State.ALLOCATED,
    (State.ALLOCATED, "dealloc"): State.UNALLOCATED,
}
IN_RUN = (State.STARTING, State.PAUSED, State.RUNNING)


def path(state: State, goal: State) -> tuple[str, ...]:
    """Return the shortest row of transitions from one state to another; a reset comes first only where no other way leads there."""
    if goal is State.RESET:
        return (RESET,)
    rows: deque[tuple[State, tuple[str, ...]]] = deque([(state, ())])
    seen = {state}
    while rows:
        at, row = rows.popleft()
        if at is goal:
            return row
        for (origin, key), after in TABLE.items():
            if origin is at and after not in seen:
                seen.add(after)
                rows.append((after, (*row, key)))
    raise AssertionError(f"no way from {state} to {goal}")
