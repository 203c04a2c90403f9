"""The simulator as a source: a run with known truth, its events made beforehand and dealt in turn.

The run: Configure, BeginRun, then steps of BeginStep, Enable, events and SlowUpdates, Disable, EndStep; the
last step has no end, whoever takes the events says when it is enough. SlowUpdate number i comes before
event number i * K, K being the event rate by the SlowUpdate rate, so it is known which was in force.
Everything follows from the options: same options, same bytes, pulse ids and times included.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from drp.core import beam
from drp.core.errors import SourceError
from drp.source._deck import Deck
from drp.source.base import Slots, Source, SourceOptions
from drp.source.cameras import CAMERAS
from drp.source.content import NODE, RunContent, content_of
from drp.source.pace import Pace
from drp.source.simoptions import SimOptions, parse
from drp.source.stock import Stock
from drp.source.timetool import TimeToolTruth
from drp.source.truth import SimTruth
from drp.source.waveforms import WaveformTruth
from xtc import TransitionId, encode_dgram

ENOUGH_BYTES = 4 << 20
"""A fill ends once it has copied this much, so that large events are handed on one by one."""

DARK_STEP = 1 << 32
"""What the numbers of a dark run's frames begin at, times the step from 1: their noise is no other run's."""

SLOW_STOCK = 100
"""Distinct SlowUpdates of a simulator that follows triggers."""

_READOUT_GROUPS = 0x1
_L0_ACCEPT = 1 << 16
_STEP_EVENTS = 100
_NEVER = 1 << 62


class Simulator:
    """Simulated events without end. Making them, at construction, is all the work; `truth` says what is in
    them.

    SourceError: the options cannot be met.
    """

    def __init__(self, options: SimOptions, caller: SourceOptions | None = None) -> None:
        caller = caller or SourceOptions()
        options = _with_rate(options, caller)
        self.options = options = replace(options, steps=len(ranges_of(options)) or options.steps)
        self._content = content_of(options)
        experiment = f"{caller.instrument}sim0001"
        self._run = RunContent(experiment, options.run, len(self._content.names))
        if options.constants and isinstance(self.truth, SimTruth):
            from drp.source.simconstants import put_truth  # noqa: PLC0415 - the store is heavy, and few ask for it

            put_truth(self.truth, options.constants, experiment)
        self._ranges = ranges_of(options)
        wanted = caller.events
        if wanted is not None and self._ranges:
            wanted = _events_of_step(options, wanted)
        self.frames = options.frames if wanted is None else max(1, min(options.frames, wanted))
        held = range(len(self._ranges)) if self._ranges else (None,)
        events = [self._event(frame, forced) for forced in held for frame in range(self.frames)]
        self.max_event_bytes = max(len(event) for event in events)
        self._deck = _deck(events)
        self._pace = Pace(options.rate_hz, caller.clock_ns)
        self._beam = beam.Beam.at(options.rate_hz)
        self._pulse = beam.ORIGIN_PULSE
        self._first_pulse = self._pulse
        self._slow_every = slow_every(options)
        self._next_slow = 0 if self._slow_every else _NEVER
        self._step_events = _events_of_step(options, caller.events)
        self._step = 0
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._later(TransitionId.Configure, self._configure(), 0)
        self._later(TransitionId.BeginRun, self._run.begin_run())
        self._begin_step()
        sizes = [len(dgram) for dgram, _ in self._waiting]
        self.max_transition_bytes = max(*sizes, len(self._slow_update(1, 0)))

    @property
    def truth(self) -> SimTruth | WaveformTruth | TimeToolTruth:
        """What is really in the frames; event n is frame n % `frames`. Of a dark run event n of step k,
        both from 0, is frame (k + 1) * DARK_STEP + n % `frames`, held in gain range k.
        """
        return self._content.truth

    def fill(self, slots: Slots) -> int:
        """Put what is due and has a slot. It never ends."""
        put = 0
        copied = 0
        while True:
            while self._waiting:
                if not slots.put(*self._waiting[0]):
                    return put
                self._waiting.popleft()
                put += 1
            if slots.events_free == 0 or copied >= ENOUGH_BYTES:
                return put
            due = self._pace.due()
            if due == 0:
                return put
            if self._prepare():
                continue
            dealt = self._deal(slots, due, ENOUGH_BYTES - copied)
            put += dealt
            copied += dealt * self.max_event_bytes
            if dealt == 0 or self._deck.events not in (self._next_slow, self._next_step):
                return put

    def wait_s(self) -> float:
        """Return the seconds until the next event is due; transitions are due at once."""
        return 0.0 if self._waiting else self._pace.wait_s()

    def close(self) -> None:
        """Nothing is held."""

    def describe(self) -> str:
        """Return one line: the detector, the size of its events, the rate."""
        truth = self.truth
        shape = "x".join(map(str, truth.shape)) if isinstance(truth, SimTruth) else f"{truth.samples} samples"
        rate = "" if self.options.rate_hz is None else f", {self.options.rate_hz:g}/s"
        events = f"{self.frames} distinct events of {self.max_event_bytes} bytes, seed {self.options.seed}"
        dark = f" in the dark, gain ranges {', '.join(self._ranges)}" if self._ranges else ""
        return f"simulated {self.options.kind} ({shape}){dark}, {events}{rate}"

    def stock(self) -> Stock:
        """Return what a source that follows triggers deals: the same frames in turn, of a dark run those of its first gain range."""
        slow = tuple(self._slow_update(counter, 0) for counter in range(SLOW_STOCK))
        self._deck.turn(0, self.frames)
        configure = encode_dgram(TransitionId.Configure, 0, self._configure(), env=_READOUT_GROUPS, src=NODE)
        return Stock(self._deck, configure, slow, self.max_event_bytes)

    @property
    def _next_step(self) -> int:
        last = self._step + 1 >= self.options.steps
        return _NEVER if last else (self._step + 1) * self._step_events

    def _deal(self, slots: Slots, due: int, enough_bytes: int) -> int:
        until = min(self._next_slow, self._next_step) - self._deck.events
        dealt = self._deck.deal(slots, min(due, until), enough_bytes)
        self._pace.went(dealt)
        return dealt

    def _prepare(self) -> bool:
        """Queue the transitions that come before the next event, if any."""
        event = self._deck.events
        if event == self._next_step:
            self._pulse = self._first_pulse + (event - 1) * self._beam.ticks
            self._later(TransitionId.Disable)
            self._later(TransitionId.EndStep)
            self._step += 1
            self._begin_step()
        elif event == self._next_slow:
            counter = event // self._slow_every
            pulse = self._first_pulse + event * self._beam.ticks - self._beam.ticks // 2
            self._waiting.append((self._slow_update(counter, beam.timestamp(pulse)), pulse))
            self._next_slow += self._slow_every
        return bool(self._waiting)

    def _begin_step(self) -> None:
        name = self._ranges[self._step] if self._ranges else ""
        many = self.options.steps > 1 or self._ranges
        scan = self._run.begin_step(self._step, self.options.steps, name) if many else []
        self._later(TransitionId.BeginStep, scan)
        self._later(TransitionId.Enable)
        ticks, event = self._beam.ticks, self._deck.events
        self._first_pulse = self._pulse + ticks - event * ticks
        first, stop = (self._step * self.frames, (self._step + 1) * self.frames) if self._ranges else (0, -1)
        self._deck.tick(self._first_pulse, ticks, beam.ORIGIN_PULSE, beam.ORIGIN_NS, first, stop)

    def _later(
        self, service: TransitionId, parts: list[bytes] | None = None, ticks: int = beam.TRANSITION_TICKS
    ) -> None:
        self._pulse += ticks
        stamp = beam.timestamp(self._pulse)
        dgram = encode_dgram(service, stamp, parts or [], env=_READOUT_GROUPS, src=NODE)
        self._waiting.append((dgram, self._pulse))

    def _configure(self) -> list[bytes]:
        names = [*self._content.names, *self._run.names]
        return [*(one.encode() for one in names), *self._content.configure(), *self._run.configure()]

    def _event(self, frame: int, forced: int | None) -> bytes:
        number = frame if forced is None else frame + DARK_STEP * (forced + 1)
        parts = self._content.event(number, forced)
        return encode_dgram(TransitionId.L1Accept, 0, parts, env=_READOUT_GROUPS | _L0_ACCEPT, src=NODE)

    def _slow_update(self, counter: int, timestamp: int) -> bytes:
        parts = self._run.slow_update(counter)
        return encode_dgram(TransitionId.SlowUpdate, timestamp, parts, env=_READOUT_GROUPS, src=NODE)


def open_source(rest: str, options: SourceOptions) -> Source:
    """Open `sim[:TYPE[:SIZE]][,key=value...]`."""
    return Simulator(parse(rest), options)


def ranges_of(options: SimOptions) -> tuple[str, ...]:
    """Return the names of the gain ranges of a dark run, a step for each; none where it is no dark run."""
    return tuple(one.name for one in CAMERAS[options.kind].ranges) if options.dark else ()


def slow_every(options: SimOptions) -> int:
    """Return how many events there are from one SlowUpdate to the next; 0: there is none."""
    if not options.slow_hz:
        return 0
    return max(1, round((options.rate_hz or beam.NOMINAL_HZ) / options.slow_hz))


def _with_rate(options: SimOptions, caller: SourceOptions) -> SimOptions:
    if caller.rate_hz is None:
        return options
    if options.rate_hz not in (None, caller.rate_hz):
        raise SourceError(
            f"the rate is given twice, as {options.rate_hz:g} and {caller.rate_hz:g}",
            source="sim",
            hint="Give one",
        )
    return replace(options, rate_hz=caller.rate_hz)


def _events_of_step(options: SimOptions, events: int | None) -> int:
    if options.step_events is not None:
        return options.step_events
    return _STEP_EVENTS if events is None else max(1, -(-events // options.steps))


def _deck(events: list[bytes]) -> Deck:
    count = len(events)
    return Deck(
        events,
        np.arange(count, dtype=np.uint64),
        np.zeros(count, np.uint64),
        np.array([len(event) for event in events], np.uint64),
        np.zeros(count, np.uint64),
    )
