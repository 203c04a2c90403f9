"""When events are due: a rate on an injected clock. It knows nothing of dgrams.

Event k is due k / rate after the first. Who was held up catches up, but only by `ARREARS_S` worth of
events: beyond that the schedule slips, so that a stall of minutes is not followed by a burst of minutes.
"""

from __future__ import annotations

from collections.abc import Callable

UNLIMITED = 1 << 62
ARREARS_S = 0.2
_SECOND_NS = 1_000_000_000
_ROUNDING = 1e-6


class Pace:
    """Says how many events may go now (`due`) and how long until the next may (`wait_s`). `rate_hz` None:
    always any number.
    """

    def __init__(self, rate_hz: float | None, clock_ns: Callable[[], int]) -> None:
        self._rate = rate_hz
        self._clock = clock_ns
        self._start_ns: float | None = None
        self._gone = 0
        self._most = 0 if rate_hz is None else max(1, int(rate_hz * ARREARS_S))

    def due(self) -> int:
        """Return how many events may go now. The first call starts the schedule, with one event due."""
        if self._rate is None:
            return UNLIMITED
        now = self._clock()
        if self._start_ns is None:
            self._start_ns = now
        due = int((now - self._start_ns) * self._rate / _SECOND_NS + _ROUNDING) + 1 - self._gone
        if due > self._most:
            self._start_ns += (due - self._most) * _SECOND_NS / self._rate
            due = self._most
        return max(due, 0)

    def went(self, events: int) -> None:
        """Count `events` as gone."""
        self._gone += events

    def wait_s(self) -> float:
        """Return the seconds until an event is due, 0 where one is."""
        if self._rate is None or self._start_ns is None:
            return 0.0
        next_ns = self._start_ns + self._gone * _SECOND_NS / self._rate
        return max(0.0, (next_ns - self._clock()) / _SECOND_NS)
