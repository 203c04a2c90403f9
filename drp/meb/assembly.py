"""Events of several contributors put together: what waits for whom, and what is given up. It knows no socket and no clock.

Every contributor's dgrams come in its own order, by rising pulse id. What stands first of each is compared: the lowest pulse id is next, and is
made of all that bear it. One from whom it is missing either has something later already, and then will not send it (it had no credit: the event
is *split*, and nobody gets it), or has nothing, and is waited for: an event until its time-out, when it goes out damaged; a transition longer.
Who is not connected is not waited for. So memory is bounded by the credit of each, and nothing that comes can stop it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from drp.core.wire import GROUPS_MASK
from xtc import DgramHeader, TransitionId

EVENT_TIMEOUT_NS = 1_000_000_000
TRANSITION_TIMEOUT_NS = 5_000_000_000
MAX_TRANSITIONS = 256


@dataclass(frozen=True, slots=True)
class Contributor:
    """Who contributes: `id` 0 to 63, and the number of its readout group."""

    id: int
    alias: str
    group: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one contributor sent: a dgram (BeginRun: its Configure before it), and what holds its memory."""

    key: int
    header: DgramHeader
    pulse_id: int
    result: int
    dgrams: memoryview
    came_ns: int
    again: bool = False

    @property
    def service(self) -> TransitionId:
        """What it is."""
        return self.header.service


@dataclass(frozen=True, slots=True)
class Built:
    """What belongs together. `parts` by contributor; `missing` should have been there."""

    parts: dict[int, Part]
    missing: tuple[int, ...]

    @property
    def first(self) -> Part:
        """The part of the lowest contributor."""
        return self.parts[min(self.parts)]


@dataclass(slots=True)
class _Queue:
    who: Contributor
    connected: bool = False
    parts: deque[Part] = field(default_factory=deque)
    transitions: int = 0


class Assembly:
    """Builds what `contributors` send. `counts`: events built, split, timed_out, transitions, incomplete transitions, refused."""

    def __init__(
        self,
        contributors: Iterable[Contributor] = (),
        *,
        event_timeout_ns: int = EVENT_TIMEOUT_NS,
        transition_timeout_ns: int = TRANSITION_TIMEOUT_NS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.last_key = 0
        self._event_timeout_ns = event_timeout_ns
        self._transition_timeout_ns = transition_timeout_ns
        self._queues = {one.id: _Queue(one) for one in contributors}

    def connect(self, who: Contributor) -> None:
        """Begin with a contributor, or begin anew: what it sent before is forgotten."""
        queue = self._queues.setdefault(who.id, _Queue(who))
        queue.who, queue.connected = who, True
        self._forget(queue)

    def leave(self, contributor: int) -> None:
        """A contributor is not there: it is not waited for, and what it sent stays."""
        if contributor in self._queues:
            self._queues[contributor].connected = False

    def remove(self, contributor: int) -> None:
        """A contributor is out of it."""
        queue = self._queues.pop(contributor, None)
        if queue is not None:
            self._forget(queue)

    def put(self, contributor: int, part: Part) -> bool:
        """Take what a contributor sent; False where there is no such contributor, or too much of it."""
        queue = self._queues.get(contributor)
        is_event = part.service == TransitionId.L1Accept
        if queue is None or (not is_event and queue.transitions >= MAX_TRANSITIONS):
            self.counts["refused"] += 1
            return False
        if queue.parts and part.key < queue.parts[-1].key and not part.again:
            self.counts["out_of_order"] += 1
        queue.parts.append(part)
        queue.transitions += not is_event
        return True

    def take(self, now_ns: int) -> Built | None:
        """Return what is built next; None where nothing can be yet. Split events are passed over."""
        while True:
            heads = {one: queue.parts[0] for one, queue in self._queues.items() if queue.parts}
            if not heads:
                return None
            first = min(heads.values(), key=lambda part: (part.key, part.service))
            parts = {
                one: part
                for one, part in heads.items()
                if (part.key, part.service) == (first.key, first.service)
            }
            missing = self._contract(first) - parts.keys()
            waiting = [one for one in missing if one not in heads]
            came_ns = min(part.came_ns for part in parts.values())
            is_event = first.service == TransitionId.L1Accept
            limit_ns = self._event_timeout_ns if is_event else self._transition_timeout_ns
            if waiting and now_ns - came_ns < limit_ns:
                return None
            for one in parts:
                queue = self._queues[one]
                queue.parts.popleft()
                queue.transitions -= not is_event
            self.last_key = max(self.last_key, first.key)
            if not is_event:
                self.counts["transitions"] += 1
                self.counts["incomplete"] += bool(missing)
            elif missing and not waiting:
                self.counts["split"] += 1
                continue
            else:
                self.counts["events"] += 1
                self.counts["timed_out"] += bool(missing)
            return Built(parts, tuple(sorted(missing)))

    def waits_until_ns(self) -> int | None:
        """Return when `take` is to be called again though nothing has come; None where nothing waits."""
        heads = [queue.parts[0] for queue in self._queues.values() if queue.parts]
        if not heads:
            return None
        first = min(heads, key=lambda part: (part.key, part.service))
        is_event = first.service == TransitionId.L1Accept
        return first.came_ns + (self._event_timeout_ns if is_event else self._transition_timeout_ns)

    def held(self, contributor: int) -> int:
        """Return how many events of a contributor wait here."""
        queue = self._queues.get(contributor)
        return 0 if queue is None else len(queue.parts) - queue.transitions

    def _contract(self, part: Part) -> set[int]:
        groups = int(part.header.env) & GROUPS_MASK
        return {
            one
            for one, queue in self._queues.items()
            if queue.connected and (part.service != TransitionId.L1Accept or groups >> queue.who.group & 1)
        }

    @staticmethod
    def _forget(queue: _Queue) -> None:
        queue.parts.clear()
        queue.transitions = 0


def part_of(
    pulse_id: int, result: int, dgrams: memoryview, header: DgramHeader, *, came_ns: int, again: bool
) -> Part:
    """Return a Part; its key is the pulse id, or the time stamp where there is none."""
    return Part(pulse_id or header.timestamp, header, pulse_id, result, dgrams, came_ns, again)
