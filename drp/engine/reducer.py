"""One drp from start to end: pebble, nursery, workers, source, recorder, and the main loop that decides.

The main thread polls: processes, their output, the nursery, signals and the flow's notices all come as readable descriptors, and
whatever has a limit is looked at every 20 ms. Events never pass through here.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from drp.core.config import COMPILE_LIMIT_S, DrpConfig
from drp.core.errors import ConstantsError, DrpError, RecorderError, ScriptError, SegmentError
from drp.core.ledger import Ledger
from drp.core.report import Readings, Report, Snapshot
from drp.engine._flow import Flow
from drp.engine.account import Account, info_of
from drp.engine.crew import Berth, Crew
from drp.engine.descriptors import secure_descriptors
from drp.engine.feed import Feed
from drp.engine.judging import Judge
from drp.engine.notices import Kind
from drp.engine.script_text import kernels_of
from drp.engine.signals import counted_signals
from drp.engine.sizes import N_TRANSITIONS, arena_bytes, make_pebble, stalls_when_hung
from drp.engine.spawn import DEFAULT_PRELOAD, Nursery
from drp.engine.transition import Finished, Transitions
from drp.link.rundir import RunDirectoryError, RunEntry, RunRecord, run_directory, sweep
from drp.shm._pebble import Pebble
from drp.sink.recorder import Output, Recorder
from drp.source import Source, SourceOptions, open_source

if TYPE_CHECKING:
    from drp.engine.constants import Broadcast
    from drp.engine.meblink import MebLinks

TICK_S = 0.02
JOIN_S = 5.0
EXIT_INTERRUPTED = 130
CALIBRATING = "drp.script.constants_set:prepare"
LAST_S = 0.7
TRACEBACK_S = 0.2
WRITE_TRIES_S = 30.0
# Somebody may make room; the next may pass by themselves; any other stays as it is.
ROOM_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
PASSING_ERRNOS = (errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.ETIMEDOUT, errno.ESTALE)

log = logging.getLogger("drp.run")


class Interrupted(Exception):
    """A second signal came: end now. Whoever does not is ended, LAST_S after the signal."""


def output_of(config: DrpConfig) -> Output | None:
    """Return where a run is recorded, None where it is not."""
    if config.out_dir is None:
        return None
    return Output(
        config.out_dir,
        config.instrument,
        config.expt,
        config.run,
        config.det_segment,
        config.overwrite,
        config.chunk_bytes,
    )


def compiled_ahead(config: DrpConfig) -> tuple[str, ...]:
    """Return what the nursery calls to compile kernels: what calibrates, where there are constants, and what the script names."""
    return (*((CALIBRATING,) if config.has_constants else ()), *kernels_of(config.script))


def make_nursery(compiled: Sequence[str]) -> Nursery:
    """Return a nursery, not started, that compiles these kernels first."""
    if not compiled:
        return Nursery()
    return Nursery(preload=(*DEFAULT_PRELOAD, *compiled), start_limit_s=COMPILE_LIMIT_S)


class Reducer:
    """Run what `config` says once. `watch` is called with a Snapshot about every 0.5 s.

    What `beside` gives is entered once the nursery is started, which is to be before the first thread, and left when the run is over.

    `judge` decides which events are kept (None: all are); it is for this one run.

    `run` is a process of its own, `reduce` a part of one that has the source and the nursery already. Then `observe` is told of every
    transition that is finished, `monitor` gets copies of what is monitored, `make_recorder` may put another end to the flow (it is given the
    bytes that a transition may have), and `nursery` is, after `reduce`, the one that can be used again, or None. With `trigger` the script is a
    partition's trigger, and the source gives it batches.
    """

    def __init__(
        self,
        config: DrpConfig,
        watch: Callable[[Snapshot], None] | None = None,
        beside: Callable[[], AbstractContextManager[object]] = nullcontext,
        *,
        observe: Callable[[Finished], None] | None = None,
        make_recorder: Callable[[int], Recorder] | None = None,
        judge: Judge | None = None,
        trigger: bool = False,
        monitor: MebLinks | None = None,
    ) -> None:
        self.nursery: Nursery | None = None
        self._config = config
        self._watch = watch
        self._beside = beside
        self._observe = observe
        self._make_recorder = make_recorder or self._own_recorder
        self._judge = judge
        self._trigger = trigger
        self._monitor = monitor
        self._signals = 0
        self._compiled = compiled_ahead(config)
        self._warnings = list(config.notes)
        self._began_s = time.monotonic()
        self._stop_by_s: float | None = None
        self._was_paused = False
        self._write_by_s: float | None = None
        self._chunk_asked = False
        self._files: tuple[int | None, tuple[str, ...]] = (None, ())

    def run(self) -> Report:
        """Run to the end and return the account. Raises ConfigError or SourceError before anything ran, Interrupted after two signals."""
        config = self._config
        secure_descriptors(config)
        directory = run_directory()
        for abandoned in sweep(directory):
            log.warning("%s", abandoned)
            self._warnings.append(str(abandoned))
        entry = RunEntry(os.getpid(), config.instrument, config.platform, config.alias or "drp", time.time())
        with make_nursery(self._compiled) as nursery:
            nursery.start_begin()
            with self._beside():
                source = self._open_source()
                with (
                    RunRecord(directory, entry) as record,
                    counted_signals(LAST_S, EXIT_INTERRUPTED) as signals,
                ):
                    return self._reduce(nursery, source, {signals: self._on_signal}, record, keep=False)

    def reduce(
        self,
        nursery: Nursery,
        source: Source,
        descriptors: Mapping[int, Callable[[int], None]],
        record: RunRecord | None = None,
    ) -> Report:
        """Reduce what an open source gives, with workers of a nursery that was started; return the account.

        The source is closed. `descriptors` are polled as well: where one is readable, its function is called with it, in this thread.
        Without `record` there are no constants. What fails is in the account; Interrupted and whatever a callback raises is passed on.
        """
        return self._reduce(nursery, source, descriptors, record, keep=True)

    def stop(self) -> None:
        """Take no more from the source: the run is closed in order, within --stop-timeout. For the thread that runs."""
        self._stop_by_s = self._stop_by_s or time.monotonic() + self._config.stop_timeout_s
        self._feed.stop()

    def record_to(self, output: Output | None) -> None:
        """Say where runs from the next BeginRun on are recorded. For the thread that runs, while no run is going on."""
        self._recorder.output = output

    def ledger(self) -> Ledger:
        """Return fates and damages of all events since the Configure; from the thread that runs."""
        return self._account.ledger()

    @property
    def closed_files(self) -> list[str]:
        """All files closed since the Configure."""
        return [str(one.path) for one in self._recorder.files]

    @property
    def open_files(self) -> tuple[str, ...]:
        """The files of the run that is being recorded."""
        return self._recorder.open_files[1]

    def _open_source(self) -> Source:
        config = self._config
        options = SourceOptions(
            rate_hz=config.rate_hz, loop=config.loop, events=config.events, instrument=config.instrument
        )
        source = open_source(list(config.sources), options)
        self._warnings += getattr(source, "warnings", ())
        return source

    def _own_recorder(self, transition_bytes: int) -> Recorder:
        config = self._config
        return Recorder(output_of(config), transition_bytes, constants=config.has_constants)

    def _reduce(
        self,
        nursery: Nursery,
        source: Source,
        descriptors: Mapping[int, Callable[[int], None]],
        record: RunRecord | None,
        *,
        keep: bool,
    ) -> Report:
        with selectors.DefaultSelector() as selector:
            for fd, callback in descriptors.items():
                selector.register(fd, selectors.EVENT_READ, callback)
            return self._run(nursery, source, selector, record, keep=keep)

    def _run(
        self,
        nursery: Nursery,
        source: Source,
        selector: selectors.BaseSelector,
        record: RunRecord | None,
        *,
        keep: bool,
    ) -> Report:
        config = self._config
        pebble = make_pebble(config, source, level=logging.DEBUG if self._trigger else logging.INFO)
        if text := stalls_when_hung(config, pebble):
            self._warn(text)
        self._notify = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._constants = self._broadcast(record)
        self._recorder = self._make_recorder(pebble.result_bytes)
        self._flow = Flow(pebble, self._recorder.l1, self._notify)
        if self._monitor is not None:
            self._flow.copy_to(self._monitor.copies(pebble.event_bytes, pebble.transition_bytes))
        self._feed = Feed(source, pebble, self._flow, events=config.events, name=source.describe())
        self._run_record = record
        berth = Berth(
            (config.script, *config.script_args),
            self._info(pebble),
            arena_bytes(pebble.event_bytes, pebble.result_bytes),
            pebble.n_events + N_TRANSITIONS,
            config.check_views,
            config.check_jit,
            bool(self._compiled),
            self._trigger,
        )
        self._crew = Crew(
            config,
            self._flow,
            berth,
            nursery,
            selector,
            self._hold_source,
            self._route,
            make_nursery=lambda: make_nursery(self._compiled),
            constants=self._constants,
        )
        self._account = Account(
            config, self._flow, self._feed, self._crew, self._recorder, self._began_s, self._judge
        )
        self._transitions = Transitions(
            self._flow,
            self._crew,
            self._recorder,
            self._account.ledger_fields,
            self._constants,
            self._observe,
            self._judge,
            self._monitor,
        )
        selector.register(self._notify, selectors.EVENT_READ, self._on_notify)
        threads = [
            threading.Thread(target=self._flow.run_engine, name="drp/engine", daemon=True),
            threading.Thread(target=self._flow.run_recorder, name="drp/recorder", daemon=True),
        ]
        error: DrpError | None = None
        interrupted = True
        try:
            if self._judge is not None:
                self._judge.start(self._flow)
            for thread in threads:
                thread.start()
            self._feed.hold()  # until the nursery is ready and the workers are forked
            self._feed.start()
            self._crew.begin()
            error = self._loop(selector)
            if error is not None:
                self._transitions.tell_failed(error)
            if error is not None and not isinstance(error, ScriptError):
                log.error("%s", error)
            self._end(selector, error)
            interrupted = False
        finally:
            self._feed.abandon()
            if self._judge is not None:
                self._judge.close()
            self._flow.stop(give_up=interrupted or error is not None)
            self.nursery = self._crew.close(keep_nursery=keep and not interrupted)
            self._feed.join(0.2)
            for thread in threads:
                thread.join(JOIN_S if not interrupted else 0.2)
            unclosed = self._close_files()
            if self._constants is not None:
                self._constants.close()
            os.close(self._notify)
        constants = self._constants
        for text in self._account.warnings():
            self._warn(text)
        return self._account.report(
            error or unclosed,
            self._transitions,
            [*self._warnings, *(constants.warnings if constants else ())],
            constants.history if constants else (),
        )

    def _close_files(self) -> RecorderError | None:
        """Close files that are still open; return the error of one that cannot be, for the account of the run tells of it."""
        self._flow.hold_files()
        try:
            self._recorder.close()
        except RecorderError as error:
            log.error("%s", error)
            return error
        finally:
            self._flow.release_files()
        return None

    def _broadcast(self, record: RunRecord | None) -> Broadcast | None:
        """Return what shares constants with the workers, None where there are none; ConstantsError where it cannot be set up."""
        config = self._config
        if not config.has_constants or record is None:
            return None
        from calib import CalibError  # noqa: PLC0415 - a run without constants pays for neither
        from drp.engine.constants import Broadcast, notifier  # noqa: PLC0415 - as above

        name = f"{config.instrument}-{config.platform}-{config.alias or 'drp'}"
        try:
            return Broadcast(config, record.socket_path(name), notifier(self._notify))
        except CalibError as error:
            raise ConstantsError(error.what, source=error.where, hint=error.hint) from error

    def _info(self, pebble: Pebble) -> dict[str, object]:
        sizes = {"pebble_bufsize": pebble.event_bytes, "transition_bufsize": pebble.result_bytes}
        return info_of(self._config) | sizes

    # The main loop.

    def _loop(self, selector: selectors.BaseSelector) -> DrpError | None:
        """Go on until everything is recorded, or an error ends the run; returns that error."""
        looked_s = told_s = time.monotonic()
        while True:
            try:
                self._poll(selector)
                now_s = time.monotonic()
                if now_s - looked_s >= TICK_S / 2:
                    looked_s = now_s
                    self._crew.tick(now_s)
            except SegmentError as no_room:
                return SegmentError(
                    f"there is no room for the rings of a worker: {no_room.what}",
                    hint=f"{no_room.hint} Or take fewer workers (-W), or smaller results (-k trBufSize=).",
                )
            except DrpError as error:  # no other nursery can be started
                return error
            if self._watch is not None and now_s - told_s >= 0.5:
                self._watch(self._snapshot(now_s, now_s - told_s))
                told_s = now_s
            if self._constants is not None:
                self._constants.look(self._flow, now_s)
            constants_error = None if self._constants is None else self._constants.error
            judge_error = None if self._judge is None else self._judge.error
            failed = constants_error or self._transitions.error or judge_error or self._crew.failed
            if failed is not None:
                return failed
            if self._crew.stop_asked is not None:
                self._feed.stop()
            self._look_at_files()
            self._look_at_disk()
            if (unwritable := self._unwritable(now_s)) is not None:
                return unwritable
            if self._stop_by_s is not None and now_s > self._stop_by_s and not self._goes_on_unjudged():
                return self._unfinished(selector)
            if self._done():
                return self._crew.stop_asked

    def _unwritable(self, now_s: float) -> DrpError | None:
        """Return the error of a write that will not succeed however long it is waited for."""
        code = self._paused_errno
        if not code or code in ROOM_ERRNOS:
            self._write_by_s = None
            return None
        if self._write_by_s is None:
            self._write_by_s = now_s + (WRITE_TRIES_S if code in PASSING_ERRNOS else 0.0)
        if now_s < self._write_by_s:
            return None
        return RecorderError(
            f"it cannot be written: {os.strerror(code)} ({errno.errorcode.get(code, code)})",
            path=self._recorded_to,
            errno=code,
            hint="What is in it is whole; the events after it are not recorded.",
        )

    def _goes_on_unjudged(self) -> bool:
        """Where a stop has waited long enough for the trigger, do without it: what it has not decided is kept, and the run is closed."""
        if self._judge is None or not (count := self._flow.load()["to_judge"]):
            return False
        self._warn(f"the trigger had not decided on {count:,} dgrams within --stop-timeout: they are kept")
        self._judge.close()
        self._stop_by_s = time.monotonic() + self._config.stop_timeout_s
        return self._flow.load()["to_judge"] == 0

    def _unfinished(self, selector: selectors.BaseSelector) -> DrpError:
        """Return the error of a stop that took too long: what it waits for, and what to do about that."""
        late = "what was in flight did not finish within --stop-timeout"
        if code := self._paused_errno:
            return RecorderError(
                f"{late}, since it cannot be written: {os.strerror(code)}",
                path=self._recorded_to,
                errno=code,
                hint="Make room where it is recorded, or record elsewhere (-o), and start again.",
            )
        if not (busy := self._crew.ask_the_busy()):
            return DrpError(late, hint="Raise --stop-timeout.")
        told_by_s = time.monotonic() + TRACEBACK_S
        while time.monotonic() < told_by_s:
            self._poll(selector)
        return DrpError(
            f"{late}: {', '.join(busy)} does not answer"
            if len(busy) == 1
            else f"{late}: {', '.join(busy)} do not answer",
            hint="The tracebacks above say where they stand; mend that, or raise --stop-timeout.",
        )

    @property
    def _recorded_to(self) -> str:
        return next(iter(self._recorder.open_files[1]), str(self._config.out_dir or ""))

    def _poll(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(TICK_S):
            # A callback may have closed a later one's descriptor, and its number may be another's by now.
            if selector.get_map().get(key.fd) is key:
                key.data(key.fd)
        self._route()
        while self._transitions.poll():
            self._route()

    def _look_at_files(self) -> None:
        """Keep the run's record up to date, and ask for a new chunk where one is due."""
        files = self._recorder.open_files
        if files != self._files:
            self._files = files
            try:
                if self._run_record is not None:
                    self._run_record.update(run=files[0], output_files=files[1])
            except RunDirectoryError as error:
                self._warn(f"{error}: were drp killed now, the next start would not say of which run")
        full = self._recorder.chunk_is_full
        if full and not self._chunk_asked:
            self._feed.pause()
        self._chunk_asked = full

    def _done(self) -> bool:
        over = self._feed.done and self._transitions.idle and self._flow.record_next == self._flow.submit_next
        return over and self._crew.settle(time.monotonic())

    def _end(self, selector: selectors.BaseSelector, error: DrpError | None) -> None:
        """Tell the workers to leave and wait for the last one; after an error they are killed."""
        if error is not None and self._crew.stop_asked is None:
            return
        self._crew.end()
        while not self._crew.ended(time.monotonic()):
            self._poll(selector)
            self._crew.tick(time.monotonic())

    def _on_notify(self, fd: int) -> None:
        os.read(fd, 8)
        self._look_at_disk()

    @property
    def _paused_errno(self) -> int:
        """What keeps events, or the last of a chunk or a run, from the disk; 0 where nothing does."""
        return self._flow.paused_errno if self._flow.paused else self._transitions.paused_errno

    @property
    def _trouble(self) -> str:
        """What holds the run up, for the status line."""
        if self._paused_errno:
            return f"disk: {os.strerror(self._paused_errno)}"
        if self._flow.pass_raw:
            return "no worker: events pass raw"
        if self._judge is not None and self._judge.trouble:
            return f"trigger: {self._judge.trouble}"
        return "constants: not there yet" if self._constants is not None and self._constants.making else ""

    def _look_at_disk(self) -> None:
        code = self._paused_errno
        if code and not self._was_paused:
            log.error(
                "recording pauses: %s; events wait in the pebble%s",
                os.strerror(code),
                ", it goes on when there is room" if code in ROOM_ERRNOS else "",
            )
        elif self._was_paused and not code:
            log.warning("recording goes on")
        self._was_paused = bool(code)

    def _route(self) -> None:
        """Hand the flow's notices to whom they concern."""
        for notice in self._flow.take_notices():
            match notice.kind:
                case Kind.ANSWER:
                    self._transitions.on_answer(notice)
                case Kind.REPLAYED:
                    self._transitions.on_replayed(notice)
                case Kind.BARRIER:
                    self._transitions.on_barrier(notice)
                case Kind.FAILED:
                    self._crew.on_failure(notice)
                case Kind.OVERFLOW:
                    self._crew.on_overflow(notice)

    def _hold_source(self, held: bool) -> None:
        if held:
            self._feed.hold()
        else:
            self._feed.resume()

    def _on_signal(self, count: int) -> None:
        self._signals += os.eventfd_read(count)
        if self._signals > 1:
            raise Interrupted
        log.warning("told to stop: what is in flight is finished; a second signal ends drp at once")
        self.stop()

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        if text not in self._warnings:
            self._warnings.append(text)

    def _snapshot(self, now_s: float, since_s: float) -> Snapshot:
        return self._account.snapshot(
            "stopping" if self._signals else "running",
            now_s,
            since_s,
            paused=bool(self._paused_errno),
            trouble=self._trouble,
        )

    def readings(self, now: Snapshot) -> Readings:
        """Return all that is counted, beside the snapshot just taken; from the thread that runs, as `watch` is called."""
        monitored = {} if self._monitor is None else self._monitor.counts()
        return replace(self._account.readings(now), monitored=monitored)
