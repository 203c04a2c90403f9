"""Faults made on purpose: a worker sends itself a signal at a named point between two stores to its rings, for the tests of drp.

`DRP_FAULT=POINT[@TRANSITION]:NTH[:SIGNAL]` in the environment of drp reaches every worker, and every worker counts for itself: the
signal (KILL unless another is named) comes when POINT is passed for the NTH time with a dgram of that kind (L1Accept unless another
is named) in hand. The points are in the order in which one event passes them.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from drp.script.errors import LinkError, near_misses
from xtc import TransitionId

VARIABLE = "DRP_FAULT"
# The numbers are those of _link.pyx.
POINTS = {
    "asleep": 1,  # sleep is announced, the doorbell not yet waited on; no dgram is in hand, so every pass counts
    "seen": 2,  # an entry has been seen in the ring
    "taken": 3,  # it is counted as taken
    "room": 4,  # room in the arena is given, nothing written there
    "waits_arena": 5,  # the worker has said that it waits for room in the arena
    "block_written": 6,  # the result is in the arena
    "entry_begun": 7,  # half of the answer is in its ring
    "entry_written": 8,  # all of it
    "published": 9,  # it is counted as given
    "rung": 10,  # drp has been woken
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Where, at what, when (from 1) and by which signal."""

    point: int
    service: int
    nth: int
    signal: int


def fault_from(environment: Mapping[str, str]) -> Fault | None:
    """Return the fault the environment asks for, None where it asks for none. Raises LinkError where it cannot be read."""
    text = environment.get(VARIABLE, "")
    if not text:
        return None
    place, _, rest = text.partition(":")
    nth, _, name = rest.partition(":")
    point, _, service = place.partition("@")
    if point not in POINTS:
        raise LinkError(
            f"{VARIABLE} names no point {point!r}", found=text, hint=f"There are {', '.join(POINTS)}."
        )
    services = TransitionId.__members__
    if service and service not in services:
        raise LinkError(
            f"{VARIABLE} names no transition {service!r}", found=text, hint=near_misses(service, services)
        )
    if not nth.isdecimal() or int(nth) == 0:
        raise LinkError(f"{VARIABLE} does not say which time", expected="POINT:NTH, from 1", found=text)
    number = getattr(signal, f"SIG{name or 'KILL'}", None)
    if not isinstance(number, signal.Signals):
        raise LinkError(f"{VARIABLE} names no signal {name!r}", expected="KILL, SEGV, STOP ...", found=text)
    return Fault(POINTS[point], services[service or "L1Accept"], int(nth), number)
