"""The pulse ids and times of events. It knows arithmetic only; `drp.source._deck` does the same per event.

A pulse id counts ticks of 14/13 us (LCLS-II's 928.6 kHz) since 1990. Events are a whole number of ticks apart, at
least two, so that a SlowUpdate finds room between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TICK_HZ = 13e6 / 14
NOMINAL_HZ = 1000.0
ORIGIN_S = 1_140_000_000
"""Seconds since 1990 of the first simulated dgram; fixed, so that the same options give the same bytes."""
ORIGIN_NS = ORIGIN_S * 1_000_000_000
ORIGIN_PULSE = ORIGIN_NS * 13 // 14000
TRANSITION_TICKS = 929
EPOCH_UNIX_S = 631_152_000
"""1990-01-01, from which dgrams count, in Unix time."""
MIN_TICKS = 2

_BILLION = 1_000_000_000
_U64 = npt.NDArray[np.uint64]


def time_ns(pulse_id: int) -> int:
    """Return when a pulse was, in ns since 1990."""
    return ORIGIN_NS + (pulse_id - ORIGIN_PULSE) * 14000 // 13


def timestamp(pulse_id: int) -> int:
    """Return when a pulse was, as a dgram says it: seconds << 32 | nanoseconds."""
    seconds, ns = divmod(time_ns(pulse_id), _BILLION)
    return seconds << 32 | ns


def timestamps(pulse_ids: npt.NDArray[np.int64]) -> _U64:
    """Return `timestamp` of many pulses, of 1990 to 2040."""
    times = ORIGIN_NS + (pulse_ids - ORIGIN_PULSE) * 14000 // 13
    return (times // _BILLION << 32 | times % _BILLION).astype(np.uint64)


def pulse_at(now_ns: int) -> int:
    """Return the last pulse that was not after `now_ns`, in ns since 1990."""
    return ORIGIN_PULSE + ((now_ns - ORIGIN_NS + 1) * 13 - 1) // 14000


@dataclass(frozen=True, slots=True)
class Beam:
    """Events `ticks` apart."""

    ticks: int

    @classmethod
    def at(cls, rate_hz: float | None) -> Beam:
        """Return the beam of `rate_hz` events per second, of 1 kHz where it is None; faster than 464 kHz is
        written as that.
        """
        return cls(max(MIN_TICKS, round(TICK_HZ / (rate_hz or NOMINAL_HZ))))
