"""A supervisor with an engine that obeys at once, and a clock that the test turns."""

from __future__ import annotations

from drp.core import instructions as do
from drp.core.failures import Failure, ScriptReport
from drp.core.instructions import Instruction
from drp.core.policy import Policy
from drp.core.supervision import Supervisor
from drp.core.worker_states import Entry, Watch
from xtc import TransitionId as T

L1 = T.L1Accept
RAISED = ScriptReport(
    "ValueError", "no", 'Traceback:\n  File "/x/myroi.py", line 7, in <module>\nValueError: no'
)


class Engine:
    """Stand in for the engine: do what is told at once, and let the test say what happens to workers."""

    def __init__(self, **policy: object) -> None:
        self.policy = Policy(**{"workers": 1, "spares": 0, "script": "myroi.py", **policy})  # type: ignore[arg-type]
        self.supervisor = Supervisor(self.policy)
        self.now = 100.0
        self.said: list[Instruction] = []
        self.alive: dict[int, int | None] = {}
        self.counts: dict[int, list[int]] = {}
        self.auto_ready = True
        self.take(self.supervisor.start(self.now))

    def take(self, instructions: list[Instruction]) -> list[Instruction]:
        self.said += instructions
        for one in instructions:
            if isinstance(one, do.Fork):
                assert one.incarnation not in self.counts
                self.alive[one.incarnation] = one.worker
                self.counts[one.incarnation] = [0, 0, 0, 0]
                self.take(self.supervisor.on_forked(one.incarnation, self.now))
                if self.auto_ready:
                    self.take(self.supervisor.on_ready(one.incarnation, self.now))
            elif isinstance(one, do.UseSpare):
                assert self.alive[one.incarnation] is None
                self.alive[one.incarnation] = one.worker
        return instructions

    def at(self, worker: int | None = 0) -> int:
        return next(incarnation for incarnation, post in self.alive.items() if post == worker)

    def ready(self, incarnation: int) -> list[Instruction]:
        return self.take(self.supervisor.on_ready(incarnation, self.now))

    def queue(self, incarnation: int, *, take: bool = True) -> None:
        """Queue one entry, which the worker takes."""
        self.counts[incarnation][0] += 1
        self.counts[incarnation][1] += take

    def answer(self, incarnation: int) -> None:
        """Answer the entry in hand as an event done well."""
        self.counts[incarnation][2] += 1
        self.counts[incarnation][3] += 1

    def look(self, service: T = L1, *, waiting: bool = False, size: int | None = None) -> list[Watch]:
        return [
            Watch(i, queued, taken, answered, service, waiting, events, size)
            for i, (queued, taken, answered, events) in self.counts.items()
            if i in self.alive
        ]

    def run(
        self, seconds: float, service: T = L1, *, waiting: bool = False, step: float = 0.02
    ) -> list[Instruction]:
        """Turn the clock by `seconds`, ticking; return what was said meanwhile."""
        told: list[Instruction] = []
        for _ in range(round(seconds / step)):
            self.now += step
            told += self.take(self.supervisor.tick(self.look(service, waiting=waiting), self.now))
        return told

    def exit(self, incarnation: int, status: int | None = 0, entry: Entry | None = None) -> list[Instruction]:
        self.alive.pop(incarnation)
        events = self.counts[incarnation][3]
        return self.take(self.supervisor.on_exit(incarnation, status, entry, events, self.now))

    def raise_at(self, incarnation: int, service: T = L1, *, replay: bool = False) -> list[Instruction]:
        """Let the script raise at an entry, and its process exit."""
        entry = Entry(1, service, replay)
        told = self.take(self.supervisor.on_failed(incarnation, Failure.RAISED, RAISED, entry, self.now))
        return told + self.exit(incarnation)


def only(kind: type, told: list[Instruction]) -> list:  # type: ignore[type-arg]
    return [one for one in told if isinstance(one, kind)]


def logs(told: list[Instruction], level: str = "error") -> list[str]:
    return [one.text for one in only(do.Log, told) if one.level == level]
