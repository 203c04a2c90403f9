"""What drp does with a transition once its workers have answered.

A transition is finished when all before it is recorded, so that whoever reads the files, or the ledger in EndRun, finds everything that
came before. Until then, and until it is recorded itself, nothing goes out to workers: the stages here are polled by the main loop,
and none of them waits.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from drp.core.errors import DrpError, WorkerError
from drp.core.ledger import Cause
from drp.engine._flow import Flow
from drp.engine.crew import Crew
from drp.engine.judging import Judge, Told, Words
from drp.engine.notices import Notice
from drp.shm._block import BlockError
from drp.sink.answer import EMPTY, TRUNCATED, Answer, combine, differences, read_answer
from drp.sink.declare import Declared
from drp.sink.recorder import Recorder, Written
from xtc import DgramHeader, TransitionId, XtcError

if TYPE_CHECKING:
    from drp.engine.constants import Broadcast

ESSENTIAL = (TransitionId.Configure, TransitionId.BeginRun)

log = logging.getLogger("drp.run")


class Stage(Enum):
    """How far the transition being answered is."""

    IDLE = auto()
    ANSWERED = auto()
    RECORDING = auto()


@dataclass(frozen=True, slots=True)
class Finished:
    """A transition that is recorded, or one that has failed: then `error` says of what, and the run ends.

    `pulse_id` is 0 where nobody gave one; `synthesised`: the source did not give it.
    """

    service: TransitionId
    pulse_id: int
    timestamp: int
    synthesised: bool
    error: DrpError | None = None


class Monitor(Protocol):
    """Who passes on what is monitored (drp.engine.meblink)."""

    def transition(self, seq: int, finished: Finished, shown: bytes | memoryview) -> None:
        """Take the dgrams of a transition; all before `seq`, its number in the flow, is recorded, and nothing after it can be yet."""


class Transitions:
    """Collect the answers to one transition after another, and finish it."""

    def __init__(
        self,
        flow: Flow,
        crew: Crew,
        recorder: Recorder,
        ledger: Callable[[], dict[str, int]],
        constants: Broadcast | None = None,
        observe: Callable[[Finished], None] | None = None,
        judge: Judge | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self.error: DrpError | None = None
        self.unequal = 0
        self.configured = False
        self.paused_errno = 0
        self._flow = flow
        self._crew = crew
        self._recorder = recorder
        self._ledger = ledger
        self._constants = constants
        self._observe = observe
        self._judge = judge
        self._monitor = monitor
        self._answers: dict[int, Answer] = {}
        self._first: dict[int, tuple[int, Answer]] = {}
        self._stage = Stage.IDLE
        self._seq = 0
        self._pardoned = 0
        self._service = TransitionId.Configure
        self._written = Written()
        self._finished: Finished | None = None
        self._counts: dict[str, int] = defaultdict(int)

    @property
    def idle(self) -> bool:
        """Whether no transition is being answered."""
        return self._stage is Stage.IDLE

    @property
    def counts(self) -> dict[str, int]:
        """Transitions finished, by name."""
        return dict(self._counts)

    def on_answer(self, notice: Notice) -> None:
        """A worker has answered the transition that is being answered."""
        worker = self._crew.worker_of(notice.port)
        if notice.seq != self._flow.barrier:
            return
        try:
            lacks = self._constants is not None and not self._crew.has_constants(notice.port)
            if lacks and notice.service == TransitionId.BeginRun:
                raise WorkerError("it answered BeginRun without having taken the constants", worker=worker)
            if notice.cause == Cause.truncated:
                self._answers[worker] = self._overflow(notice, worker)
                return
            answer = read_answer(notice.desc, notice.data, self._known(notice.service), worker=worker)
            if answer.declared and notice.service not in ESSENTIAL:
                raise WorkerError("it declares Names after the run has begun", worker=worker)
            self._answers[worker] = answer
        except WorkerError as error:
            self._fail(error, notice.service)

    def _overflow(self, notice: Notice, worker: int) -> Answer:
        """Return what stands for an answer that did not fit. Without Names there is no run."""
        if notice.service in ESSENTIAL:
            raise WorkerError(
                f"what the script adds to {TransitionId(notice.service).name} does not fit",
                worker=worker,
                hint="Give more with -k trBufSize, or add less.",
            )
        self._crew.on_transition_overflow(notice)
        return TRUNCATED

    def on_replayed(self, notice: Notice) -> None:
        """A worker has answered a replay: its Names must be those of the first answer.

        Nobody needs what it says of a Configure or BeginRun that is no longer in force: who is that slow is shown the next one as well.
        """
        seq, first = self._first.get(notice.service, (0, EMPTY))
        if seq != notice.seq:
            return
        try:
            if notice.cause == Cause.truncated:
                raise WorkerError("what it adds does not fit, as that of the first workers did")
            known = () if notice.service == TransitionId.Configure else self._configured.declared
            declared = read_answer(notice.desc, notice.data, known).declared
        except WorkerError as error:
            self._crew.on_replayed(notice, str(error))
            return
        self._crew.on_replayed(
            notice, "" if declared == first.declared else _other_names(first.declared, declared)
        )

    @property
    def _configured(self) -> Answer:
        """The first answer to the Configure in force."""
        return self._first[TransitionId.Configure][1]

    def on_barrier(self, notice: Notice) -> None:
        """Everybody who was asked has answered."""
        self._seq, self._service = notice.seq, TransitionId(notice.service)
        self._stage = Stage.ANSWERED

    def poll(self) -> bool:
        """Take the next step that can be taken; returns whether one was."""
        if self._stage is Stage.ANSWERED:
            return self._finish()
        if self._stage is Stage.RECORDING:
            return self._settle()
        return False

    def _known(self, service: int) -> tuple[Declared, ...]:
        return () if service == TransitionId.Configure else self._recorder.declared

    def _finish(self) -> bool:
        if self.error is not None:
            return False
        if not self._flow.waiting_to_finish:
            self._flow.wake_when_recorded(self._seq - 1)
            return False
        if self._service == TransitionId.BeginRun and not self._may_begin:
            return False
        nobody = not self._answers and self._service in ESSENTIAL
        left_out = nobody and self._flow.pass_raw
        if left_out and self._service == TransitionId.Configure and self._pardoned != self._seq:
            self._pardoned = self._seq
            self._crew.pardon()
            left_out = False
        if (nobody and not left_out) or not self._flow.answered:
            # Workers died of what is no fault of the script's, or were left out, and who replaces them is asked: there
            # will be another notice.
            self._stage = Stage.IDLE
            return False
        answer = self._combined()
        dgram, pulse_id, synthesised = self._flow.transition(self._seq)
        self._flow.hold_files()
        try:
            self._written = self._record(dgram, answer)
            self._tell_judge(dgram, pulse_id)
        except (DrpError, XtcError, BlockError) as error:
            self._fail(
                error if isinstance(error, DrpError) else WorkerError(str(error)), self._service, always=True
            )
            return False
        finally:
            self._flow.release_files()
        if self._service in (TransitionId.Configure, TransitionId.Unconfigure):
            self._first.clear()
        if self._service in ESSENTIAL:
            self._first[self._service] = (self._seq, answer)
            self._crew.reduces = any(one.role == "reduce" for one in self._recorder.declared)
        if self._service == TransitionId.BeginRun:
            self._flow.declare(self._recorder.table)
        self._counts[self._service.name] += 1
        log.debug("%s answered by %d workers", self._service.name, len(self._answers))
        self._answers = {}
        self._finished = _finished(dgram, pulse_id, synthesised)
        self._crew.on_finished(self._service, self._seq)
        if self._monitor is not None:
            self._monitor.transition(self._seq, self._finished, self._written.shown)
        self._flow.finish_transition(self._seq, self._written.big, self._written.smd)
        if self._service == TransitionId.Configure:
            # Only now: who is made again is shown this Configure with all that is in force, and is not one of those asked.
            self._crew.pardon()
        self._flow.wake_when_recorded(self._seq)
        self._stage = Stage.RECORDING
        return True

    @property
    def _may_begin(self) -> bool:
        """Whether all stands that a run needs beside its workers. With none of those left nobody has waited for the constants."""
        made = self._constants is None or self._constants.is_made(self._seq)
        return made and (self._judge is None or self._judge.ready)

    def _record(self, dgram: bytes, answer: Answer) -> Written:
        """Return what is recorded of the transition: as it came, where what workers say does not go with what they said before."""
        ledger = self._ledger() if self._service == TransitionId.EndRun else None
        constants = self._used_constants(dgram, answer)
        try:
            return self._recorder.transition(dgram, answer, ledger=ledger, constants=constants)
        except WorkerError as error:
            if self._service in ESSENTIAL:
                raise
            self._fail(error, self._service)
            return self._recorder.transition(dgram, EMPTY, ledger=ledger)

    def _tell_judge(self, dgram: bytes, pulse_id: int) -> None:
        """Have the judge take the transition: all events before it are judged, and none after it has come."""
        if self._judge is None:
            return
        header = DgramHeader.decode(dgram)
        words = Words.of(self._recorder.declared) if self._service == TransitionId.Configure else None
        self._judge.transition(Told(self._seq, self._service, pulse_id, header.timestamp, header.env, words))

    def _used_constants(self, dgram: bytes, answer: Answer) -> dict[str, str] | None:
        """Return what BeginRun keeps of the constants; a Configure is what those of its runs are looked up with."""
        if self._constants is None:
            return None
        if self._service == TransitionId.Configure:
            self._constants.on_configure(dgram, answer.skipped)
        return self._constants.complete() if self._service == TransitionId.BeginRun else None

    def _combined(self) -> Answer:
        try:
            return combine(self._answers)
        except WorkerError as error:
            self._fail(error, self._service)
            return self._answers[min(self._answers)]

    def _settle(self) -> bool:
        if self._flow.record_next <= self._seq:
            return False
        self._flow.hold_files()
        try:
            settled = self._recorder.settle(self._written)
            self.paused_errno = 0 if settled else self._recorder.l1.error
            if not settled:
                return False
        except DrpError as error:
            self._fail(error, self._service, always=True)
        finally:
            self._flow.release_files()
        self._stage = Stage.IDLE
        self._flow.release_barrier()
        self._crew.on_released()
        if self._observe is not None and self._finished is not None:
            self._observe(self._finished)
        return True

    def tell_failed(self, error: DrpError) -> None:
        """Tell who observes that the transition in hand, if one is, comes to nothing."""
        if self._observe is None:
            return
        if self._stage is Stage.RECORDING and self._finished is not None:
            self._observe(replace(self._finished, error=error))
        elif seq := self._flow.barrier:
            self._observe(replace(_finished(*self._flow.transition(seq)), error=error))

    def _fail(self, error: DrpError, service: int, *, always: bool = False) -> None:
        """Configure and BeginRun fail for good; a difference in another transition is told and counted."""
        if always or service in ESSENTIAL:
            self.error = self.error or error
            return
        self.unequal += 1
        log.error("%s: %s", TransitionId(service).name, error)


def _finished(dgram: bytes, pulse_id: int, synthesised: bool) -> Finished:
    header = DgramHeader.decode(dgram)
    return Finished(header.service, pulse_id, header.timestamp, synthesised)


def _other_names(first: tuple[Declared, ...], later: tuple[Declared, ...]) -> str:
    expected, found = differences(first, later)
    return f"it declares other Names than the first workers did (expected {expected}, found {found})"
