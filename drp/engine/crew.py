"""The worker processes: what the supervisor decides is done here, and what happens to processes is told to it.

One `Hand` is one incarnation of a worker or spare: its rings, its process once the nursery has forked it, its post. The crew
polls nothing itself: the main loop has `selector` call back when a worker dies, writes, or the nursery answers, and calls `tick`.

A worker that comes late is brought to where the others stand before it gets events: Configure and BeginRun as replays when it is made
(or, while they are being answered, as one of those asked), BeginStep and Enable when it takes its post.
"""

from __future__ import annotations

import logging
import math
import selectors
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drp.core import instructions as do
from drp.core.config import DrpConfig
from drp.core.errors import DrpError, RunStopped
from drp.core.failures import Failure, ScriptReport
from drp.core.ledger import Cause
from drp.core.policy import Policy
from drp.core.supervision import Supervisor
from drp.core.worker_states import Entry, Watch
from drp.engine._flow import Flow
from drp.engine.complaint import read_failure
from drp.engine.notices import Notice
from drp.engine.output import WorkerOutput
from drp.engine.spawn import ForkedWorker, Nursery, NurseryError, NurseryLost, WorkerForked
from drp.script.nursery_wire import ForkFailed, Ready, Reaped
from drp.script.process import resident_bytes
from drp.script.worker import WorkerSpec
from drp.shm._port import Port
from xtc import TransitionId

if TYPE_CHECKING:
    from drp.engine.constants import Broadcast

MEMORY_PERIOD_S = 1.0
NO_INCARNATION = 0
OUTPUT_PERIOD_S = 1.0
NURSERY_TRIES = 3
SLOW_NURSERY_S = 5.0
RUN_LEVEL = [int(TransitionId.Configure), int(TransitionId.BeginRun)]
SHOWN_TO_ALL = (TransitionId.Configure, TransitionId.BeginRun, TransitionId.EndRun, TransitionId.Unconfigure)
STEP_LEVEL = [int(TransitionId.BeginStep), int(TransitionId.Enable)]

log = logging.getLogger("drp.worker")


@dataclass(slots=True)
class Hand:
    """One incarnation of a worker or spare."""

    incarnation: int
    worker: int | None
    port: Port
    number: int
    forked: ForkedWorker | None = None
    status: int | None = None
    kill_when_forked: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Berth:
    """What every worker process of this drp is given: script and arguments, `drp_info`, and the segments it attaches.

    `compiles`: kernels are compiled before the first is forked; `trigger`: the script is a partition's trigger.
    """

    argv: tuple[str, ...]
    info: dict[str, object]
    arena_bytes: int
    n_blocks: int
    check_views: bool
    check_jit: bool = False
    compiles: bool = False
    trigger: bool = False


