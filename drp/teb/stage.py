"""The trigger script's stage of a teb: built events go to a worker process in batches, verdicts come back.

It is a drp's engine with another source and another end: a batch is an L1Accept of our own making in a pebble, the script runs in a worker
that the crew keeps, with the same time-outs, restarts and spare, and what would be recorded becomes verdicts. Whatever goes wrong with the
script, or with all of the engine, each submitted event comes back once, in order; without the script's answer it persists.

One thread (`drp/trigger`) runs the engine of one Configure after another. All methods are for one other thread.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.batch import BATCH_BYTES, RESULT, Contributor, Layout
from drp.core.config import DrpConfig
from drp.core.errors import DrpError, ScriptError
from drp.core.ledger import Cause
from drp.core.report import Snapshot
from drp.core.wire import MAX_JSON_BYTES, PERSIST
from drp.engine.reducer import Reducer
from drp.engine.spawn import Nursery
from drp.engine.transition import Finished
from drp.script.trigger import setup_dgram
from drp.shm._block import NamesTable
from drp.sink._gather import Gather
from drp.sink.recorder import Recorder
from drp.source.base import END, Slots
from drp.teb._verdicts import VerdictWriter
from xtc import TransitionId, encode_dgram

N_BATCHES = 16
IN_FLIGHT = 3
"""Batches that are out at once: one with the script, one before it and one on its way back. More would only make batches smaller."""
RESULT_ROOM = 64 << 10
SETUP_ROOM = 64 << 10
PRELOAD = ("numpy",)
"""What workers find imported: a trigger script seldom compiles kernels, and a nursery without numba is there sooner."""
CLOSE_S = 20.0
WAIT_S = 0.5

log = logging.getLogger("drp.teb")


@dataclass(frozen=True, slots=True)
class StageConfig:
    """The script of a trigger stage with its arguments, and its limits in seconds; times are those of one batch."""

    script: str
    args: tuple[str, ...] = ()
    event_timeout_s: float = 2.0
    first_event_timeout_s: float = 10.0
    instrument: str = "drp"
    platform: int = 0
    spares: int = 1

    def drp(self) -> DrpConfig:
        """Return the configuration of the engine."""
        return DrpConfig(
            self.script,
            self.args,
            sources=("teb",),
            workers=1,
            spares=self.spares,
            instrument=self.instrument,
            platform=self.platform,
            event_timeout_s=self.event_timeout_s,
            first_event_timeout_s=max(self.first_event_timeout_s, self.event_timeout_s),
            pebble_slot_bytes=BATCH_BYTES + RESULT_ROOM,
            pebble_slots=N_BATCHES,
            transition_bytes=2 * MAX_JSON_BYTES + SETUP_ROOM,
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """What the stage did since the Configure: events and batches answered, batches without an answer of the script, workers replaced."""

    events: int
    batches: int
    failed_batches: int
    restarts: int


class BatchSource:
    """The source of a stage's engine: what it is given, in order, until it is closed."""

    max_event_bytes = BATCH_BYTES
    max_transition_bytes = 2 * MAX_JSON_BYTES

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._news = threading.Event()
        self._ended = False

    def put(self, dgram: bytes, pulse_id: int = 0) -> None:
        """Have a dgram go out."""
        self._waiting.append((dgram, pulse_id))
        self._news.set()

    def end(self) -> None:
        """Say that no more comes."""
        self._ended = True
        self._news.set()

    def fill(self, slots: Slots) -> int:
        """Put what waits and has a slot."""
        done = 0
        self._news.clear()
        while self._waiting and slots.put(*self._waiting[0]):
            self._waiting.popleft()
            done += 1
        return END if self._ended and not self._waiting and not done else done

    def wait_s(self) -> float:
        """Return 0: nobody knows when the next comes."""
        return 0.0

    def wait(self, timeout_s: float) -> None:
        """Return once something waits, or after so long."""
        self._news.wait(timeout_s)

    def close(self) -> None:
        """Do nothing."""

    def describe(self) -> str:
        """Return one line."""
        return "built events"


