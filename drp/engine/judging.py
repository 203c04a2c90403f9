"""Who decides which events are kept: what every judge is, and the one that goes by conditions on trigger words, in this process.

A judge has a thread of its own, which takes contributions from the flow and gives verdicts, a batch at a time. The main thread tells it of
transitions, each when all before it is recorded and before anything after it is in work. So a transition that is there when a batch is taken
comes before all of the batch, or (where that has but SlowUpdates, which wait for no verdict) after all of it, as the numbers say. A judge that
breaks stops nothing: what it has not judged is kept, and all that comes.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from drp.core import wire
from drp.core.conditions import Bound, Conditions
from drp.core.config import DrpConfig
from drp.core.errors import DrpError, ScriptError
from drp.engine._flow import Flow
from drp.sink.declare import Declared
from xtc import DataType, TransitionId
from xtc.codes import DTYPES

ALL_GROUPS = 0xFFFFFFFF
"""The groups of a judge that is asked for every event, whatever its env."""
SLEEP_MS = 20
CLOSE_S = 5.0
BATCH = 4096

log = logging.getLogger("drp.trigger")


@dataclass(frozen=True, slots=True)
class Words:
    """The trigger words of a drp: names and types in the order in which they are packed, and the alias of the detector segment they are of."""

    fields: tuple[tuple[str, DataType], ...] = ()
    alias: str = ""

    @classmethod
    def of(cls, declared: Sequence[Declared]) -> Words:
        """Return those that a script declared."""
        for one in declared:
            if one.role == "trigger":
                names = one.names
                fields = tuple((field.name, field.dtype) for field in names.fields)
                return cls(fields, f"{names.detname}_{names.segment}")
        return cls()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The words of one event as a packed little-endian record."""
        return np.dtype([(name, DTYPES[kind]) for name, kind in self.fields])

    @property
    def size_bytes(self) -> int:
        """Bytes of the words of one event."""
        return self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Told:
    """A transition as a judge is told of it, `seq` its number; `words` with a Configure only."""

    seq: int
    service: TransitionId
    pulse_id: int
    timestamp: int
    env: int
    words: Words | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Events that are kept since nobody decided: of which trigger, why, how many, and between which pulse ids."""

    trigger: str
    why: str
    first_pulse_id: int
    last_pulse_id: int
    events: int

    def __str__(self) -> str:
        events = "1 event" if self.events == 1 else f"{self.events:,} events"
        return f"{events} of pulse ids {self.first_pulse_id} to {self.last_pulse_id} kept without a verdict: {self.trigger}: {self.why}"

    def with_more(self, other: Lost) -> Lost:
        """Return both as one."""
        first = min(self.first_pulse_id, other.first_pulse_id)
        last = max(self.last_pulse_id, other.last_pulse_id)
        return Lost(self.trigger, self.why, first, last, self.events + other.events)


class Judge(Protocol):
    """Who decides. All but its thread's own work is called from the main thread."""

    @property
    def ready(self) -> bool:
        """Whether events may come; asked at BeginRun until it is, or `error` is set."""

    @property
    def error(self) -> DrpError | None:
        """Why the run cannot go on."""

    @property
    def trouble(self) -> str:
        """What keeps it from deciding just now, for the status line; or empty."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the report is to tell of it."""

    @property
    def lost(self) -> Sequence[Lost]:
        """The events that it did not decide, in the order in which that was."""

    def start(self, flow: Flow) -> None:
        """Begin to judge the events of a flow; before anything is handed in."""

    def transition(self, told: Told) -> None:
        """Take a transition, all events before which are recorded. Raises DrpError for a Configure that it cannot judge with."""

    def close(self) -> None:
        """End its thread. What it has not judged is kept."""


def groups_of(config: DrpConfig) -> int:
    """Return which events are judged of a drp without a partition: those of its platform's readout group, or with platform 0 all."""
    return 1 << config.platform if config.platform else ALL_GROUPS