class Crew:
    """Keep the posts filled as the supervisor says."""

    def __init__(
        self,
        config: DrpConfig,
        flow: Flow,
        berth: Berth,
        nursery: Nursery,
        selector: selectors.BaseSelector,
        hold_source: Callable[[bool], None],
        route: Callable[[], None],
        *,
        make_nursery: Callable[[], Nursery] = Nursery,
        constants: Broadcast | None = None,
    ) -> None:
        self.supervisor = Supervisor(Policy.from_config(config, compiles=berth.compiles))
        self.stop_asked: RunStopped | None = None
        self.failed: DrpError | None = None
        self.reduces = False
        self.reduce_lost_workers = 0
        self.reduce_lost_events = 0
        self._losses_in_a_row = 0
        self._started = self._ending = False
        self._slow_at_s: float | None = None
        self._nursery_fd = -1
        self._ticked_s: float | None = None
        self._config = config
        self._flow = flow
        self._berth = berth
        self._nursery = nursery
        self._make_nursery = make_nursery
        self._constants = constants
        self._selector = selector
        self._hold_source = hold_source
        self._route = route
        self._output = WorkerOutput()
        self._hands: dict[int, Hand] = {}
        self._by_port: dict[int, Hand] = {}
        self._forking: dict[int, Hand] = {}
        self._reaping: dict[int, Hand] = {}
        self._adopting: list[Hand] = []
        self._spares_made = 0
        self._done: dict[int | None, int] = {}
        self._memory_due_s = 0.0
        self._output_due_s = 0.0
        self._resident: dict[int, int] = {}
        self._awaited: set[int] = set()
        self._wait_until_s = 0.0
        self._written_off: set[int] = set()
        self.watch_nursery()

    def settle(self, now_s: float) -> bool:
        """Say whether nobody who failed or died has still to be buried: the account of the run is not whole before."""
        failed = {
            one.incarnation for one in self.supervisor.roster.processes.values() if one.reason is not None
        }
        return self._wait_for(failed | {one.incarnation for one in self._reaping.values()}, now_s)

    def ended(self, now_s: float) -> bool:
        """Say whether no process is left of those told to leave."""
        return self._wait_for(set(self._hands), now_s)

    def _wait_for(self, incarnations: set[int], now_s: float) -> bool:
        """Say whether these are gone, or not one of them went in `burial_s`: then they are written off."""
        incarnations -= self._written_off
        if incarnations != self._awaited:
            self._awaited, self._wait_until_s = incarnations, now_s + self.supervisor.policy.burial_s
        if incarnations and now_s >= self._wait_until_s:
            self._written_off |= incarnations
            self._do(self.supervisor.write_off(sorted(incarnations), now_s))
            return True
        return not incarnations

    def done_by(self, worker: int | None) -> int:
        """L1Accepts that a worker did well, over all its incarnations."""
        now = sum(one.port.counts[0] for one in self._hands.values() if one.worker == worker)
        return self._done.get(worker, 0) + now

    def worker_of(self, number: int) -> int:
        """The worker whose port has this number; -1 for a spare or one that is gone."""
        hand = self._by_port.get(number)
        return -1 if hand is None or hand.worker is None else hand.worker

    def has_constants(self, number: int) -> bool:
        """Whether the worker at this port has taken the constants of the run, or there are none."""
        hand = self._by_port.get(number)
        return self._constants is None or (hand is not None and self._constants.has_taken(hand.incarnation))

    # What happens to processes.

    def begin(self) -> None:
        """Fork the workers, where the nursery says no more that it stands, since it has said so before."""
        if self._nursery.ready:
            self._on_nursery_ready()

    def watch_nursery(self) -> None:
        """Have the selector call when the nursery answers."""
        self._nursery_fd = self._nursery.fileno()
        self._selector.register(self._nursery_fd, selectors.EVENT_READ, self._on_nursery)

    def _on_nursery(self, _fd: int) -> None:
        for event in self._nursery.receive():
            match event:
                case WorkerForked(number, forked):
                    self._on_forked(self._forking.pop(number), forked)
                case ForkFailed(number, reason):
                    log.error("a worker could not be forked: %s", reason)
                    self._exited(self._forking.pop(number), None)
                case Reaped():
                    self._exited(self._reaping.pop(event.pid), event.status)
                case NurseryLost():
                    self._selector.unregister(self._nursery_fd)
                    self._on_nursery_lost(event)
                case Ready():
                    self._on_nursery_ready()
                case _:
                    pass

    def _on_nursery_ready(self) -> None:
        """Fork the workers, at first or again; the source may go on."""
        now_s = time.monotonic()
        self._losses_in_a_row = 0
        if self._started:
            log.warning("the nursery is there again")
            self._do(self.supervisor.on_nursery_ready(now_s))
        else:
            self._started = True
            self._do(self.supervisor.start(now_s))
        self._hold_source(False)

    def _on_forked(self, hand: Hand, forked: ForkedWorker) -> None:
        hand.forked = forked
        self._selector.register(forked.pidfd, selectors.EVENT_READ, lambda _fd: self._on_death(hand))
        self._output.add(hand.incarnation, self._label(hand), forked.stdout_fd, forked.stderr_fd)
        for fd in (forked.stdout_fd, forked.stderr_fd):
            self._selector.register(fd, selectors.EVENT_READ, self._on_output)
        self._do(self.supervisor.on_forked(hand.incarnation, time.monotonic()))
        if hand.kill_when_forked:
            self._nursery.kill(forked)

    def _on_output(self, fd: int) -> None:
        # The descriptor is closed when its end is read, so the selector must let go of it before.
        self._selector.unregister(fd)
        if self._output.on_readable(fd):
            self._selector.register(fd, selectors.EVENT_READ, self._on_output)

    def _on_death(self, hand: Hand) -> None:
        if hand.forked is None or hand.forked.pid in self._reaping:
            return
        self._selector.unregister(hand.forked.pidfd)
        self._reaping[hand.forked.pid] = hand
        self._nursery.reap_begin(hand.forked)

    def _exited(self, hand: Hand, status: int | None) -> None:
        """The process is gone, with all it started: settle what it leaves."""
        taken, service, replay, events = self._flow.drain(hand.number)
        self._route()
        self._lose_reduced(hand)
        entry = Entry(taken, TransitionId(service), replay) if taken else None
        if hand.forked is not None:
            self._close_output(hand)
        self._do(self.supervisor.on_exit(hand.incarnation, status, entry, events, time.monotonic()))
        if hand.incarnation in self._hands:
            self._release(hand, Cause.none)

    def _lose_reduced(self, hand: Hand) -> None:
        """Count what a worker had added to reduced arrays since it last handed them over, and will not hand over any more."""
        events = hand.port.take_unmerged()
        if not events or not self.reduces:
            return
        self.reduce_lost_workers += 1
        self.reduce_lost_events += events
        level = logging.ERROR if self.reduce_lost_workers == 1 else logging.DEBUG
        log.log(
            level,
            "%s: what it had added to the reduced arrays in %d events is lost with it (more of these are only counted)",
            self._label(hand),
            events,
        )

    def _close_output(self, hand: Hand) -> None:
        for fd in self._output.pipes_of(hand.incarnation):
            self._selector.unregister(fd)
        self._output.remove(hand.incarnation)

    def _on_nursery_lost(self, lost: NurseryLost) -> None:
        self._losses_in_a_row += 1
        self._hold_source(True)
        if self._started:
            log.error("the nursery is gone: %s", lost.reason)
            self._do(self.supervisor.on_nursery_lost(time.monotonic()))
        statuses = {one.pid: one.status for one in lost.reaped}
        for hand in list(self._hands.values()):
            if hand.forked is not None and hand.forked.pidfd in self._selector.get_map():
                self._selector.unregister(hand.forked.pidfd)
            self._exited(hand, statuses.get(hand.forked.pid) if hand.forked else None)
        self._forking.clear()
        self._reaping.clear()
        self._nursery.close()
        if self._ending:
            return
        if self._losses_in_a_row >= NURSERY_TRIES:
            self.failed = self.failed or NurseryError(lost.reason, hint="Without it no script can be run.")
            return
        if not self._started:
            log.warning("the nursery did not start, another is tried: %s", lost.reason)
        self._nursery = self._make_nursery()
        self._nursery.start_begin()
        self.watch_nursery()

    # What the rings say of workers.

    def on_failure(self, notice: Notice) -> None:
        """A worker's answer is a failure, or nonsense."""
        hand = self._by_port.get(notice.port)
        if hand is None:
            return
        entry = Entry(0, TransitionId(notice.service), notice.seq == 0)
        failure, report = read_failure(notice)
        self._do(self.supervisor.on_failed(hand.incarnation, failure, report, entry, time.monotonic()))

    def on_overflow(self, notice: Notice) -> None:
        """A result did not fit."""
        hand = self._by_port.get(notice.port)
        incarnation = NO_INCARNATION if hand is None else hand.incarnation
        self._do(self.supervisor.on_overflow(incarnation, time.monotonic()))

    def on_transition_overflow(self, notice: Notice) -> None:
        """An answer to a transition did not fit: what it held of reduced arrays is lost."""
        hand = self._by_port.get(notice.port)
        if hand is not None and notice.service in (TransitionId.EndStep, TransitionId.EndRun):
            self._lose_reduced(hand)
        self.on_overflow(notice)

    def pardon(self) -> None:
        """A new Configure is, or is being, answered: workers that were left out are made again, and shown it or asked."""
        self._do(self.supervisor.on_configure(time.monotonic()))

    def on_replayed(self, notice: Notice, differs: str) -> None:
        """A worker answered a replayed Configure or BeginRun; `differs` says how its Names are not those of the first answer."""
        hand = self._by_port.get(notice.port)
        if hand is None:
            return
        if differs:
            report = ScriptReport("NamesDiffer", differs)
            entry = Entry(0, TransitionId(notice.service), replay=True)
            self._do(
                self.supervisor.on_failed(hand.incarnation, Failure.NONSENSE, report, entry, time.monotonic())
            )
        elif notice.service == TransitionId.BeginRun:
            self._ready(hand)

    def on_finished(self, service: int, seq: int) -> None:
        """A transition was answered by all who were asked: show it to those who were not, and seat those who wait for a post."""
        for hand in list(self._hands.values()):
            if hand.asked:
                if service == TransitionId.BeginRun:
                    self._ready(hand)
            elif service in SHOWN_TO_ALL:
                self._flow.replay_slot(hand.number, seq)

    def on_released(self) -> None:
        """The barrier is gone: those who became ready behind it take their posts."""
        waiting, self._adopting = self._adopting, []
        for hand in waiting:
            self._adopt(hand)

    def tick(self, now_s: float) -> None:
        """Run the clocks of all processes."""
        self._tell_of_slow_nursery(now_s)
        if self._config.worker_memory_bytes is not None and now_s >= self._memory_due_s:
            self._memory_due_s = now_s + MEMORY_PERIOD_S
            self._resident = {
                one.incarnation: resident_bytes(one.forked.pid) for one in self._hands.values() if one.forked
            }
        if now_s >= self._output_due_s:
            self._output_due_s = now_s + OUTPUT_PERIOD_S
            self._output.report()
        watches = self._watches()
        self._look_at_constants(watches, now_s)
        self._do(self.supervisor.tick(watches, now_s))
        self._look_at_nursery(now_s)

    def _tell_of_slow_nursery(self, now_s: float) -> None:
        """Say once what is waited for before anything has begun: kernels that were never compiled on this machine."""
        if self._slow_at_s is None:
            self._slow_at_s = now_s + SLOW_NURSERY_S
        elif not self._started and self._constants is not None and now_s >= self._slow_at_s:
            self._slow_at_s = math.inf
            log.info(
                "what calibrates events is being compiled: once on a machine, and kept for the next time"
            )

    def _look_at_constants(self, watches: Iterable[Watch], now_s: float) -> None:
        """Charge those who have BeginRun in hand, live and not as a replay, with the time until they have the constants."""
        step_s = 0.0 if self._ticked_s is None else now_s - self._ticked_s
        if self._constants is None or self._flow.answering != TransitionId.BeginRun:
            return
        for one in watches:
            hand = self._hands[one.incarnation]
            if (
                hand.asked
                and hand.worker is not None
                and one.service == TransitionId.BeginRun
                and one.taken > one.answered
            ):
                self._constants.at_begin_run(hand.incarnation, hand.worker, step_s)

    def _look_at_nursery(self, now_s: float) -> None:
        """Take note of a nursery that does not answer; our own standstill is no fault of its."""
        late_s = 0.0 if self._ticked_s is None else now_s - self._ticked_s
        self._ticked_s = now_s
        if late_s > self.supervisor.policy.late_s:
            self._nursery.postpone(late_s)
            self._wait_until_s += late_s
        deadline = self._nursery.deadline()
        if self._nursery.lost is not None or (deadline is not None and now_s >= deadline):
            self._on_nursery(self._nursery_fd)

    def ask_the_busy(self) -> list[str]:
        """Have those with something to answer write their tracebacks; return who they are, and at what."""
        busy = []
        for one in self._watches():
            hand = self._hands[one.incarnation]
            if one.queued > one.answered and hand.forked is not None:
                self._nursery.request_traceback(hand.forked)
                busy.append(f"{self._label(hand)} at {one.service.name}")
        return busy

    def end(self) -> None:
        """Tell all workers to leave; who does not is killed."""
        self._ending = True
        self._do(self.supervisor.on_stop(time.monotonic()))
        for hand in self._hands.values():
            self._flow.stop_port(hand.number)

    def close(self, *, keep_nursery: bool = False) -> Nursery | None:
        """Kill what is left and close the pipes, and end the nursery; where it is to be kept and nobody is left, return it instead."""
        left = bool(self._hands or self._forking or self._reaping)
        kept = keep_nursery and not left and self._nursery.lost is None
        if not kept:
            self._nursery.close()
        for hand in list(self._hands.values()):
            if hand.forked is not None:
                self._close_output(hand)
        self._output.close()
        return self._nursery if kept else None

    def _watches(self) -> list[Watch]:
        watches = []
        for number, queued, taken, answered, service, waits, events, _ in self._flow.ports_now():
            hand = self._by_port.get(number)
            # A dead one that is being reaped can be late for nothing.
            if hand is not None and (hand.forked is None or hand.forked.pid not in self._reaping):
                known = TransitionId(service)
                held_up = waits or self._waits_for_constants(known)
                resident = self._resident.get(hand.incarnation)
                watches.append(
                    Watch(hand.incarnation, queued, taken, answered, known, held_up, events, resident)
                )
        return watches

    def _waits_for_constants(self, service: TransitionId) -> bool:
        return service == TransitionId.BeginRun and self._constants is not None and self._constants.making

    def _ready(self, hand: Hand) -> None:
        self._do(self.supervisor.on_ready(hand.incarnation, time.monotonic()))
        if hand.worker is not None and not hand.asked and hand not in self._adopting:
            self._adopt(hand)

    def _adopt(self, hand: Hand) -> None:
        """Give a worker its post: what is in force of the step, then events."""
        if hand.asked or hand.incarnation not in self._hands or self._ask(hand):
            return
        if not self._flow.seat_port(hand.number, STEP_LEVEL):
            self._adopting.append(hand)
            return
        hand.asked = True

    def _ask(self, hand: Hand) -> bool:
        """Where Configure or BeginRun is being answered, have a worker that came late answer it as well."""
        if hand.worker is None or self._flow.answering not in RUN_LEVEL:
            return False
        hand.asked = self._flow.ask(hand.number)
        return hand.asked

    # What the supervisor wants done.

    def _do(self, instructions: Iterable[do.Instruction]) -> None:
        for instruction in instructions:
            self._obey(instruction)

    def _obey(self, instruction: do.Instruction) -> None:
        match instruction:
            case do.Fork(incarnation, worker):
                self._fork(incarnation, worker)
            case do.UseSpare(worker, incarnation):
                hand = self._hands[incarnation]
                hand.worker = worker
                self._flow.assign(hand.number, worker)
                self._adopt(hand)
            case do.AskTraceback(incarnation):
                hand = self._hands[incarnation]
                if hand.forked is not None:
                    self._nursery.request_traceback(hand.forked)
            case do.Kill(incarnation):
                self._kill(self._hands[incarnation])
            case do.Retire(incarnation):
                self._flow.stop_port(self._hands[incarnation].number)
            case do.Release(incarnation, _, cause, _):
                self._release(self._hands[incarnation], cause)
            case do.PassRaw(on):
                self._flow.pass_raw_on(on)
            case do.RestartNursery():
                # Told to the supervisor at the end of this tick, not in the middle of its instructions.
                self._nursery.give_up("it did not fork a worker in time")
            case do.FailTransition(_, error):
                self.failed = self.failed or error
            case do.StopRun(error):
                self.stop_asked = self.stop_asked or error
            case do.Log(level, text):
                log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)
            case do.LeaveOut():
                pass

    def _fork(self, incarnation: int, worker: int | None) -> None:
        name = self._config.workers + self._spares_made if worker is None else worker
        self._spares_made += worker is None
        port = Port(name, incarnation, self._berth.arena_bytes, self._berth.n_blocks)
        number = self._flow.add_port(port)
        hand = Hand(incarnation, worker, port, number)
        self._hands[incarnation] = self._by_port[number] = hand
        hand.asked = worker is not None and self._flow.open_port(number, True, at_start=True)
        if not hand.asked:
            self._flow.replay(number, RUN_LEVEL)
            self._ask(hand)
        try:
            self._forking[self._nursery.fork_begin(self._spec(hand, name))] = hand
        except NurseryError as error:
            # Its loss is about to be told, and settles this worker with the others.
            log.debug("%s is not forked: %s", self._label(hand), error)

    def _spec(self, hand: Hand, name: int) -> WorkerSpec:
        pebble, bells = self._flow.pebble.segment, self._flow.bells
        return WorkerSpec(
            worker=name,
            incarnation=hand.incarnation,
            pebble_id=pebble.id,
            pebble_bytes=pebble.size,
            segment_id=hand.port.segment.id,
            segment_bytes=hand.port.segment.size,
            bells_id=bells.id,
            bells_bytes=bells.size,
            bell_index=0,
            argv=self._berth.argv,
            info=self._berth.info,
            check_views=self._berth.check_views,
            check_jit=self._berth.check_jit,
            constants=None
            if self._constants is None
            else self._constants.invite(hand.incarnation, self._label(hand)),
            trigger=self._berth.trigger,
        )

    def _kill(self, hand: Hand) -> None:
        if hand.forked is None:
            hand.kill_when_forked = True
            return
        self._output.drain(hand.incarnation)
        self._nursery.kill(hand.forked)

    def _release(self, hand: Hand, cause: Cause) -> None:
        self._flow.bury(hand.number, cause)
        self._done[hand.worker] = self._done.get(hand.worker, 0) + hand.port.counts[0]
        if self._constants is not None:
            self._constants.forget(hand.incarnation)
        self._hands.pop(hand.incarnation, None)
        self._by_port.pop(hand.number, None)
        if hand in self._adopting:
            self._adopting.remove(hand)
        self._flow.sweep_ports()

    def _label(self, hand: Hand) -> str:
        return f"worker {hand.worker}" if hand.worker is not None else f"spare {hand.port.worker}"
