"""The constants of a live run: made once at each BeginRun, shared with every worker, and taken by all of them before BeginRun is complete.

The main thread decides and never waits. A thread of its own makes a set (asks the source, derives, places it in one shared memory
segment); the publisher's thread talks to workers. A set that does not change keeps its segment. What is late is an error that
says who or what it is:

    BeginRun goes out -> a set is made (--calib-timeout) -> it is offered -> each worker takes it (the same limit again) -> BeginRun is complete

Workers' own clocks stand still while the set is made, for that is no fault of theirs.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.broadcast.messages import Offer
from calib.broadcast.publisher import Publisher
from drp.core.config import WORKER_TRANSITION_S, DrpConfig
from drp.core.errors import ConstantsError
from drp.core.units import si
from drp.engine.constants_maker import Made, Maker, Order
from xtc import Config, Dgram, TransitionId

if TYPE_CHECKING:
    from drp.engine._flow import Flow

LONGEST_TAKE_S = WORKER_TRANSITION_S - 5.0  # before the worker itself is given up
LONGEST_STEP_S = 0.5  # what is longer between two looks is drp's own standstill
SPARE_LIMIT_S = 10.0
GRACE_S = 1.0  # a source that keeps the limit itself says better what was wrong

log = logging.getLogger("drp.constants")


@dataclass(slots=True)
class _Guest:
    """One incarnation of a worker or spare. `waited_s`: how long it has had BeginRun in hand without taking the set that is there."""

    ticket: str
    waited_s: float = field(default=0.0)


class Broadcast:
    """All a drp does about constants. `notify` wakes the main loop; all methods are the main thread's."""

    def __init__(self, config: DrpConfig, socket: Path, notify: Callable[[], object]) -> None:
        self.error: ConstantsError | None = None
        self.history: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self._config = config
        self._maker = Maker(config)
        self._orders: queue.SimpleQueue[tuple[int, Order] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, Made | ConstantsError]] = queue.SimpleQueue()
        self._notify = notify
        self._guests: dict[int, _Guest] = {}
        self._configure: tuple[Config, Dgram] | None = None
        self._skipped: tuple[str, ...] = ()
        self._seq = 0
        self._version = 0
        self._began_s = 0.0
        self._making = False
        self._made: Made | None = None
        self._take_limit_s = min(config.calib_timeout_s, LONGEST_TAKE_S)
        self._publisher = Publisher(socket, on_early=notify)
        # One thread, left behind if it hangs: then the run has failed, and there is no other set to make.
        threading.Thread(target=self._work, name="drp/constants", daemon=True).start()

    @property
    def making(self) -> bool:
        """Whether workers that are at BeginRun wait for us."""
        return self._making

    def is_made(self, seq: int) -> bool:
        """Whether the set for the BeginRun of that number is there."""
        return self._seq == seq and not self._making

    def complete(self) -> dict[str, str] | None:
        """All have taken the set: note how long it took since BeginRun went out, and return the fields that BeginRun keeps."""
        if self._made is None:
            return None
        self.history[-1]["complete_s"] = time.monotonic() - self._began_s
        return self._made.record

    # What the crew asks.

    def invite(self, incarnation: int, name: str) -> dict[str, object]:
        """Return what a new worker process must know to take sets."""
        ticket = secrets.token_hex(16)
        self._guests[incarnation] = _Guest(ticket)
        self._publisher.expect(ticket, name)
        limit_s = self._config.calib_timeout_s + self._take_limit_s + SPARE_LIMIT_S
        return {"address": self._publisher.address, "ticket": ticket, "limit_s": limit_s}

    def forget(self, incarnation: int) -> None:
        """A process is gone."""
        guest = self._guests.pop(incarnation, None)
        if guest is not None:
            self._publisher.forget(guest.ticket)

    def has_taken(self, incarnation: int) -> bool:
        """Whether a process has taken the set in force."""
        guest = self._guests.get(incarnation)
        return guest is not None and self._publisher.has(guest.ticket)

    def at_begin_run(self, incarnation: int, worker: int, step_s: float) -> None:
        """A worker has had BeginRun in hand for another `step_s`: past the limit that is an error with its name."""
        guest = self._guests.get(incarnation)
        if guest is None or self._making or self._made is None or self._publisher.has(guest.ticket):
            return
        guest.waited_s += min(step_s, LONGEST_STEP_S)
        if guest.waited_s > self._take_limit_s and self.error is None:
            self.error = ConstantsError(
                f"it has not taken the constants of BeginRun within {self._take_limit_s:g} s: "
                f"{self._publisher.story(guest.ticket)}",
                worker=worker,
                hint="See what that process does (py-spy dump); start again, or raise --calib-timeout.",
            )

    # What the main loop asks.

    def on_configure(self, dgram: bytes, skipped: tuple[str, ...] = ()) -> None:
        """A Configure was answered by all; its BeginRuns are read with it. `skipped`: the detectors that the script wants no constants of."""
        view = Dgram(dgram)
        self._skipped = skipped
        config = Config(view)
        self._configure = config, Dgram(dgram, config=config)

    def look(self, flow: Flow, now_s: float) -> None:
        """Begin to make the set of a BeginRun that went out, and take what is made."""
        while not self._results.empty():
            seq, result = self._results.get()
            if seq == self._seq and self._making:
                self._take(result)
        seq = flow.barrier
        if flow.answering == TransitionId.BeginRun and seq != self._seq:
            self._begin(seq, flow.transition(seq)[0], now_s)
        late_s = now_s - self._began_s
        if self._making and late_s > self._config.calib_timeout_s + GRACE_S:
            self._fail(
                ConstantsError(
                    f"there was no set of constants within {self._config.calib_timeout_s:g} s of BeginRun: {self._maker.doing}",
                    source=self._maker.source,
                    hint="See whether it answers, or raise --calib-timeout.",
                )
            )

    def close(self) -> None:
        """End the threads, remove the socket, let go of the segment."""
        self._publisher.close()
        self._orders.put(None)
        self._maker.close()
        self._made = None

    def _begin(self, seq: int, dgram: bytes, now_s: float) -> None:
        if self._configure is None:
            return
        config, configure = self._configure
        stamp = Dgram(dgram).timestamp
        self._seq, self._began_s, self._making = seq, now_s, True
        for guest in self._guests.values():
            guest.waited_s = 0.0
        self._publisher.begin(stamp)
        self._orders.put((seq, Order(config, configure, dgram, stamp, self._skipped, self._made)))

    def _work(self) -> None:
        """Make sets, in a thread of its own, and tell the main one."""
        while (given := self._orders.get()) is not None:
            seq, order = given
            self._results.put((seq, self._result(order)))
            # What is held here would be held until the next BeginRun.
            del given, order
            self._notify()

    def _result(self, order: Order) -> Made | ConstantsError:
        try:
            return self._maker.make(order)
        except ConstantsError as error:
            return error
        except Exception as error:
            log.exception("the constants could not be made")
            return ConstantsError(f"they could not be made: {error!r}", source=self._maker.source)

    def _take(self, result: Made | ConstantsError) -> None:
        if isinstance(result, ConstantsError):
            self._fail(result)
            return
        self._making = False
        self._made = result
        self._version += 1
        self._publisher.publish(
            Offer(
                self._version,
                result.stamp,
                result.packed_digest,
                result.segment.id,
                result.size_bytes,
                result.entries,
            )
        )
        self._tell(result)

    def _tell(self, made: Made) -> None:
        took_s = time.monotonic() - self._began_s
        for text in made.troubles:
            log.warning("%s; det.raw.calib will raise", text)
            if text not in self.warnings:
                self.warnings.append(text)
        for text in made.doubts:
            if text not in self.warnings:
                log.warning("%s", text)
                self.warnings.append(text)
        log.info(
            "constants of run %s from %s: %s; %s in %s segment %d, digest %s, after %.3f s",
            made.run,
            made.record["source"],
            made.summary or "none",
            si(made.size_bytes, "B"),
            "the same" if made.reused else "a new",
            made.segment.id,
            made.record["digest"][:12],
            took_s,
        )
        self.history.append(
            {"run": made.run, "version": self._version, "reused": made.reused, "size_bytes": made.size_bytes}
            | {"made_s": took_s, "digest": made.record["digest"], "source": made.record["source"]}
            | {"detectors": made.detectors}
        )

    def _fail(self, error: ConstantsError) -> None:
        self._making = False
        self.error = self.error or error


def notifier(fd: int) -> Callable[[], None]:
    """Return what wakes the main loop by its eventfd."""
    return lambda: os.eventfd_write(fd, 1)
