"""The event builder in plain Python: lists that are searched and sorted each time. Slow, and as docs/event_building.md tells it."""

from __future__ import annotations

from dataclasses import dataclass, field

DROPPED, OUT_OF_ORDER, OUT_OF_SYNCH = 16, 2, 4
LATE, UNASKED = 1, 2
PERSIST = 2
SLOW_UPDATE = 10
SAME_BITS = 0x0F40FFFF
PENDING, READY, TAKEN, JUDGED = "pending", "ready", "taken", "judged"

Verdict = tuple[int, int, int, int, int]  # seq, pulse_id, result, damage, flags


@dataclass
class Said:
    """One contribution."""

    seq: int
    pulse_id: int
    timestamp: int
    env: int
    damage: int = 0
    failed: bool = False
    transition: bool = False


@dataclass(eq=False)
class Event:
    pulse_id: int
    transition: bool
    timestamp: int
    env: int
    due: int
    born: int
    opener: int
    contract: set[int]
    state: str = PENDING
    present: dict[int, tuple[Said, int, int]] = field(default_factory=dict)  # what, own damage, era
    missing: set[int] = field(default_factory=set)
    late: list[tuple[int, Said, int, int]] = field(default_factory=list)
    damage: int = 0
    result: int = 0
    number: int = 0
    owed: bool = False

    @property
    def key(self) -> tuple[int, bool]:
        return self.pulse_id, not self.transition


@dataclass
class Contributor:
    group: int
    last: int | None = None
    gone: bool = False
    astray_from: int | None = None
    active: int = 0
    era: int = 0
    in_use: int = 0
    out: list[Verdict] = field(default_factory=list)


