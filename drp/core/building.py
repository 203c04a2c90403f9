"""What the event builder gives and counts: records, flags and names. The builder is `drp.core._builder`, its theory docs/event_building.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

DEFAULT_WINDOW = 4096
MAX_EVENTS = 1 << 19
MAX_STRIDE = 1 << 16
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_TRANSITION_TIMEOUT_S = 75.0


class Answer(IntFlag):
    """What `flags` of a wire.VERDICT says; the verdict holds whatever they are."""

    late = 1
    """The event was built without this contribution."""
    unasked = 2
    """There is no such event for this contribution, since its contributor was taken out: it persists."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events built one after the other. `events` (n,) batch.EVENT; `rows[i]` (n, stride) uint8: what contributor i said, zeros where nothing."""

    events: npt.NDArray[Any]
    rows: tuple[npt.NDArray[np.uint8], ...]


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition, or a SlowUpdate, in its place between events. `missing`: contributors (by id) from whom it did not come in time."""

    service: int
    pulse_id: int
    timestamp: int
    env: int
    present: tuple[int, ...]
    missing: tuple[int, ...]


COUNTERS = (
    "events",  # built
    "incomplete",  # of them, with a contribution missing
    "expired",  # of them, for which the time-out was waited out
    "not_rising",  # of them, built after an event with a later pulse id
    "transitions",
    "incomplete_transitions",
    "contributions",
    "joined",  # contributions that are part of a built event, or will be
    "late",  # came when the event was built
    "repeated",  # came again
    "unasked",  # of contributors that were taken out
    "out_of_order",  # not later than what the same contributor said before
    "out_of_synch",  # differ from the event's first one in what must be equal
    "forgotten",  # events of which somebody may still come too late to be given the verdict made
    "blocked",  # calls of add that found no room
    "undelivered",  # verdicts for contributors that have begun anew since
)
"""The names of EventBuilder.counts(), in the order in which it counts them."""