class VerdictRecorder(Recorder):
    """The end of a stage's engine."""

    def __init__(self, transition_bytes: int, notify_fd: int) -> None:
        super().__init__(None, transition_bytes)
        self.l1 = self.verdicts = VerdictWriter(Gather(), NamesTable())
        self.verdicts.notify_fd = notify_fd


class _Engine:
    """The engine of one Configure, while it runs and afterwards."""

    def __init__(self, config: StageConfig, notify_fd: int) -> None:
        self.config = config
        self.source = BatchSource()
        self.writer: VerdictWriter | None = None
        self.stands = threading.Event()
        self.ended = threading.Event()
        self.error: DrpError | str | None = None
        self.restarts = 0
        self._notify_fd = notify_fd
        self._reducer = Reducer(
            config.drp(), self._watch, observe=self._observe, make_recorder=self._recorder, trigger=True
        )

    def run(self, nursery: Nursery | None) -> Nursery | None:
        """Run it to its end, with this nursery or another; return the one that can be used again."""
        try:
            if nursery is None:
                nursery = Nursery(preload=PRELOAD)
                nursery.start_begin()
            report = self._reducer.reduce(nursery, self.source, {})
            self.error = self.error or report.error or None
            self.restarts = sum(one.restarts for one in report.workers)
        except Exception as error:
            log.exception("the trigger's engine failed")
            self.error = self.error or f"{type(error).__name__}: {error}"
        finally:
            self.ended.set()
            os.eventfd_write(self._notify_fd, 1)
        return self._reducer.nursery

    def _recorder(self, transition_bytes: int) -> Recorder:
        recorder = VerdictRecorder(transition_bytes, self._notify_fd)
        self.writer = recorder.verdicts
        return recorder

    def _observe(self, finished: Finished) -> None:
        if finished.error is not None:
            self.error = self.error or finished.error
        elif finished.service == TransitionId.Enable:
            self.stands.set()
            os.eventfd_write(self._notify_fd, 1)

    def _watch(self, now: Snapshot) -> None:
        self.restarts = now.restarts


