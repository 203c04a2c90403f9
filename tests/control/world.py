"""A world around a partition's state machine: members that are told what they are sent, and a clock that the test moves."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from drp.control.jobs import Done, Keep, Publish, Send, Settings
from drp.control.move import Limits
from drp.control.states import Partition
from drp.core.partition import RESET, STEPS, State
from drp.link.control import HEARTBEAT, Message

EXPERIMENT = "tst"


class Numbers:
    """Run numbers, in memory."""

    def __init__(self) -> None:
        self.last = 0

    def last_run(self, _experiment: str) -> int:
        return self.last

    def next_run(self, _experiment: str) -> int:
        self.last += 1
        return self.last


@dataclass
class Other:
    """A member as the world plays it: what it was sent and has not answered, and where it believes to stand."""

    uid: str
    level: str
    alias: str
    group: int = 0
    alive: bool = True
    hears: bool = True
    state: str = "unallocated"
    inbox: deque[Send] = field(default_factory=deque)
    due: deque[tuple[str, int]] = field(default_factory=deque)
    sent: list[Send] = field(default_factory=list)


class World:
    """Everything that a partition sees. `run` lets all members do what they are told until nothing is left to do."""

    def __init__(
        self,
        *names: str,
        limits: Limits | None = None,
        configs: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.now = 100.0
        self.beat_s = 0.0
        self.others: dict[str, Other] = {}
        self.done: dict[int, Done] = {}
        self.published: list[Publish] = []
        self.accounts: list[Keep] = []
        self.numbers = Numbers()
        self.pulse_id = 0
        self.events = 10
        self._ids = itertools.count(1)
        self._uids = itertools.count(1)
        self._jobs = itertools.count(1)
        made = Settings("tst-p0", "tst", experiment=EXPERIMENT, limits=limits or Limits(), **settings)
        self.partition = Partition(
            made,
            self.numbers,
            lambda: str(next(self._ids)),
            configs=lambda alias: (configs or {}).get(alias, {}),
        )
        for name in names or ("timing ts", "drp cam_0", "drp cam_1", "teb teb0"):
            self.join(name)

    def join(self, name: str, group: int = 0) -> Other:
        level, alias = name.split()
        uid = f"{level}/{alias}/{next(self._uids)}"
        other = self.others[uid] = Other(uid, level, alias, group)
        self.beat(other)
        return other

    def of(self, alias: str) -> Other:
        """The newest member of that alias."""
        return [one for one in self.others.values() if one.alias == alias][-1]

    def beat(self, other: Other, **more: Any) -> None:
        body = {
            "level": other.level,
            "alias": other.alias,
            "state": other.state,
            "det_info": {"readout": other.group},
            "proc_info": {"pid": 1, "host": "here", "alias": other.alias},
            "untaken_s": 0.0,
        } | more
        self.say(other, HEARTBEAT, body)

    def say(self, other: Other, key: str, body: dict[str, Any], msg_id: str = "") -> None:
        self.partition.message(other.uid, Message(key, msg_id, other.uid, body), self.now)
        self.collect()

    def collect(self) -> None:
        """Bring what the partition sends to whom it is for."""
        for one in self.partition.take():
            match one:
                case Send():
                    other = self.others[one.uid]
                    other.sent.append(one)
                    if other.alive and one.msg_id:
                        other.inbox.append(one)
                case Done():
                    assert one.job not in self.done, "a job is over once"
                    self.done[one.job] = one
                case Publish():
                    self.published.append(one)
                case Keep():
                    self.accounts.append(one)

    def answer(self, other: Other, body: dict[str, Any] | None = None, key: str = "") -> Send:
        """Have a member answer the oldest of what it was sent."""
        one = other.inbox.popleft()
        answer: dict[str, Any] = {"connect_info": {}} if one.key == "alloc" else {}
        if one.key == "insert":
            self.pulse_id += 1
            answer = {"pulse_id": self.pulse_id, "counts": {"groups": {"0": self.events}}}
        answer = answer if body is None else body
        if "err_info" not in answer and (key or one.key) == one.key:
            self._obey(other, one, answer)
        self.say(other, key or one.key, answer, one.msg_id)
        return one

    def _obey(self, other: Other, one: Send, answer: dict[str, Any]) -> None:
        if one.key == "insert" and isinstance(answer.get("pulse_id"), int):
            for reader in self.others.values():
                if reader.alive and reader.level != "timing":
                    reader.due.append((one.body["service"], answer["pulse_id"]))
        if one.key == RESET:
            other.state = "unallocated"
            other.due.clear()
        elif one.key in STEPS and one.key != "rollcall":
            other.state = STEPS[one.key].after

    def report(self, other: Other, **more: Any) -> None:
        """Have a member tell of the oldest transition that came through."""
        service, pulse_id = other.due.popleft()
        body: dict[str, Any] = {"service": service, "pulse_id": pulse_id, "error": None}
        if service == "EndRun" and other.level == "drp":
            body["ledger"] = {"recorded_verdict": self.events, "total": self.events}
        self.say(other, "timingTransition", body | more)

    def pass_time(self, seconds: float, *, beating: bool = True) -> None:
        """Let time pass, a tenth of a second at a time; who is alive and is heard beats twice a second."""
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            if beating and self.now >= self.beat_s:
                self.beat_s = self.now + 0.5
                for other in self.others.values():
                    if other.alive and other.hears:
                        self.beat(other)
            self.partition.tick(self.now)
            self.collect()

    def die(self, other: Other) -> None:
        other.alive = False
        other.inbox.clear()
        other.due.clear()
        self.partition.closed(other.uid, self.now)
        self.collect()

    def run(self, *but: str) -> None:
        """Have everybody, but these aliases, answer and report until there is nothing more."""
        busy = True
        while busy:
            busy = False
            for other in tuple(self.others.values()):
                while other.inbox and other.alias not in but:
                    self.answer(other)
                    busy = True
                while other.due and other.alias not in but:
                    self.report(other)
                    busy = True

    def ask_state(self, goal: str, phase1: dict[str, Any] | None = None) -> int:
        job = next(self._jobs)
        self.partition.request_state(job, State(goal), phase1 or {}, self.now)
        self.collect()
        return job

    def ask(self, key: str, phase1: dict[str, Any] | None = None) -> int:
        job = next(self._jobs)
        self.partition.request_transition(job, key, phase1 or {}, self.now)
        self.collect()
        return job

    def go(self, goal: str, phase1: dict[str, Any] | None = None) -> list[str]:
        """Go to a state with members that do as they are told; return what failed."""
        job = self.ask_state(goal, phase1)
        self.run()
        return self.failures(job)

    def failures(self, job: int) -> list[str]:
        assert job in self.done, f"not over: {self.partition.busy}, awaiting {self.partition.awaited}"
        return [str(one) for one in self.done[job].failures]

    def errors(self) -> list[str]:
        """What was published as an error, and forget it."""
        told = [one.body["err_info"] for one in self.published if one.key == "error"]
        self.published.clear()
        return told
