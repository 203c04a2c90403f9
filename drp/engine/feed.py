"""The source's thread: it lends the source free slots, hands in what it put, and ends the run properly.

It takes the GIL once per batch. A source waits when no slot is free, and the time it waits is counted: `stalled_s` is what a beamline
would see as dead time. Whatever ends the feed (the source's end, `stop()`, an error) the transitions that close the run are put.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from drp.core.errors import DrpError
from drp.core.transitions import Sequencer
from drp.engine._flow import Flow
from drp.shm._pebble import Pebble, SlotBatch
from drp.source import END, Source
from xtc.records import time_text

WAIT_S = 0.02
BATCH = 256

log = logging.getLogger("drp.source")


class Feed:
    """Drive one source into one flow, in a thread of its own, until it ends, `events` have come, or stop()."""

    def __init__(self, source: Source, pebble: Pebble, flow: Flow, *, events: int | None, name: str) -> None:
        self.source = source
        self.flow = flow
        self.gate = Sequencer(name)
        self.batch = SlotBatch(pebble, self.gate)
        self.batch.await_enable = True
        self.batch.limit(-1 if events is None else events)
        self.error: Exception | None = None
        self.stalled_s = 0.0
        self._wait_for: Callable[[float], object] | None = getattr(source, "wait", None)
        self._told = False
        self._wanted = max(1, min(BATCH, pebble.n_events // 4))
        self._stop = threading.Event()
        self._abandon = threading.Event()
        self._pause = threading.Event()
        self._run = threading.Event()
        self._run.set()
        self._thread = threading.Thread(target=self._main, name="drp/source", daemon=True)

    @property
    def done(self) -> bool:
        """True once everything, closing transitions included, is handed in."""
        return not self._thread.is_alive()

    @property
    def events(self) -> int:
        """L1Accepts the source has given so far."""
        return self.batch.n_events_put

    @property
    def not_rising(self) -> int:
        """L1Accepts that are not later than the one before them in their run."""
        return self.batch.n_not_rising

    @property
    def lost(self) -> int:
        """L1Accepts the source says were lost before they came to a slot; a source that can wait loses none and says nothing."""
        return int(getattr(self.source, "lost_events", 0))

    def start(self) -> None:
        """Begin to take dgrams."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more from the source; the run is closed."""
        self._stop.set()
        self._run.set()

    def abandon(self) -> None:
        """End at once, without closing the run."""
        self._abandon.set()
        self.stop()

    def hold(self) -> None:
        """Take nothing until resume(): back-pressure on the source."""
        self._run.clear()

    def resume(self) -> None:
        """Go on after hold()."""
        self._run.set()

    def pause(self) -> None:
        """Have a Disable and an Enable put between two events, so that a new chunk can begin."""
        self._pause.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; False if it has not come."""
        self._thread.join(timeout_s)
        return self.done

    def _main(self) -> None:
        try:
            self._take()
        except DrpError as error:
            log.error("%s; the run is closed with what came before", error)
            self.error = error
        except Exception as error:
            log.exception("the source failed; the run is closed with what it gave")
            self.error = error
        try:
            while not self._abandon.is_set() and not self.batch.close_run():
                self.flow.hand_in(self.batch, 0, WAIT_S)
            self.flow.hand_in(self.batch, 0, 0)
        except Exception as error:
            log.exception("the run could not be closed")
            self.error = self.error or error
        finally:
            self.source.close()

    def _take(self) -> None:
        paced = self._wait_for is not None
        while not self._stop.is_set():
            if not self._run.wait(WAIT_S):
                continue
            self._room(1 if paced else self._wanted)
            if self.batch.budget == 0:
                return
            if self._pause.is_set() and self.batch.pause():
                self._pause.clear()
            if not self.batch.transitions_free or (self._wait_for is None and not self.batch.events_free):
                continue
            put = self.source.fill(self.batch)
            self._tell_not_rising()
            if put == END:
                return
            if put == 0 and self.batch.events_free:
                paced = self._wait()

    def _wait(self) -> bool:
        """Wait for the source, which had nothing; returns whether it is paced, so that one free slot is enough for it."""
        if self._wait_for is not None:
            self._wait_for(WAIT_S)
            return True
        wait_s = self.source.wait_s()
        self._stop.wait(min(wait_s, WAIT_S) or 0.0005)
        return wait_s > 0

    def _tell_not_rising(self) -> None:
        if self.batch.n_not_rising and not self._told:
            self._told = True
            number, at, after = self.batch.first_not_rising
            log.warning(
                "%s: event %d, at %s, is not later than the one before it, at %s: recorded as it came (more of these are only counted)",
                self.gate.source,
                number,
                time_text(at),
                time_text(after),
            )

    def _room(self, wanted: int) -> None:
        """Hand in what was put and get free slots; count the time the source has to wait for the first one."""
        budget = self.batch.budget
        began = time.monotonic()
        room = self.flow.hand_in(self.batch, wanted if budget < 0 else min(wanted, budget), WAIT_S)
        waited_s = time.monotonic() - began
        if room < wanted and waited_s >= WAIT_S:
            self.stalled_s += waited_s
