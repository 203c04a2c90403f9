"""The process: it does what control tells it, Configure after Configure, and ends when a signal comes.

One thread, the main one, does all of this. While nothing is configured it waits for commands here; from Configure to Unconfigure it is the
reducer that waits, and calls back with the commands. So what stands here never runs beside itself.

Phase 1 is answered at once, or with why it cannot be. Phase 2 is told when a transition is recorded, and so when the scripts are compiled and the
workers ready; one that fails ends the Configure, not the process, and control is told of what.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any

from drp.core.config import DrpConfig
from drp.core.errors import DrpError, MessageError
from drp.core.ledger import Ledger
from drp.core.partition import OUT_OF_STREAM, RESET, State
from drp.core.report import Report, Snapshot
from drp.engine.descriptors import secure_descriptors
from drp.engine.reducer import EXIT_INTERRUPTED, LAST_S, Reducer, compiled_ahead, make_nursery
from drp.engine.signals import counted_signals
from drp.engine.spawn import Nursery
from drp.engine.transition import Finished
from drp.link.control import Command, Member, told
from drp.link.keys import Keys
from drp.link.ready import say_ready
from drp.link.rundir import RunEntry, RunRecord, run_directory, sweep
from drp.link.sockets import Endpoint
from drp.member.links import Links
from drp.member.plan import Configured, Place, check_limits, configured, output_of, place_of
from drp.member.story import Story
from drp.source import Source, SourceOptions, open_source
from drp.source.naming import Named, first_segment, renamed
from xtc import TransitionId

UNDOING = ("disable", "endstep", "endrun", "unconfigure")
"""What there is nothing to do for in phase 1. Control also says it to undo a transition that failed, here perhaps."""

log = logging.getLogger("drp.run")


class Ended(Exception):
    """A second signal came."""


class Process:
    """One drp of a partition.

    `prepare` looks at a configuration that control gave a script, as the command line's was looked at; `report` gets the account of every
    Configure, and `watch` a look at the one that is going on. What `export` returns is entered once the nursery stands, and left at the end.
    """

    def __init__(
        self,
        config: DrpConfig,
        endpoint: Endpoint,
        links: Links,
        *,
        keys: Keys | None = None,
        prepare: Callable[[DrpConfig], DrpConfig] = lambda config: config,
        report: Callable[[Report], None] = lambda _report: None,
        watch: Callable[[Reducer, Snapshot], None] = lambda _reducer, _snapshot: None,
        export: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._base = config
        self._endpoint = endpoint
        self._links = links
        self._keys = keys
        self._prepare = prepare
        self._report = report
        self._watch = watch
        self._export = export
        self._compiled = compiled_ahead(config) if config.script else ()
        self._commands: deque[Command] = deque()
        self._alloc: dict[str, Any] = {}
        self._place: Place | None = None
        self._next: tuple[Configured, Source, Source] | None = None
        self._reducer: Reducer | None = None
        self._began = False
        self._ending: list[Command] = []
        self._last: list[dict[str, Any]] = []
        self._ended: dict[str, int] | None = None
        self._signals = 0

    def run(self) -> int:
        """Serve until a signal comes; return the exit code."""
        config = self._base
        secure_descriptors(config)
        directory = run_directory()
        for abandoned in sweep(directory):
            log.warning("%s", abandoned)
        entry = RunEntry(os.getpid(), config.instrument, config.platform, config.alias or "drp", time.time())
        self._nursery: Nursery | None = self._new_nursery()
        try:
            with (
                RunRecord(directory, entry) as self._record,
                counted_signals(LAST_S, EXIT_INTERRUPTED) as signals,
                self._export(),
            ):
                self._member = Member(
                    self._endpoint,
                    self._keys,
                    level="drp",
                    alias=config.alias or "drp",
                    describe=self._describe,
                )
                say_ready()
                try:
                    self._serve(signals)
                finally:
                    self._member.close()
        except Ended:
            return EXIT_INTERRUPTED
        finally:
            if self._nursery is not None:
                self._nursery.close()
        return 0

    def _describe(self) -> dict[str, Any]:
        return {"det_info": {"readout": self._base.readout_group}}

    def _serve(self, signals: int) -> None:
        self._callbacks = {signals: self._on_signal, self._member.fd: self._on_commands}
        with selectors.DefaultSelector() as selector:
            for fd, callback in self._callbacks.items():
                selector.register(fd, selectors.EVENT_READ, callback)
            while not self._signals:
                for key, _ in selector.select():
                    key.data(key.fd)
                while self._next is not None and not self._signals:
                    (setup, inner, source), self._next = self._next, None
                    with closing(inner):
                        self._reduce(setup, source)
                    self._obey()

    def _on_signal(self, fd: int) -> None:
        self._signals += os.eventfd_read(fd)
        if self._signals > 1:
            raise Ended
        log.warning("told to stop: a run is closed in order; a second signal ends drp at once")
        if self._reducer is not None:
            self._reducer.stop()

    # Phase 1.

    def _on_commands(self, _fd: int) -> None:
        self._commands += self._member.commands()
        self._obey()

    def _obey(self) -> None:
        """Do what can be done now; while the reducer comes to its end, nothing can."""
        while self._commands and not self._ending and not self._last:
            command = self._commands.popleft()
            try:
                body = self._do(command)
            except DrpError as error:
                log.error("%s: %s", command.key, error)
                self._member.answer(command, error=error)
            else:
                if body is not None:
                    self._member.answer(command, body)

    def _do(self, command: Command) -> dict[str, Any] | None:
        """Do one command, and return its answer; None where there is none, or not yet."""
        body = command.body
        match command.key:
            case "alloc":
                self._alloc = body
            case "connect":
                self._place = place_of(self._alloc, body, self._base.readout_group)
                self._have_nursery(self._compiled)
            case "configure":
                self._configure(body)
            case "beginrun":
                self._begin_run(body)
            case "beginstep" | "enable":
                self._running()
            case "disconnect" | "dealloc":
                self._disconnect()
            case "reset":
                return self._end(command)
            case "unconfigure" if not self._began:
                return self._end(command)  # Configure has not come from timing: neither will Unconfigure
            case "gone":
                log.warning("%s %s is gone", body.get("level"), body.get("alias"))
                return None
            case key if key not in (*UNDOING, "rollcall"):
                raise MessageError(f"a drp knows no {key}")
        if command.key in UNDOING and self._reducer is None:
            return {OUT_OF_STREAM: True}
        return {"connect_info": {}} if command.key == "alloc" else {}

    def _running(self) -> Reducer:
        if self._reducer is None:
            raise MessageError(
                "this drp is not configured", hint="Unconfigure, or reset, and configure again."
            )
        return self._reducer

    def _configure(self, body: dict[str, Any]) -> None:
        if self._place is None:
            raise MessageError("this drp is not connected", hint="Reset the partition.")
        if self._reducer is not None or self._next is not None:
            raise MessageError("this drp is configured already", hint="Reset the partition.")
        setup = configured(self._base, body)
        setup = replace(setup, config=self._prepare(setup.config))
        check_limits(setup.config, self._place, setup.phase2_s)
        config = setup.config
        options = SourceOptions(rate_hz=None, loop=True, instrument=config.instrument)
        inner = open_source(list(config.sources), options)
        named = Named(config.det_name or "", config.det_segment, config.det_id, self._place.id)
        first: int | None = None

        def edit(dgram: bytes) -> bytes:
            nonlocal first
            first = first_segment(dgram, named)
            return renamed(dgram, named, setup.config_json)

        try:
            source = self._links.source(inner, self._place, setup.epoch, edit)
        except BaseException:
            inner.close()
            raise
        self._next = (replace(setup, config=replace(config, first_segment=first)), inner, source)
        self._began = False

    def _begin_run(self, body: dict[str, Any]) -> None:
        place, reducer = self._place, self._running()
        if place is None:
            raise MessageError("this drp is not connected", hint="Reset the partition.")
        output = output_of(self._base, place, body)
        self._story.run = body["run_info"]["run_number"]
        reducer.record_to(output)

    def _disconnect(self) -> None:
        self._place = None
        self._links.disconnect()

    def _end(self, command: Command) -> dict[str, Any] | None:
        """End what is configured, for a reset or an unconfigure out of the stream; the answer waits for the reducer."""
        if self._next is not None:
            for one in self._next[1:]:
                one.close()
            self._next = None
        if self._reducer is None:
            return self._at_end(command)
        self._ending.append(command)
        self._reducer.stop()
        return None

    def _at_end(self, command: Command) -> dict[str, Any]:
        if command.key != RESET:
            return {OUT_OF_STREAM: True}
        self._disconnect()
        return {} if self._ended is None else {"ledger": self._ended}

    # From Configure to Unconfigure.

    def _reduce(self, setup: Configured, source: Source) -> None:
        place = self._place
        config = setup.config
        if place is None:
            return
        self._at_begin, self._files_before, self._ended = Ledger(), 0, None
        self._story = Story(config)
        try:
            nursery = self._have_nursery(compiled_ahead(config))
            reducer = Reducer(
                config,
                self._look,
                observe=self._on_finished,
                judge=self._links.judge(place, setup.epoch),
                monitor=self._links.monitor(place, setup.epoch),
            )
        except DrpError as error:
            source.close()
            self._fail_configure(error)
            return
        self._reducer, self._nursery = reducer, None
        try:
            report = reducer.reduce(nursery, source, self._callbacks, self._record)
            self._nursery = reducer.nursery
            self._report(report)
            if report.error and not self._last:
                self._member.tell("error", told(report.error))
        except DrpError as error:
            source.close()
            self._fail_configure(error)
        finally:
            self._reducer = None
            if self._nursery is None:
                nursery.close()
        if self._nursery is None and not self._signals:
            self._nursery = self._new_nursery()
        self._member.state = State.CONNECTED
        last, self._last = self._last, []
        for said in last:
            self._member.tell("timingTransition", said)
        ending, self._ending = self._ending, []
        for command in ending:
            self._member.answer(command, self._at_end(command))
        self._ended = None

    def _look(self, snapshot: Snapshot) -> None:
        if self._reducer is not None:
            self._watch(self._reducer, snapshot)

    def _on_finished(self, finished: Finished) -> None:
        """Tell control of a transition that is recorded, or has failed."""
        reducer, service = self._running(), finished.service
        if service == TransitionId.SlowUpdate:
            return
        self._began = True
        said: dict[str, Any] = {
            "service": service.name,
            "pulse_id": finished.pulse_id,
            "synthesised": finished.synthesised,
            "error": None if finished.error is None else told(finished.error),
        }
        if service == TransitionId.BeginRun:
            self._at_begin = reducer.ledger()
            self._files_before = len(reducer.closed_files)
            said["files"] = list(reducer.open_files)
        elif service == TransitionId.EndRun:
            said["ledger"] = self._ledger_of_run(reducer)
            self._ended = said["ledger"] if finished.synthesised else None
            said["files"] = reducer.closed_files[self._files_before :]
        elif service == TransitionId.Unconfigure:
            reducer.stop()
        self._story.finished(said)
        if service == TransitionId.Unconfigure or finished.error is not None:
            self._last.append(said)  # whoever is told of it may configure again
        else:
            self._member.tell("timingTransition", said)

    def _ledger_of_run(self, reducer: Reducer) -> dict[str, int]:
        before, now = self._at_begin.as_dict(), reducer.ledger().as_dict()
        return {name: count - before[name] for name, count in now.items()}

    def _fail_configure(self, error: DrpError) -> None:
        log.error("%s", error)
        said = {
            "service": TransitionId.Configure.name,
            "pulse_id": 0,
            "synthesised": False,
            "error": told(error),
        }
        self._member.tell("timingTransition", said)

    # The nursery.

    def _new_nursery(self) -> Nursery:
        nursery = make_nursery(self._compiled)
        nursery.start_begin()
        return nursery

    def _have_nursery(self, compiled: tuple[str, ...]) -> Nursery:
        """Return one that has compiled these kernels; another is started where the one there is has not."""
        if self._nursery is not None and (
            self._nursery.lost is not None or not set(compiled) <= set(self._compiled)
        ):
            self._nursery.close()
            self._nursery = None
        if self._nursery is None:
            self._compiled = tuple(dict.fromkeys((*self._compiled, *compiled)))
            self._nursery = self._new_nursery()
        return self._nursery
