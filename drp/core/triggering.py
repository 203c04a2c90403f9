"""Which pulses fire: rates, readout groups, event codes, keepRaw, and dead time. It knows no socket and no clock; the time comes in.

Pulses lie on a grid of whole ticks of real time, the same grid after a restart. While a run is enabled, each pulse
is due for those readout groups whose turn it is, and fires for those of them that are free. The event holds exactly
the groups that fired; where none did there is no event.

**Credit and dead time.** Each drp says how many events may be sent to it in all. While one has none left it is busy,
and pulses that are due for its readout group are inhibited: they are no events, and are counted for the group and for
the drps that were busy. Transitions need no credit, so they get through at 100 % dead time. A SlowUpdate waits until
nobody is busy: transitions that nobody could hold would be in the way of a Disable.

**Groups are inhibited each on its own**, as in LCLS. A slow detector that is busy would otherwise cost the shots of all
others, and one that failed would stop the partition. An event that only other groups than the common one could take has
no contributor that the trigger knows, and bypasses it. Who wants no such events writes `/N`, every Nth event of the
common group, in place of a rate: such a group never fires alone, and is in exactly every Nth event.

Flat out (`rate_hz` None) there is no schedule: as many pulses as all have credit for, so nothing is inhibited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core import beam, wire
from drp.core.errors import ConfigError
from drp.core.transitions import RunState, Sequencer
from xtc import TransitionId

ARREARS_S = 0.2
MOST_AT_ONCE = 16384
SLOW_HZ = (0.0, 1.0, 5.0, 10.0)
MAX_CREDIT = 1 << 62
_BEAM_PRESENT = 0x80
_SECOND_NS = 1_000_000_000
_WHOLE = 0.02
_EVERY = re.compile(r"/(\d{1,9})(?:\+(\d{1,9}))?")

Bools = npt.NDArray[np.bool_]
Triggers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Cadence:
    """Every `every`-th, from `offset` on: of pulses, or of events (`of_events`)."""

    every: int = 1
    offset: int = 0
    of_events: bool = False

    @classmethod
    def parse(cls, text: str, rate_hz: float | None, option: str, *, of_events: bool = False) -> Cadence:
        """Read `HZ`, a whole fraction of the rate, or `/N[+OFFSET]`. ConfigError: it is neither."""
        if text.startswith("/"):
            found = _EVERY.fullmatch(text)
            if found is None or int(found[1]) < 1:
                raise ConfigError("it is /N or /N+OFFSET", option=option, value=text)
            return cls(int(found[1]), int(found[2] or 0), of_events)
        try:
            hz = float(text)
        except ValueError:
            raise ConfigError(
                "it is neither a rate in Hz nor /N, every Nth", option=option, value=text
            ) from None
        if rate_hz is None:
            raise ConfigError(
                "flat out there is no rate", option=option, value=text, hint="Give /N, every Nth"
            )
        if not 0 < hz <= rate_hz * (1 + _WHOLE):
            raise ConfigError(f"it is no rate up to the {rate_hz:g} Hz of --rate", option=option, value=text)
        every_n = max(1, round(rate_hz / hz))
        if abs(rate_hz / hz / every_n - 1) > _WHOLE:
            near = ", ".join(f"{rate_hz / n:g}" for n in (int(rate_hz / hz), int(rate_hz / hz) + 1))
            raise ConfigError(
                f"it is no whole fraction of {rate_hz:g} Hz",
                option=option,
                value=text,
                hint=f"Near are {near}",
            )
        return cls(every_n)

    def hits(self, numbers: npt.NDArray[np.int64]) -> Bools:
        """Return which of the numbers it is the turn of."""
        return np.asarray(numbers % self.every == self.offset % self.every)


@dataclass(frozen=True, slots=True)
class TriggerPlan:
    """What fires when. ConfigError: it cannot be."""

    common: int = 0
    """The common readout group, which is the platform."""
    rate_hz: float | None = 1000.0
    """Pulses per second; None: flat out."""
    groups: Mapping[int, Cadence] = field(default_factory=dict)
    """When each readout group is due; one that is not named at every pulse."""
    codes: Mapping[int, Cadence] = field(default_factory=dict)
    """Event codes, by pulse: the accelerator knows no dead time."""
    keep_raw: Mapping[int, Cadence] = field(default_factory=dict)
    """For which pulses, or events of a group, that group asks to keep raw data."""
    slow_hz: float = 1.0
    destination: int = 0
    without_beam: Cadence | None = None

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 1e-3 <= self.rate_hz <= beam.TICK_HZ / beam.MIN_TICKS:
            raise ConfigError("pulses come at 0.001 to 464285 Hz", option="--rate", value=self.rate_hz)
        if self.slow_hz not in SLOW_HZ:
            raise ConfigError("SlowUpdates come at 0, 1, 5 or 10 Hz", option="-S", value=self.slow_hz)
        for option, numbers, most in (
            ("--group", (self.common, *self.groups), wire.MAX_GROUPS),
            ("--keep-raw", (*self.keep_raw,), wire.MAX_GROUPS),
            ("--event-code", (*self.codes,), wire.N_EVENT_CODES),
            ("--destination", (self.destination,), 1 << 7),
        ):
            for number in numbers:
                if not 0 <= number < most:
                    raise ConfigError(f"it is 0 to {most - 1}", option=option, value=number)
        if self.common in self.groups and self.groups[self.common].of_events:
            raise ConfigError(
                "the common group cannot follow itself", option="--group", hint="Give its rate in Hz"
            )


@dataclass(slots=True)
class Member:
    """What is known of one drp."""

    group: int
    granted: int = 0
    sent: int = 0
    inhibited: int = 0
    """Pulses that did not fire for its group while it was busy."""
    dead_ns: int = 0
    """Time that it was busy while the run was enabled."""
    busy_since: int | None = None

    @property
    def free(self) -> int:
        """Events that may be sent to it."""
        return self.granted - self.sent


@dataclass(slots=True)
class GroupCounts:
    """What became of the pulses that were due for a readout group."""

    due: int = 0
    fired: int = 0
    inhibited: int = 0


class Triggering:
    """Fire pulses and insert transitions, for `members` {drp id: readout group}. Times are ns since 1990, and do not go back.

    `after_pulse`: every pulse id given is later than that one.
    """

    def __init__(self, plan: TriggerPlan, members: Mapping[int, int], after_pulse: int = 0) -> None:
        self.plan = plan
        self.members = {drp: Member(group) for drp, group in members.items()}
        self.last_pulse = after_pulse
        self.groups: dict[int, GroupCounts] = {group: GroupCounts() for group in sorted({*members.values()})}
        self.events = 0
        self.skipped = 0
        """Pulses that came while timing itself did not run; nobody was inhibited."""
        self.enabled_ns = 0
        self._order = Sequencer("timing")
        self._ticks = beam.Beam.at(plan.rate_hz).ticks if plan.rate_hz else beam.MIN_TICKS
        self._most = min(MOST_AT_ONCE, max(1, int((plan.rate_hz or MOST_AT_ONCE / ARREARS_S) * ARREARS_S)))
        self._number = 0  # of the last pulse: its place on the grid, or flat out a count
        self._enabled_at = 0
        self._left: int | None = None
        self._slow_at: int | None = None

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self._order.state

    @property
    def running(self) -> bool:
        """Whether the run is enabled."""
        return self._order.running

    def grant(self, drp: int, total: int, now_ns: int) -> None:
        """Take it that a drp may get `total` events since it joined; one that is not known, or fewer than before, changes nothing."""
        member = self.members.get(drp)
        if member is None or not member.granted < total < MAX_CREDIT:
            return
        member.granted = total
        self._judge(member, now_ns)

    def joined(self, drp: int, now_ns: int) -> None:
        """Begin to count anew what is sent to a drp, which has no credit yet. A drp that only lost its connection is busy from here on."""
        member = self.members[drp]
        member.granted = member.sent = 0
        self._judge(member, now_ns)

    def gone(self, drp: int) -> None:
        """Take a drp out: it inhibits nobody any more, and its group fires where it has others."""
        self.members.pop(drp, None)

    def insert(self, service: TransitionId, now_ns: int) -> Triggers:
        """Return the record of a transition, at the next pulse id that is free. OrderError: it is not legal in this state."""
        pulse = self._free_pulse(now_ns)
        self._order.accept(service, beam.timestamp(pulse))
        self._number = max(self._number, pulse // self._ticks) if self.plan.rate_hz else self._number
        self.last_pulse = pulse
        if service == TransitionId.BeginRun:
            self._begin_run()
        elif service in (TransitionId.Enable, TransitionId.Disable):
            self._enable(now_ns, on=service == TransitionId.Enable)
        record = np.zeros(1, wire.TRIGGER)
        record["pulse_id"], record["timestamp"] = pulse, beam.timestamp(pulse)
        record["env"] = service << 24 | self._live_groups()
        return record

    def limit(self, events: int | None) -> None:
        """Fire at most so many events from here on; None: no limit."""
        self._left = events

    @property
    def done(self) -> bool:
        """Whether all events of the limit have been fired."""
        return self._left == 0

    def slow_update(self, now_ns: int) -> Triggers | None:
        """Return a SlowUpdate where one is due and nobody is busy. To be asked before `fire`."""
        if self._slow_at is None or now_ns < self._slow_at or not self.running:
            return None
        if any(member.free <= 0 for member in self.members.values()):
            return None
        period = int(_SECOND_NS / self.plan.slow_hz)
        self._slow_at += ((now_ns - self._slow_at) // period + 1) * period
        return self.insert(TransitionId.SlowUpdate, now_ns)

    def fire(self, now_ns: int, blocked: bool = False) -> Triggers:
        """Return the events of all pulses up to `now_ns`, wire.TRIGGER without `number`. `blocked`: all are inhibited, by no drp."""
        scheduled = self.plan.rate_hz is not None
        if not self.running or self._left == 0 or (blocked and not scheduled):
            return np.zeros(0, wire.TRIGGER)
        pulses, numbers = self._due(now_ns) if scheduled else self._as_many(now_ns)
        if self._left is not None:
            pulses, numbers = pulses[: self._left], numbers[: self._left]
        if not len(pulses):
            return np.zeros(0, wire.TRIGGER)
        self._number = int(numbers[-1])
        env = self._env(numbers, now_ns, blocked)
        fired = np.flatnonzero(env)
        out = np.zeros(len(fired), wire.TRIGGER)
        if not len(fired):
            return out
        pulses, numbers = pulses[fired], numbers[fired]
        out["pulse_id"] = pulses
        out["timestamp"] = beam.timestamps(pulses)
        out["env"] = env[fired] | TransitionId.L1Accept << 24
        self._accelerator(out, numbers)
        self.last_pulse = int(pulses[-1])
        self.events += len(out)
        if self._left is not None:
            self._left -= len(out)
        self._order.accept_events(len(out), int(out["timestamp"][-1]))
        return out

    def next_ns(self) -> int | None:
        """Return when the next pulse is due, None where none is: not enabled, the limit reached, or flat out, where it is credit that counts."""
        if not self.running or self._left == 0 or self.plan.rate_hz is None:
            return None
        return beam.time_ns((self._number + 1) * self._ticks)

    def settle(self, now_ns: int) -> None:
        """Bring dead times up to now."""
        for member in self.members.values():
            self._judge(member, now_ns)
        if self.running:
            self.enabled_ns += now_ns - self._enabled_at
            self._enabled_at = now_ns

    # Where pulses lie.

    def _free_pulse(self, now_ns: int) -> int:
        """A transition comes before the first pulse of the schedule that has not been looked at."""
        pulse = beam.pulse_at(now_ns)
        if self.running and self.plan.rate_hz is not None:
            pulse = min(pulse, (self._number + 1) * self._ticks - 1)
        return max(pulse, self.last_pulse + 1)

    def _due(self, now_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        first, last = self._number + 1, beam.pulse_at(now_ns) // self._ticks
        if (late := last + 1 - self._most - first) > 0:
            self.skipped += late
            first += late
        numbers = np.arange(first, last + 1, dtype=np.int64)
        return numbers * self._ticks, numbers

    def _as_many(self, now_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        pulse = beam.pulse_at(now_ns)
        count = min(self._most, self._free(self.plan.common), (pulse - self.last_pulse) // self._ticks)
        numbers = np.arange(self._number + 1, self._number + 1 + max(count, 0), dtype=np.int64)
        for group in self.groups:
            if group != self.plan.common and self._has_members(group):
                over = np.cumsum(self._hits(group, numbers)) > self._free(group)
                numbers = numbers[: int(over.argmax())] if over.any() else numbers
        return pulse - (len(numbers) - 1 - np.arange(len(numbers), dtype=np.int64)) * self._ticks, numbers

    def _hits(self, group: int, numbers: npt.NDArray[np.int64]) -> Bools:
        """Whose turn it would be if nothing were inhibited, as it is flat out."""
        cadence = self.plan.groups.get(group, Cadence())
        first = self._fired(self.plan.common) if cadence.of_events else int(numbers[0]) if len(numbers) else 0
        return cadence.hits(first + np.arange(len(numbers), dtype=np.int64))

    # Who fires.

    def _env(self, numbers: npt.NDArray[np.int64], now_ns: int, blocked: bool) -> npt.NDArray[np.uint32]:
        common = self.plan.common
        before = self._fired(common)
        taken = self._take(common, self.plan.groups.get(common, Cadence()).hits(numbers), now_ns, blocked)
        env = self._marked(common, taken, numbers)
        ordinals = before + np.cumsum(taken) - 1
        for group in self.groups:
            if group == common:
                continue
            cadence = self.plan.groups.get(group, Cadence())
            due = taken & cadence.hits(ordinals) if cadence.of_events else cadence.hits(numbers)
            env |= self._marked(group, self._take(group, due, now_ns, blocked), numbers)
        return env

    def _take(self, group: int, due: Bools, now_ns: int, blocked: bool) -> Bools:
        """Return which of the pulses that are due for a group fire, and count them."""
        counts = self.groups.get(group)
        if counts is None or not self._has_members(group):
            return np.zeros_like(due)
        free = 0 if blocked else self._free(group)
        many = int(due.sum())
        taken = due if many <= free else due & (np.cumsum(due) <= free)
        fired = min(many, free)
        counts.due += many
        counts.fired += fired
        counts.inhibited += many - fired
        for member in self._members(group):
            member.sent += fired
            if member.free <= 0:
                member.inhibited += many - fired
                self._judge(member, now_ns)
        return taken

    def _marked(self, group: int, taken: Bools, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        env = taken.astype(np.uint32) << np.uint32(group)
        cadence = self.plan.keep_raw.get(group)
        if cadence is not None:
            which = (
                self._fired(group) - int(taken.sum()) + np.cumsum(taken) - 1 if cadence.of_events else numbers
            )
            env[taken & cadence.hits(which)] |= wire.KEEP_RAW
        return env

    def _accelerator(self, out: Triggers, numbers: npt.NDArray[np.int64]) -> None:
        """Fill in event codes and the beam's destination."""
        for code, cadence in self.plan.codes.items():
            out["event_codes"][cadence.hits(numbers), code >> 5] |= np.uint32(1 << (code & 31))
        out["beam"] = self.plan.destination | _BEAM_PRESENT
        if self.plan.without_beam is not None:
            out["beam"][self.plan.without_beam.hits(numbers)] = self.plan.destination

    # Members.

    def _members(self, group: int) -> list[Member]:
        return [member for member in self.members.values() if member.group == group]

    def _has_members(self, group: int) -> bool:
        return any(member.group == group for member in self.members.values())

    def _free(self, group: int) -> int:
        return max(0, min((member.free for member in self._members(group)), default=0))

    def _fired(self, group: int) -> int:
        counts = self.groups.get(group)
        return 0 if counts is None else counts.fired

    def _live_groups(self) -> int:
        env = 1 << self.plan.common
        for member in self.members.values():
            env |= 1 << member.group
        return env

    def _judge(self, member: Member, now_ns: int) -> None:
        """See whether a member is busy, and count the time that it was."""
        if member.busy_since is not None:
            member.dead_ns += now_ns - member.busy_since
        member.busy_since = now_ns if self.running and member.free <= 0 else None

    # States.

    def _begin_run(self) -> None:
        self.groups = {group: GroupCounts() for group in self.groups}
        self.events = self.skipped = self.enabled_ns = 0
        for member in self.members.values():
            member.inhibited = member.dead_ns = 0

    def _enable(self, now_ns: int, *, on: bool) -> None:
        if on:
            self._enabled_at = now_ns
            self._slow_at = now_ns + int(_SECOND_NS / self.plan.slow_hz) if self.plan.slow_hz else None
        else:
            self.enabled_ns += now_ns - self._enabled_at
        for member in self.members.values():
            self._judge(member, now_ns)
