"""The life of one worker process as a table, and the clock that runs while it works.

A process stands for one incarnation: it is forked once, gets the environment (Configure, BeginRun), works
at a post or stands by as a spare, and ends once. What happens to it is looked up in `TABLE`; what is not
there changes nothing, since news of a process may cross with its end. That it was forked, which the nursery
says, may come after its first answers, which come over its rings. The picture in docs/worker_states.md is
drawn from the table.

The clock of an entry is judged from samples: while entries are queued and the worker's counters stay the
same, the time between two samples counts, except while the worker waits for drp. So it runs late by a
sample at most, never early.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drp.core.diagram import mermaid as draw
from drp.core.failures import Failure
from xtc import TransitionId


class State(StrEnum):
    """Where a worker process stands."""

    FORKING = "forking"
    STARTING = "starting"
    SPARE = "spare"
    WORKING = "working"
    RETIRING = "retiring"
    ASKED = "asked"
    ENDING = "ending"
    KILLED = "killed"
    GONE = "gone"


class News(StrEnum):
    """What happens to a worker process."""

    FORKED = "forked"
    READY = "ready"
    READY_AS_SPARE = "ready as spare"
    ADOPTED = "adopted"
    TOO_LARGE = "too large"
    LATE = "late"
    FAILED = "says it failed"
    TOLD_TO_STOP = "told to stop"
    NONSENSE = "nonsense"
    GRACE_OVER = "grace over"
    EXITED = "exited"


_AT_WORK = (State.STARTING, State.SPARE, State.WORKING, State.RETIRING)
TABLE: dict[tuple[State, News], State] = {
    (State.FORKING, News.FORKED): State.STARTING,
    **{(state, News.READY): State.WORKING for state in (State.FORKING, State.STARTING)},
    **{(state, News.READY_AS_SPARE): State.SPARE for state in (State.FORKING, State.STARTING)},
    (State.SPARE, News.ADOPTED): State.WORKING,
    (State.SPARE, News.TOO_LARGE): State.RETIRING,
    (State.WORKING, News.TOO_LARGE): State.RETIRING,
    **{(state, News.LATE): State.ASKED for state in _AT_WORK},
    (State.ASKED, News.GRACE_OVER): State.KILLED,
    **{(state, News.FAILED): State.ENDING for state in (State.FORKING, *_AT_WORK, State.ASKED)},
    **{(state, News.TOLD_TO_STOP): State.ENDING for state in (*_AT_WORK, State.FORKING)},
    (State.ENDING, News.GRACE_OVER): State.KILLED,
    **{
        (state, News.NONSENSE): State.KILLED
        for state in (State.FORKING, *_AT_WORK, State.ASKED, State.ENDING)
    },
    **{(state, News.EXITED): State.GONE for state in State if state is not State.GONE},
}


def mermaid() -> str:
    """Return the state diagram of `TABLE` in Mermaid's language."""
    return draw(((state, news, after) for (state, news), after in TABLE.items()), State.FORKING)


@dataclass(frozen=True, slots=True)
class Watch:
    """One look at a living worker process, by the counters of its rings.

    `queued`, `taken` and `answered` count entries since its segment was made; `service` is that of the
    entry in hand, or of the next one queued; `waiting` says that it cannot go on before drp does something
    (frees its arena); `events` counts the L1Accepts it answered without failing; `resident_bytes` is None
    where nobody looked.
    """

    incarnation: int
    queued: int
    taken: int
    answered: int
    service: TransitionId
    waiting: bool = False
    events: int = 0
    resident_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry that a worker held when it failed: its number in the ring (`taken` counted it), service,
    and if it was a replay.
    """

    number: int
    service: TransitionId
    replay: bool = False


@dataclass(slots=True)
class Process:
    """What is known of one worker process. `worker` is its post, None for a spare; times are the
    supervisor's, in seconds.
    """

    incarnation: int
    worker: int | None
    since_s: float
    state: State = State.FORKING
    reason: Failure | None = None
    story: str = ""
    late_entry: int | None = None
    events: int = 0
    spent_s: float = 0.0
    looked_s: float = 0.0
    mark: tuple[int, int] = (0, 0)

    def step(self, news: News, now: float) -> bool:
        """Apply `news`, and say whether it changed the state."""
        after = TABLE.get((self.state, news))
        if after is None:
            return False
        self.state, self.since_s = after, now
        return True

    def charge(self, watch: Watch, now: float) -> None:
        """Let the clock of the entry in hand run up to `now`, by what `watch` shows."""
        mark = (watch.taken, watch.answered)
        if mark != self.mark or watch.queued == watch.answered:
            self.mark, self.spent_s = mark, 0.0
        elif not watch.waiting:
            self.spent_s += now - self.looked_s
        self.looked_s = now
