"""A whole drp in one thread: the real flow, recorder and worker processes, turned by hand, with as much of a crew as keeps them going.

Workers are forked from the test itself, and can be given a fault (`drp.script.faults`); one that dies is buried and replaced.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

from drp.core.ledger import Ledger
from drp.core.transitions import Sequencer
from drp.engine._flow import Flow
from drp.engine.notices import Kind, Notice
from drp.engine.transition import Transitions
from drp.script.faults import VARIABLE
from drp.script.worker import WorkerSpec, main
from drp.shm._pebble import Pebble, SlotBatch
from drp.shm._port import Port
from drp.sink.recorder import Output, Recorder
from xtc import TransitionId

RUN_LEVEL = [TransitionId.Configure, TransitionId.BeginRun]
STEP_LEVEL = [TransitionId.BeginStep, TransitionId.Enable]
SHOWN_TO_ALL = (*RUN_LEVEL, TransitionId.EndRun, TransitionId.Unconfigure)
DIED = 3
LIMIT_S = 30.0
TRANSITIONS = 32
ARENA_TAIL_AT, OUT_HEAD_AT, OUT_RING_AT, DEPTH = 72, 192, 256 + 1024 * 64, 1024


@dataclass
class Hired:
    """One worker process."""

    worker: int
    number: int
    port: Port
    process: Any
    seated: bool = False
    waits: bool = False


@dataclass(frozen=True)
class Death:
    """How a worker ended: what drp found in its hands (None: nothing), and the number of the event that was damaged, 0 for none."""

    worker: int
    exit_code: int
    held: TransitionId | None
    blamed: int


@dataclass
class Whole:
    """A drp with `workers` workers running `script`, recording below `folder`. `fault` is that of the first workers, `later` of the rest."""

    folder: Path
    script: Path
    info: dict[str, Any]
    workers: int = 1
    fault: str = ""
    later: str = ""
    n_events: int = 8
    event_bytes: int = 8192
    arena_bytes: int = 1 << 17
    deaths: list[Death] = field(default_factory=list)
    failures: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notify = os.eventfd(0, os.EFD_NONBLOCK)
        self.pebble = Pebble(self.n_events, self.event_bytes, TRANSITIONS, 1 << 16)
        self.recorder = Recorder(Output(self.folder))
        self.flow = Flow(self.pebble, self.recorder.l1, self.notify)
        self.batch = SlotBatch(self.pebble, Sequencer("test"))
        self.flow.hand_in(self.batch, 0, 0)
        self.transitions = Transitions(self.flow, self, self.recorder, Ledger().as_fields)  # type: ignore[arg-type]
        self.hired: dict[int, Hired] = {}
        self.vacant: list[int] = []
        self.recording = True
        self.deadline = time.monotonic() + LIMIT_S
        for worker in range(self.workers):
            self.flow.open_port(self.hire(worker, self.fault, seated=True), True)

    # What the transitions ask of a crew.

    def worker_of(self, number: int) -> int:
        return self.hired[number].worker

    def on_finished(self, service: int, seq: int) -> None:
        for one in self.hired.values():
            if not one.seated and service in SHOWN_TO_ALL:
                self.flow.replay_slot(one.number, seq)

    def pardon(self) -> None:
        """A Configure is finished; nobody was left out."""

    def on_released(self) -> None:
        for one in self.hired.values():
            if one.waits:
                self.seat(one)

    def on_replayed(self, notice: Notice, differs: str) -> None:
        assert not differs
        if notice.service == TransitionId.BeginRun:
            self.seat(self.hired[notice.port])

    # The workers.

    def hire(self, worker: int, fault: str, *, seated: bool = False) -> int:
        port = Port(worker, 0, self.arena_bytes, self.n_events + TRANSITIONS)
        number = self.flow.add_port(port)
        if not seated:
            self.flow.replay(number, [int(one) for one in RUN_LEVEL])
            seated = self.flow.answering in RUN_LEVEL and self.flow.ask(number)
        spec = WorkerSpec(
            worker=worker,
            incarnation=0,
            pebble_id=self.pebble.segment.id,
            pebble_bytes=self.pebble.segment.size,
            segment_id=port.segment.id,
            segment_bytes=port.segment.size,
            bells_id=self.flow.bells.id,
            bells_bytes=self.flow.bells.size,
            bell_index=0,
            argv=(str(self.script),),
            info=self.info,
        )
        process = multiprocessing.get_context("fork").Process(target=_work, args=(spec, fault), daemon=True)
        process.start()
        self.hired[number] = Hired(worker, number, port, process, seated)
        return number

    def seat(self, one: Hired) -> None:
        """Give a replacement its post; behind a barrier it waits for on_released."""
        if not self.flow.seat_port(one.number, [int(service) for service in STEP_LEVEL]):
            one.waits = True
            return
        one.seated, one.waits = True, False

    def bury(self, one: Hired) -> None:
        one.process.join()
        taken, service, _, _ = self.flow.drain(one.number)
        self.route()
        lost = self.flow.bury(one.number, DIED if taken else 0)
        del self.hired[one.number]
        held = TransitionId(service) if taken else None
        self.deaths.append(Death(one.worker, one.process.exitcode, held, lost))
        one.process.close()
        self.vacant.append(one.worker)

    # The loop.

    def route(self) -> None:
        for notice in self.flow.take_notices():
            match notice.kind:
                case Kind.ANSWER:
                    self.transitions.on_answer(notice)
                case Kind.REPLAYED:
                    self.transitions.on_replayed(notice)
                case Kind.BARRIER:
                    self.transitions.on_barrier(notice)
                case _:
                    self.failures.append(notice)

    def turn(self) -> None:
        """Do all that can be done now; where that is nothing wait a moment for a death."""
        assert time.monotonic() < self.deadline, f"it hangs: {self.flow.load()}, {self.flow.ports_now()}"
        done = self.flow.turn() + (self.flow.record_turn() if self.recording else 0)
        self.route()
        while self.transitions.poll():
            done += 1
        sentinels = {one.process.sentinel: one for one in self.hired.values()}
        for sentinel in connection.wait(list(sentinels), 0 if done else 0.0005):
            self.bury(sentinels[sentinel])  # type: ignore[index]
        # As in drp, who comes while a transition is finished is made after it, and is shown it.
        while self.vacant and self.transitions.idle:
            self.hire(self.vacant.pop(), self.later)
        assert self.transitions.error is None, self.transitions.error

    def put(self, dgrams: Iterable[bytes]) -> None:
        """Hand in dgrams as the source would, waiting for slots."""
        for dgram in dgrams:
            while not self.batch.put(dgram):
                self.flow.hand_in(self.batch, 0, 0)
                self.turn()
            self.flow.hand_in(self.batch, 0, 0)
            self.turn()

    def until(self, *, deaths: int) -> None:
        """Turn until as many workers have died."""
        while len(self.deaths) < deaths:
            self.turn()

    def finish(self) -> Path:
        """Turn until all is recorded, stop the workers, check that everything was given back; return the recorded file."""
        while not (self.transitions.idle and self.flow.record_next == self.flow.submit_next):
            self.turn()
        self.until_idle()
        self.check_given_back()
        for one in self.hired.values():
            self.flow.stop_port(one.number)
        for one in self.hired.values():
            one.process.join(LIMIT_S)
            assert one.process.exitcode == 0
            one.process.close()
        self.recorder.close()
        os.close(self.notify)
        return next(path for path in sorted(self.folder.rglob("*.xtc2")) if "smd" not in path.name)

    def until_idle(self) -> None:
        """Turn until no living worker has anything left to answer."""
        while any(one.port.in_flight for one in self.hired.values()):
            self.turn()

    def check_given_back(self) -> None:
        """Every slot is free or lent to the source, and no byte of an arena is kept."""
        self.flow.hand_in(self.batch, 0, 0)
        load = self.flow.load()
        assert load["slots_used"] == self.batch.events_free
        assert load["transition_slots_used"] == self.batch.transitions_free
        assert load["in_flight"] == load["waiting"] == 0
        for one in self.hired.values():
            assert one.port.unrecorded == 0
            memory = memoryview(one.port.segment)
            (tail,) = struct.unpack_from("<Q", memory, ARENA_TAIL_AT)
            (head,) = struct.unpack_from("<Q", memory, OUT_HEAD_AT)
            ends = [
                struct.unpack_from("<QQI", memory, OUT_RING_AT + n % DEPTH * 64)[1:]
                for n in range(max(0, head - DEPTH), head)
            ]
            assert tail == max([at + size for at, size in ends if size], default=0)
        self.flow.sweep_ports()
        assert len(self.flow.ports_now()) == len(self.hired)


def _work(spec: WorkerSpec, fault: str) -> None:
    os.environ[VARIABLE] = fault
    raise SystemExit(main(spec))