class JudgeThread:
    """What judges share: the thread, the bell it sleeps on, and what goes to it in which order.

    A subclass gives `check`, for the main thread, and `heed` and `decide` for its own. `groups` and `alone`: as of
    Flow.judge.
    """

    def __init__(self, groups: int = ALL_GROUPS, *, alone: bool = False) -> None:
        self.error: DrpError | None = None
        self.warnings: list[str] = []
        self.lost: list[Lost] = []
        self.trouble = ""
        self._groups = groups
        self._alone = alone
        self._bell = -1
        self._closing = False
        self._told: deque[Told] = deque()
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        return True

    def start(self, flow: Flow) -> None:
        self._flow = flow
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        flow.judge(self._groups, self._bell, self._alone)
        self._thread = threading.Thread(target=self._run, name="drp/judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        if self._thread is None:
            return
        self.ring()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():  # else it may yet use the descriptor
            self._flow.judge_off()
            os.close(self._bell)
        self._thread = None

    def transition(self, told: Told) -> None:
        self.check(told)
        if told.words is not None:
            self._flow.set_words(told.words.size_bytes)
        if self._thread is None:
            return
        self._told.append(replace(told, pulse_id=self._flow.told_pulse(told.pulse_id)))
        self.ring()

    def ring(self) -> None:
        """Wake the thread."""
        os.eventfd_write(self._bell, 1)

    def check(self, told: Told) -> None:
        """Raise DrpError where the run cannot go on with this transition."""

    def open(self) -> None:
        """Make what the thread needs, in it."""

    def heed(self, told: Told) -> None:
        """Take a transition: all before it was decided or heeded."""

    def decide(self, taken: bytes) -> None:
        """Take contributions and SlowUpdates (Flow.take_contributions), and give verdicts on those events, now or later."""
        raise NotImplementedError

    def work(self) -> bool:
        """Take what there is; returns whether there was anything."""
        taken = self._flow.take_contributions(BATCH)
        first = int.from_bytes(taken[:8], "little")
        found = bool(taken)
        while self._told and (not taken or self._told[0].seq < first):
            self.heed(self._told.popleft())
            found = True
        if taken:
            self.decide(taken)
        return found

    def sleep(self) -> None:
        """Wait for the bell, or for a short while."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.poll(SLEEP_MS)

    def shut(self) -> None:
        """Give back what `open` made, in the thread."""

    def _run(self) -> None:
        try:
            self.open()
            try:
                while not self._closing:
                    if not self.work() and self._flow.judge_may_sleep():
                        self.sleep()
                        self._hush()
            finally:
                self.shut()
        except Exception as error:
            log.exception("the judge has failed: from here on all events are kept")
            self.warnings.append(f"the judge failed, and all events after that are kept: {error!r}")
            self.trouble = "the judge has failed"
            self._flow.judge_off()

    def _hush(self) -> None:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return


class ConditionsJudge(JudgeThread):
    """Keep events whose trigger words fulfil a condition; of the others, every `prescale`-th with its raw data (0: none).

    An event whose script failed, or that has no words, is kept. So are, with raw data, those that timing marked with keepRaw. The count for
    the prescale begins anew with every run.
    """

    def __init__(self, conditions: Conditions, prescale: int = 0, *, groups: int = ALL_GROUPS) -> None:
        super().__init__(groups)
        self._conditions = conditions
        self._prescale = prescale
        self._judged = 0

    def check(self, told: Told) -> None:
        if told.words is not None:
            self._bind(told.words)

    def heed(self, told: Told) -> None:
        if told.service == TransitionId.BeginRun:
            self._judged = 0
        if told.words is not None:
            self._words = told.words
            self._bound = self._bind(told.words)

    def _bind(self, words: Words) -> Bound:
        if not words.fields:
            raise ScriptError(
                "the script declares no trigger words, and --keep-if asks for some",
                hint="Declare them with ds.add_trigger({...}) before ds.runs(), and set them for each event with ds.set_trigger(...).",
            )
        return self._conditions.bind({words.alias: [name for name, _ in words.fields]}, words.alias)

    def decide(self, taken: bytes) -> None:
        stride = wire.stride_of(self._words.size_bytes)
        whole = np.frombuffer(taken, np.uint8).reshape(-1, stride)
        asked = wire.records(memoryview(taken), len(whole), wire.CONTRIBUTION, stride)
        events = asked["env"] >> 24 & 0xF == TransitionId.L1Accept
        if not events.all():
            whole, asked = whole[events], asked[events]
        verdicts = np.zeros(len(asked), wire.VERDICT)
        verdicts["seq"], verdicts["pulse_id"] = asked["seq"], asked["pulse_id"]
        verdicts["result"] = self._results(asked, whole[:, wire.CONTRIBUTION.itemsize :])
        self._flow.give_verdicts(verdicts.data)

    def _results(self, asked: npt.NDArray[Any], words: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        keep = asked["flags"] & wire.Contributed.failed != 0
        record = np.ascontiguousarray(words[:, : self._words.size_bytes]).view(self._words.dtype)[:, 0]
        columns = {column: record[column[1]] for column in self._bound.columns}
        known = {self._words.alias: asked["flags"] & wire.Contributed.words != 0}
        keep |= self._bound.evaluate(columns, len(asked), known)
        prescaled = asked["env"] & wire.KEEP_RAW != 0
        if self._prescale:
            numbers = self._judged + np.arange(1, len(asked) + 1)
            prescaled |= numbers % self._prescale == 0
        self._judged += len(asked)
        results: npt.NDArray[np.uint32] = np.where(keep, wire.PERSIST, 0).astype(np.uint32)
        results[prescaled] |= wire.PRESCALE
        return results