class PlainBuilder:
    def __init__(
        self,
        contributors: dict[int, int],
        timeout: int,
        transition_timeout: int,
        window: int,
        max_events: int,
    ) -> None:
        self.who = {number: Contributor(group) for number, group in contributors.items()}
        self.timeout, self.transition_timeout = timeout, transition_timeout
        self.window, self.max_events = window, max_events
        self.pending: list[Event] = []
        self.ready: list[Event] = []
        self.taken: list[Event] = []
        self.owed: list[Event] = []
        self.done: list[Event] = []
        self.opened = self.events = self.forgotten = self.undelivered = self.expired = 0
        self.built_last: tuple[int, bool] | None = None
        self.fates = dict.fromkeys(("joined", "late", "repeated", "unasked"), 0)

    def add(self, number: int, said: list[Said], now: int) -> int:
        self.hasty = False
        taken = 0
        for one in said:
            if not self.take_in(number, one, now):
                break
            taken += 1
        if self.hasty:
            self.expire(now)
        self.build()
        return taken

    def all(self) -> list[Event]:
        return [*self.pending, *self.ready, *self.taken, *self.owed, *self.done]

    def awaits(self, event: Event, number: int) -> bool:
        who = self.who[number]
        return not who.gone and (who.last is None or who.last < event.pulse_id)

    def awaits_any(self, event: Event, of: set[int]) -> bool:
        return any(self.awaits(event, one) for one in of)

    def take_in(self, number: int, said: Said, now: int) -> bool:
        who = self.who[number]
        if not said.transition and who.in_use + len(who.out) >= self.window:
            return False
        own = OUT_OF_ORDER if who.last is not None and said.pulse_id <= who.last else 0
        if who.astray_from is not None and said.pulse_id < who.astray_from:
            who.astray_from = None
        event = next(
            (e for e in self.all() if (e.pulse_id, e.transition) == (said.pulse_id, said.transition)), None
        )
        if event is None and not who.gone:
            event = self.open(number, said, now)
            if event is None:
                return False
        if event is None:
            self.fates["unasked"] += 1
            if not said.transition:
                who.out.append((said.seq, said.pulse_id, PERSIST, own, UNASKED))
        elif event.state == PENDING and number not in event.present and not who.gone:
            self.join(number, event, said, own)
        else:
            if who.gone:
                self.fates["unasked"] += 1
            elif number in event.present:
                self.fates["repeated"] += 1
                own = OUT_OF_ORDER
            else:
                self.fates["late"] += 1
            if not said.transition:
                if event.state == JUDGED:
                    who.out.append((said.seq, said.pulse_id, event.result, event.damage | own, LATE))
                else:
                    event.late.insert(0, (number, said, own, who.era))
                    who.in_use += 1
        who.last = said.pulse_id
        return True

    def join(self, number: int, event: Event, said: Said, own: int) -> None:
        who = self.who[number]
        if said.timestamp != event.timestamp or (said.env ^ event.env) & SAME_BITS:
            event.damage |= OUT_OF_SYNCH
        event.contract |= self.contract(said) | {number}
        event.present[number] = (said, own, who.era)
        who.in_use += not said.transition
        who.active = max(who.active, event.born)
        if event.opener != number:
            who.astray_from = None
        self.fates["joined"] += 1

    def contract(self, said: Said) -> set[int]:
        return {one for one, who in self.who.items() if said.transition or said.env >> who.group & 1}

    def open(self, number: int, said: Said, now: int) -> Event | None:
        if len(self.all()) >= self.max_events and not self.forget():
            return None
        who = self.who[number]
        self.opened += 1
        slow = said.env >> 24 & 0xF == SLOW_UPDATE
        wait = self.transition_timeout if said.transition and not slow else self.timeout
        event = Event(
            said.pulse_id,
            said.transition,
            said.timestamp,
            said.env,
            now + wait,
            self.opened,
            number,
            self.contract(said),
        )
        others = (self.who[one] for one in event.contract - {number} if not self.who[one].gone)
        if who.astray_from is not None:
            if any(one.last is not None and one.last >= who.astray_from for one in others):
                who.astray_from = None
            else:
                event.due, self.hasty = now, True
        self.pending.append(event)
        self.pending.sort(key=lambda one: one.key)
        return event

    def forget(self) -> bool:
        if self.owed and (not self.done or not self.awaits_any(self.owed[0], self.owed[0].missing)):
            self.forgotten += self.awaits_any(self.owed[0], self.owed[0].missing)
            self.owed.pop(0)
            return True
        if self.done:
            self.done.pop(0)
            return True
        return False

    def build(self) -> None:
        while self.pending and not self.awaits_any(
            self.pending[0], self.pending[0].contract - set(self.pending[0].present)
        ):
            self.make_ready(self.pending[0])

    def expire(self, now: int) -> None:
        for event in list(self.pending):
            if event.due <= now:
                self.suspect(event)
                self.expired += 1
                self.make_ready(event)
        self.build()

    def suspect(self, event: Event) -> None:
        if set(event.present) != {event.opener}:
            return
        others = event.contract - {event.opener}
        if any(self.awaits(event, one) and self.who[one].active > event.born for one in others):
            self.who[event.opener].astray_from = event.pulse_id

    def make_ready(self, event: Event) -> None:
        self.pending.remove(event)
        self.ready.append(event)
        event.state = READY
        event.missing = {one for one in event.contract - set(event.present) if not self.who[one].gone}
        if event.missing:
            event.damage |= DROPPED
        if self.built_last is not None and event.key <= self.built_last:
            event.damage |= OUT_OF_ORDER
        self.built_last = event.key
        if not event.transition:
            self.events += 1
            event.number = self.events

    def take(self, limit: int) -> list[Event]:
        out: list[Event] = []
        if self.ready and self.ready[0].transition:
            out = [self.ready.pop(0)]
            self.remember(out[0])
            return out
        while self.ready and len(out) < limit and not self.ready[0].transition:
            event = self.ready.pop(0)
            event.state = TAKEN
            out.append(event)
        self.taken += out
        return out

    def judge(self, result: int) -> None:
        event = self.taken.pop(0)
        event.result = result
        for number in self.who:
            if number in event.present:
                said, own, era = event.present[number]
                self.settle(number, event, said, own, era, 0)
        for number, said, own, era in event.late:
            self.settle(number, event, said, own, era, LATE)
        self.remember(event)

    def settle(self, number: int, event: Event, said: Said, own: int, era: int, flags: int) -> None:
        who = self.who[number]
        who.in_use -= 1
        if era == who.era:
            who.out.append((said.seq, event.pulse_id, event.result, event.damage | own, flags))
        else:
            self.undelivered += 1

    def remember(self, event: Event) -> None:
        event.state = JUDGED
        (self.owed if self.awaits_any(event, event.missing) else self.done).append(event)

    def gone(self, number: int) -> None:
        self.who[number].gone = True
        self.build()

    def back(self, number: int) -> None:
        who = self.who[number]
        who.gone, who.astray_from = False, None
        who.era += 1
        self.undelivered += len(who.out)
        who.out = []

    def collect(self, number: int) -> list[Verdict]:
        out, self.who[number].out = self.who[number].out, []
        return out
