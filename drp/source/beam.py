"""The pulse ids and times of simulated events. It knows arithmetic only; `_deck` does the same per event.

A pulse id counts ticks of 14/13 us (LCLS-II's 928.6 kHz). Events are a whole number of ticks apart, at
least two, so that a SlowUpdate finds room between.
"""

from __future__ import annotations

from dataclasses import dataclass

TICK_HZ = 13e6 / 14
NOMINAL_HZ = 1000.0
ORIGIN_S = 1_140_000_000
"""Seconds since 1990 of the first dgram; fixed, so that the same options give the same bytes."""
ORIGIN_NS = ORIGIN_S * 1_000_000_000
ORIGIN_PULSE = ORIGIN_NS * 13 // 14000
TRANSITION_TICKS = 929


def time_ns(pulse_id: int) -> int:
    """Return when a pulse was, in ns since 1990."""
    return ORIGIN_NS + (pulse_id - ORIGIN_PULSE) * 14000 // 13


def timestamp(pulse_id: int) -> int:
    """Return when a pulse was, as a dgram says it: seconds << 32 | nanoseconds."""
    seconds, ns = divmod(time_ns(pulse_id), 1_000_000_000)
    return seconds << 32 | ns


@dataclass(frozen=True, slots=True)
class Beam:
    """Events `ticks` apart."""

    ticks: int

    @classmethod
    def at(cls, rate_hz: float | None) -> Beam:
        """Return the beam of `rate_hz` events per second, of 1 kHz where it is None; faster than 464 kHz is
        written as that.
        """
        return cls(max(2, round(TICK_HZ / (rate_hz or NOMINAL_HZ))))
