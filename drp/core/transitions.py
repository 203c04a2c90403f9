"""The states of a run, and what has to be put between two dgrams to get from one to the other.

    unconfigured -Configure-> configured -BeginRun-> starting -BeginStep-> paused -Enable-> running
                 <-Unconfigure-          <-EndRun-            <-EndStep-           <-Disable-

The states have the names that LCLS's control gives them. `TABLE` holds every legal step; the picture in
docs/run_states.md is drawn from it. Events are legal while running; a SlowUpdate once the run began;
BeginStep and Enable may come again, because in real files they do. Whatever else a source gives is made
legal by the shortest path through the table to a state where it is: files end without EndRun, have no
BeginStep, or begin a second run at once. Nothing can stand in for Configure, since only the source knows
what is in it.

A `Sequencer` follows one stream. It knows neither dgrams nor slots: services and time stamps go in and come
out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from drp.core.diagram import mermaid as draw
from drp.core.errors import OrderError
from xtc import TransitionId

NS_PER_S = 1_000_000_000
_MAX_TIMESTAMP = (1 << 64) - 1
_RECENT = 8


class RunState(StrEnum):
    """Where a run stands, by the last transition that was accepted."""

    UNCONFIGURED = "unconfigured"
    CONFIGURED = "configured"
    STARTING = "starting"
    PAUSED = "paused"
    RUNNING = "running"


TABLE: dict[tuple[RunState, TransitionId], RunState] = {
    (RunState.UNCONFIGURED, TransitionId.Configure): RunState.CONFIGURED,
    (RunState.CONFIGURED, TransitionId.BeginRun): RunState.STARTING,
    (RunState.STARTING, TransitionId.BeginStep): RunState.PAUSED,
    (RunState.PAUSED, TransitionId.Enable): RunState.RUNNING,
    (RunState.RUNNING, TransitionId.L1Accept): RunState.RUNNING,
    (RunState.RUNNING, TransitionId.Enable): RunState.RUNNING,
    (RunState.PAUSED, TransitionId.BeginStep): RunState.PAUSED,
    (RunState.STARTING, TransitionId.SlowUpdate): RunState.STARTING,
    (RunState.PAUSED, TransitionId.SlowUpdate): RunState.PAUSED,
    (RunState.RUNNING, TransitionId.SlowUpdate): RunState.RUNNING,
    (RunState.RUNNING, TransitionId.Disable): RunState.PAUSED,
    (RunState.PAUSED, TransitionId.EndStep): RunState.STARTING,
    (RunState.STARTING, TransitionId.EndRun): RunState.CONFIGURED,
    (RunState.CONFIGURED, TransitionId.Unconfigure): RunState.UNCONFIGURED,
}

_SYNTHESISED = frozenset(
    service
    for _, service in TABLE
    if service not in (TransitionId.Configure, TransitionId.L1Accept, TransitionId.SlowUpdate)
)
_ACCEPTED_SOMEWHERE = frozenset(service for _, service in TABLE)


@dataclass(frozen=True, slots=True)
class Synthesised:
    """A transition that the source did not give: an empty dgram of `service` at `timestamp` (seconds << 32
    | ns).
    """

    service: TransitionId
    timestamp: int


def add_ns(timestamp: int, ns: int) -> int:
    """Return `timestamp` (seconds << 32 | nanoseconds) moved by `ns` >= 0, carried into the seconds; ends
    at the largest u64.
    """
    seconds, fraction = timestamp >> 32, timestamp & 0xFFFFFFFF
    carry, fraction = divmod(fraction + ns, NS_PER_S)
    return min((seconds + carry) << 32 | fraction, _MAX_TIMESTAMP)


def path(state: RunState, service: TransitionId) -> tuple[TransitionId, ...] | None:
    """Return the shortest row of transitions after which `service` is legal, or None where there is none."""
    return _search(state, lambda at: (at, service) in TABLE)


def path_to(state: RunState, goal: RunState) -> tuple[TransitionId, ...] | None:
    """Return the shortest row of transitions from `state` to `goal`, or None where there is none."""
    return _search(state, lambda at: at is goal)


def _search(state: RunState, found: Callable[[RunState], bool]) -> tuple[TransitionId, ...] | None:
    rows: deque[tuple[RunState, tuple[TransitionId, ...]]] = deque([(state, ())])
    seen = {state}
    while rows:
        at, row = rows.popleft()
        if found(at):
            return row
        for (origin, service), after in TABLE.items():
            if origin is at and service in _SYNTHESISED and after not in seen:
                seen.add(after)
                rows.append((after, (*row, service)))
    return None


class Sequencer:
    """Follow the order of one stream: what must come before the next dgram, and what ends the run.

    Ask `before`, `accept` what it names with `synthesised=True`, then `accept` the dgram itself. Events of
    a stream that is `running` may be accepted in batches with `accept_events`, so that the event path need
    not ask for each.
    """

    def __init__(self, source: str = "") -> None:
        self.source = source
        self.state = RunState.UNCONFIGURED
        self.synthesised: Counter[TransitionId] = Counter()
        self._index = 0
        self._events = 0
        self._position = 0
        self._timestamp: int | None = None
        self._recent: deque[str] = deque(maxlen=_RECENT)

    @property
    def running(self) -> bool:
        """True where an event is legal as it stands."""
        return self.state is RunState.RUNNING

    @property
    def index(self) -> int:
        """The index that the next event has: events since BeginRun, 0 the first."""
        return self._index

    @property
    def events(self) -> int:
        """Events accepted so far, over all runs."""
        return self._events

    @property
    def last_timestamp(self) -> int | None:
        """Time stamp of the last dgram accepted, None before the first."""
        return self._timestamp

    def before(self, service: int, timestamp: int) -> tuple[Synthesised, ...]:
        """Return the transitions to put before a dgram of `service` at `timestamp`; none where it is legal
        as it stands.

        Their times follow the last dgram by 1, 2, .. ns, and never lie after `timestamp`. Changes nothing:
        it may be asked again. Raises OrderError where nothing can make the dgram legal.
        """
        known = self._known(service)
        row = path(self.state, known)
        if row is None:
            raise self._no_configure(known)
        return self._timed(row, timestamp)

    def closing(self, timestamp: int | None = None) -> tuple[Synthesised, ...]:
        """Return the transitions that end the stream properly after its last dgram, none of them after
        `timestamp` where given.
        """
        return self._timed(path_to(self.state, RunState.UNCONFIGURED) or (), timestamp)

    def accept(self, service: int, timestamp: int, *, synthesised: bool = False) -> None:
        """Take a dgram into the stream. Raises OrderError, and changes nothing, where it is not legal in
        this state.
        """
        known = self._known(service)
        after = TABLE.get((self.state, known))
        if after is None:
            raise self._error(known, f"{known.name} is not legal while the run is {self.state}")
        if known is TransitionId.L1Accept:
            self.accept_events(1, timestamp)
            return
        if known is TransitionId.BeginRun:
            self._index = 0
        if synthesised:
            self.synthesised[known] += 1
        else:
            self._position += 1
        self.state = after
        self._follow(timestamp, known.name)

    def accept_events(self, count: int, last_timestamp: int) -> None:
        """Take `count` > 0 events in a row, the last of them at `last_timestamp`. Raises OrderError unless
        `running`.
        """
        if not self.running:
            raise self._error(TransitionId.L1Accept, f"L1Accept is not legal while the run is {self.state}")
        self._index += count
        self._events += count
        self._position += count
        self._follow(last_timestamp, TransitionId.L1Accept.name if count == 1 else f"{count} L1Accepts")

    def _follow(self, timestamp: int, name: str) -> None:
        self._timestamp = timestamp
        self._recent.append(name)

    def _timed(self, row: tuple[TransitionId, ...], limit: int | None) -> tuple[Synthesised, ...]:
        last = self._timestamp or 0
        most = _MAX_TIMESTAMP if limit is None else limit
        return tuple(
            Synthesised(service, min(add_ns(last, ns), most)) for ns, service in enumerate(row, start=1)
        )

    def _known(self, service: int) -> TransitionId:
        if service not in _ACCEPTED_SOMEWHERE:
            names = {int(known): known.name for known in TransitionId}
            name = names.get(service, f"service {service}")
            raise self._error(
                name, f"{name} has no place in a run", "The source gives a transition that drp does not know."
            )
        return TransitionId(service)

    def _no_configure(self, service: TransitionId) -> OrderError:
        return self._error(
            service,
            f"{service.name} came before any Configure",
            "A run begins with Configure, which says what is in the data. Is this a later chunk of a run? "
            "Then give its first chunk (-c000) before it.",
        )

    def _error(self, service: TransitionId | str, what: str, hint: str = "") -> OrderError:
        return OrderError(
            what,
            service=service if isinstance(service, str) else service.name,
            state=self.state,
            recent=tuple(self._recent),
            source=self.source,
            position=self._position,
            hint=hint,
        )


def mermaid() -> str:
    """Return the state diagram of `TABLE` in Mermaid's language."""
    return draw(
        ((state, service.name, after) for (state, service), after in TABLE.items()), RunState.UNCONFIGURED
    )