class TriggerStage:
    """Run a trigger script on batches of built events.

    `fd` is readable where there may be verdicts, or the script of a Configure stands or has failed. `start`, then for each Configure `begin`, and
    when `ready` says so `submit` as there is `room`. Nothing but `close` and `configure` waits.
    """

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._nursery: Nursery | None = None
        self._jobs: queue.SimpleQueue[_Engine | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="drp/trigger", daemon=True)
        self._engine: _Engine | None = None
        self._layout = Layout(())
        self._pending: deque[npt.NDArray[Any]] = deque()
        self._number = 0
        self._answered = self._persisted = 0

    def start(self) -> None:
        """Start the nursery and the thread; before other threads."""
        self._nursery = Nursery(preload=PRELOAD)
        self._nursery.start_begin()
        self._thread.start()

    def begin(
        self,
        contributors: Sequence[Contributor],
        connect: Mapping[str, Any],
        *,
        script: Sequence[str] | None = None,
        platform: int | None = None,
    ) -> None:
        """Begin to run the script, or another with its arguments, for this Configure.

        What an earlier one has not answered is not decided on any more. `connect`: see `connect_info`. Raises ScriptError where there is no such
        file, ValueError for contributors that do not fit.
        """
        self.unconfigure()
        named, *args = script or (self._config.script, *self._config.args)
        if not Path(named).is_file():
            raise ScriptError(f"there is no trigger script {named}", transition="Configure")
        platform = self._config.platform if platform is None else platform
        config = replace(self._config, script=named, args=tuple(args), platform=platform)
        self._layout = Layout(tuple(contributors))
        self._number = self._answered = self._persisted = 0
        engine = self._engine = _Engine(config, self.fd)
        engine.source.put(setup_dgram(contributors, connect, platform, 1))
        for stamp, service in enumerate((TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable)):
            engine.source.put(encode_dgram(service, stamp + 2, []))
        self._jobs.put(engine)

    @property
    def ready(self) -> bool:
        """Whether the script waits for events.

        Where it has failed at its Configure this raises, once, ScriptError with its traceback; DrpError where nothing can be run.
        """
        engine = self._engine
        if engine is None:
            return False
        if engine.ended.is_set() and not engine.stands.is_set():
            self._engine = None
            error = engine.error or "the trigger's engine ended by itself"
            raise error if isinstance(error, DrpError) else DrpError(str(error))
        return engine.stands.is_set()

    def configure(
        self,
        contributors: Sequence[Contributor],
        connect: Mapping[str, Any],
        *,
        script: Sequence[str] | None = None,
        platform: int | None = None,
    ) -> None:
        """Do `begin`, and return when the script is ready; raises what they raise."""
        self.begin(contributors, connect, script=script, platform=platform)
        while not self.ready:
            select.select([self.fd], [], [], WAIT_S)
            with suppress(BlockingIOError):
                os.eventfd_read(self.fd)

    @property
    def room(self) -> int:
        """How many events may be submitted now; where it is 0 there is room again after some verdicts were taken."""
        engine = self._engine
        stands = engine is not None and engine.stands.is_set()
        return self._layout.max_events if stands and len(self._pending) < IN_FLIGHT else 0

    def submit(self, events: npt.NDArray[Any], rows: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Have these events decided on, 1 to `room`; see `Layout.encode`."""
        engine = self._engine
        if engine is None or not self.room:
            raise DrpError("the trigger stage takes no events now", hint="Ask for its room.")
        self._number += 1
        dgram = self._layout.encode(events, rows, self._number)
        self._pending.append(np.array(events[["number", "pulse_id"]]))
        engine.source.put(dgram, int(events["pulse_id"][0]))

    def verdicts(self) -> npt.NDArray[Any]:
        """Return the verdicts there are, a RESULT array in the order of submission; empties `fd`."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        engine = self._engine
        if engine is None:
            return np.empty(0, RESULT)
        over = engine.ended.is_set()
        found = np.empty(0, RESULT) if engine.writer is None else engine.writer.take()
        taken = 0
        while taken < len(found):
            taken += len(self._pending.popleft())
        self._answered += len(found)
        if over and self._pending:
            found = np.concatenate([found, self._persist_all(engine)])
        return found

    def _persist_all(self, engine: _Engine) -> npt.NDArray[Any]:
        """Return what is kept because there is no engine any more."""
        if not self._persisted:
            log.error(
                "the trigger script cannot be run any more: all events persist: %s",
                engine.error or "its engine ended",
            )
        events = np.concatenate(self._pending)
        self._pending.clear()
        out = np.zeros(len(events), RESULT)
        out["number"], out["pulse_id"] = events["number"], events["pulse_id"]
        out["result"], out["cause"] = PERSIST, Cause.no_worker
        self._persisted += len(out)
        return out

    @property
    def counts(self) -> Counts:
        """What was done since the Configure."""
        engine = self._engine
        writer = None if engine is None else engine.writer
        if engine is None or writer is None:
            return Counts(0, 0, 0, 0)
        return Counts(self._answered + self._persisted, writer.batches, writer.failed, engine.restarts)

    def unconfigure(self) -> None:
        """Have the script end; events that are still out are not decided on any more."""
        engine, self._engine = self._engine, None
        self._pending.clear()
        if engine is not None:
            engine.source.end()

    def close(self) -> None:
        """End everything, within CLOSE_S."""
        self.unconfigure()
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.error("the trigger script does not end: it is left behind")
            return
        os.close(self.fd)

    def _main(self) -> None:
        while (engine := self._jobs.get()) is not None:
            nursery, self._nursery = self._nursery, None
            self._nursery = engine.run(nursery)
        if self._nursery is not None:
            self._nursery.close()
