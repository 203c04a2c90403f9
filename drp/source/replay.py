"""Replay: recorded xtc2 files as a source, in the order recorded, or looped for load.

It deals the dgrams of a `Recording` as they are, damage included, from the mapped files. Looped, everything
up to the first Enable is dealt once, and then the L1Accepts and SlowUpdates up to the last Disable before
another Configure, for ever: the transitions between are left out, time stamps and pulse ids go up by the
span of a lap.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drp.core.errors import OrderError, SourceError
from drp.source._deck import Deck
from drp.source.base import END, Slots, Source, SourceOptions
from drp.source.pace import Pace
from drp.source.recording import Recording
from drp.source.stock import Stock
from xtc import TransitionId

log = logging.getLogger(__name__)

ENOUGH_BYTES = 4 << 20
"""A fill ends once it has copied this much, so that large events are handed on one by one."""

SLOW_STOCK = 1000
"""SlowUpdates of a recording that are dealt in turn where it follows triggers."""

_BILLION = 1_000_000_000
_EVENTS = (TransitionId.L1Accept, TransitionId.SlowUpdate)
_U64 = npt.NDArray[np.uint64]
_Index = npt.NDArray[np.intp]


class Replay:
    """The dgrams of `paths`, one after the other, chunks followed; `options.loop` repeats the events.

    SourceError: a file is missing, is no xtc2, or has no Configure; or there is nothing to loop.
    """

    def __init__(self, paths: Sequence[str | Path], options: SourceOptions | None = None) -> None:
        self._options = options = options or SourceOptions()
        self._recording = recording = Recording(paths)
        is_event = recording.services == TransitionId.L1Accept
        self.events = int(is_event.sum())
        self.max_event_bytes = int(recording.sizes[is_event].max(initial=24))
        self.max_transition_bytes = int(recording.sizes[~is_event].max(initial=24))
        self._pace = Pace(options.rate_hz, options.clock_ns)
        self._deck = _looped(recording) if options.loop else _deck(recording, np.arange(len(recording)))
        self.warnings = recording.warnings(not_rising=False)  # drp sees to that as it takes them
        self.truncated, self.faults = recording.truncated, recording.faults
        for text in self.warnings:
            log.warning("%s", text)
        for text in self.faults:
            log.error("%s", text)

    def stock(self, first_event: int = 0) -> Stock:
        """Return what a source that follows triggers deals: the L1Accepts from number `first_event` on, for ever. SourceError: there is none."""
        recording = self._recording
        events = np.flatnonzero(recording.services == TransitionId.L1Accept)[first_event:]
        if not len(events):
            raise SourceError(
                f"there is no L1Accept number {first_event}, there are {self.events}",
                source=str(recording.paths[0]),
                hint="Give a smaller l1aOffset",
            )
        deck = _deck(recording, events)
        deck.turn()
        slow = np.flatnonzero(recording.services == TransitionId.SlowUpdate)[:SLOW_STOCK]
        return Stock(
            deck, recording.dgram(0), tuple(recording.dgram(int(one)) for one in slow), self.max_event_bytes
        )

    def fill(self, slots: Slots) -> int:
        """Put what is due and has a slot; END after the last dgram."""
        try:
            return self._fill(slots)
        except OrderError as error:
            # Whoever keeps the order does not see the SlowUpdates among the events; the place in the files is known here.
            error.position = self._deck.position
            raise

    def _fill(self, slots: Slots) -> int:
        deck = self._deck
        if deck.done:
            return END
        put = 0
        if not deck.next_is_event:
            put = deck.deal(slots, 0, ENOUGH_BYTES)
        if deck.next_is_event and slots.events_free > 0:
            before = deck.events
            put += deck.deal(slots, self._pace.due(), ENOUGH_BYTES)
            self._pace.went(deck.events - before)
        return put

    def wait_s(self) -> float:
        """Return the seconds until the next dgram is due; transitions are due at once."""
        return self._pace.wait_s() if self._deck.next_is_event else 0.0

    def close(self) -> None:
        """Let go of the files."""
        self._recording.close()

    def describe(self) -> str:
        """Return one line: the files, how many events, whether looped."""
        paths = self._recording.paths
        files = paths[0].name if len(paths) == 1 else f"{len(paths)} files from {paths[0].name}"
        parts = [f"replay of {files}: {self.events} events"]
        if self._options.loop:
            parts.append("looped")
        if self._options.rate_hz is not None:
            parts.append(f"{self._options.rate_hz:g}/s")
        if self._recording.tails:
            parts.append("cut off at the end")
        return ", ".join(parts)


def open_source(rest: str, options: SourceOptions) -> Source:
    """Open `xtc2:FILE`."""
    if not rest:
        raise SourceError("xtc2 needs a file: xtc2:FILE")
    return Replay([rest], options)


def _deck(recording: Recording, order: _Index) -> Deck:
    return Deck(
        recording.maps,
        np.ascontiguousarray(recording.which[order]),
        np.ascontiguousarray(recording.offsets[order]),
        np.ascontiguousarray(recording.sizes[order]),
        np.ascontiguousarray(recording.pulse_ids[order]),
    )


def _looped(recording: Recording) -> Deck:
    head, body = _loop_parts(recording.services)
    if not (recording.services[body] == TransitionId.L1Accept).any():
        raise SourceError(
            "nothing to loop: there is no L1Accept after the first Enable", source=str(recording.paths[0])
        )
    order = np.concatenate((head, body))
    stamps = recording.timestamps[order]
    times = (stamps >> np.uint64(32)) * np.uint64(_BILLION) + (stamps & np.uint64(0xFFFFFFFF))
    pulses = recording.pulse_ids[order]
    lap = slice(len(head), len(order))
    spun = spin(times[lap])
    times[lap] = spun.values
    known = np.flatnonzero(pulses[lap]) + len(head)
    spun_pulses = spin(pulses[known])
    pulses[known] = spun_pulses.values
    deck = _deck(recording, order)
    deck.loop(len(head), len(order), times, pulses, spun.lap, spun_pulses.lap)
    return deck


def _loop_parts(services: npt.NDArray[np.uint8]) -> tuple[_Index, _Index]:
    """Return which dgrams are dealt once, before, and which again and again."""
    index = np.arange(len(services))
    enables = np.flatnonzero(services == TransitionId.Enable)
    first_event = np.flatnonzero(services == TransitionId.L1Accept)
    start = (
        int(enables[0]) + 1 if len(enables) else int(first_event[0]) if len(first_event) else len(services)
    )
    configures = np.flatnonzero(services[start:] == TransitionId.Configure)
    stop = start + int(configures[0]) if len(configures) else len(services)
    disables = np.flatnonzero(services[start:stop] == TransitionId.Disable)
    if len(disables):
        stop = start + int(disables[-1])
    inside = index[start:stop]
    return index[:start], inside[np.isin(services[start:stop], _EVENTS)]


@dataclass(frozen=True, slots=True)
class Spun:
    """Stamps made to rise strictly (uint64), and by how much the next lap must be later."""

    values: _U64
    lap: int


def spin(stamps: _U64) -> Spun:
    """Make `stamps` rise strictly by moving as few as possible up; a lap is their span and one mean gap."""
    if not len(stamps):
        return Spun(stamps, 0)
    steps = np.arange(len(stamps), dtype=np.int64)
    values = (np.maximum.accumulate(stamps.astype(np.int64) - steps) + steps).astype(np.uint64)
    span = int(values[-1]) - int(values[0])
    return Spun(values, span + max(1, span // max(1, len(stamps) - 1)))
