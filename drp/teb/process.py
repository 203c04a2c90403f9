"""A teb's main loop: links, event builder and decider, and the word of control.

One thread does it all, and waits for nothing but news. While there is nothing to decide on it sleeps in one poll; under load each turn takes all
that has come, so batches grow by themselves and cost no latency when there is little to do.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from drp.core import wire
from drp.core._builder import EventBuilder
from drp.core.batch import Contributor, EventFlag
from drp.core.building import COUNTERS, Batch, Transition
from drp.core.errors import DrpError
from drp.teb.connect import connect_info
from drp.teb.deciding import Decider
from drp.teb.server import Limits, Links
from drp.teb.words import WordsPublisher
from xtc import TransitionId

POLL_S = 0.1
STALL_NS = 500_000_000
TOLD_INCIDENTS = 50
MOST_UNASKED = 4096

log = logging.getLogger("drp.teb")


@dataclass(frozen=True, slots=True)
class TebConfig:
    """What a teb is told at its start. `prescale`: every so many events of a run are kept with raw data, 0: none. `script`: with its arguments."""

    script: tuple[str, ...] = ()
    prescale: int = 0
    limits: Limits = field(default_factory=Limits)
    instrument: str = "tst"
    platform: int = 0


@dataclass(slots=True)
class Counts:
    """What was decided; by LCLS's names in `Teb.metrics`."""

    batches: int = 0
    events: int = 0
    persisted: int = 0
    prescaled: int = 0
    by_meb: list[int] = field(default_factory=lambda: [0] * wire.MAX_MEBS)
    unanswered: int = 0
    transitions: int = 0
    decision_ns: int = 0


class Clock:
    """The monotonic clock, but for the time in which this process itself stood still: then nobody was late."""

    def __init__(self, read: Callable[[], int] = time.monotonic_ns) -> None:
        self._read = read
        self._last = read()
        self._lost = 0

    def now_ns(self) -> int:
        """Return the time by which contributors are waited for."""
        return self._last - self._lost

    def turn(self, slept_ns: int) -> None:
        """Begin a turn of the loop, which has meant to sleep for so long at most."""
        now = self._read()
        late = now - self._last - slept_ns
        if late > STALL_NS:
            self._lost += late
        self._last = now


@dataclass(slots=True)
class _Asked:
    """A batch that is being decided on, the first `given` of it are: what its results get beside the decider's word."""

    extra: npt.NDArray[np.uint32]
    began_ns: int
    batch: Batch
    given: int = 0


class Teb:
    """Serve contributors on `router`, and have `decider` decide on what they contribute.

    `told` is called with each transition that is over here, the aliases of those who are missing in it, and the error it ended with. `words`
    publishes what was decided on; it is closed with the teb. `warn` is told of the first event of a run that a contributor is missing in.
    """

    def __init__(
        self,
        config: TebConfig,
        router: zmq.Socket[bytes],
        decider: Decider,
        *,
        alone: Sequence[Contributor] = (),
        told: Callable[[Transition, list[str], DrpError | None], None] | None = None,
        words: WordsPublisher | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self.clock = Clock()
        self.links = Links(router, self.clock.now_ns, config.limits, alone=alone)
        self.counts = Counts()
        self.error: DrpError | None = None
        self.mebs: Mapping[str, int] = {}
        self.configs: Mapping[str, Any] = {}
        self.config_alias = ""
        self.script: tuple[str, ...] = config.script
        self._decider = decider
        self._told = told
        self._words = words
        self._warn = warn
        self._asked: deque[_Asked] = deque()
        self._configuring: Transition | None = None
        self._configured = False
        self._run_events = 0
        self._lost: dict[str, int] = {}
        self._poller = zmq.Poller()
        self._poller.register(router, zmq.POLLIN)
        self._poller.register(decider.fd, zmq.POLLIN)

    def watch(self, fd: int) -> None:
        """Have `turn` return when this descriptor is readable, too."""
        self._poller.register(fd, zmq.POLLIN)

    def close(self) -> None:
        """Say goodbye to everybody and end the decider."""
        self.links.end("the teb ends" if self.error is None else f"the teb ends: {self.error.what}")
        self._decider.close()
        if self._words is not None:
            self._words.close()

    # Epochs.

    def begin(
        self,
        epoch: int,
        contributors: list[Contributor],
        configs: Mapping[str, Any],
        script: tuple[str, ...] = (),
    ) -> None:
        """Begin an epoch: these contributors are expected. `script` other than that of the command line."""
        self.configs = configs
        self.script = script or self.config.script
        self.links.begin(epoch, contributors)
        self._forget()

    def end(self, why: str) -> None:
        """End the epoch; who is still connected is told why."""
        self.links.end(why)
        self._forget()
        self._decider.unconfigure()

    def _forget(self) -> None:
        """Forget what was asked: whatever is decided yet, until the next Configure, is of another epoch."""
        self._asked.clear()
        self._configuring = None
        self._configured = False
        self._lost.clear()

    # The loop.

    def turn(self, limit_s: float = POLL_S) -> set[int]:
        """Wait for something to do, at most `limit_s`, and do it; returns the watched descriptors that are readable."""
        wait_ms = int(1000 * min(limit_s, self._due_s()) + 0.999)
        found = {int(one) for one, _ in self._poller.poll(wait_ms) if isinstance(one, int)}
        self.clock.turn(wait_ms * 1_000_000)
        builder = self.links.builder
        more = self.links.receive()
        if builder is not self.links.builder:  # a lone contributor has begun anew
            self._forget()
            builder = self.links.builder
        if builder is not None:
            # While there is more to be read, what it is about may be in it: but not for ever.
            grace_ns = int(self.config.limits.timeout_s * 1e9) if more else 0
            builder.expire(max(0, self.clock.now_ns() - grace_ns))
            self._give_out()
            self._collect()
            self._give_out()
            self.links.deliver()
        else:
            self._collect()  # nobody waits for it, but as long as it is not taken the decider's `fd` is readable
        if self._words is not None:
            self._words.look()
        return found

    def _due_s(self) -> float:
        builder = self.links.builder
        if builder is None or builder.next_due_ns is None:
            return POLL_S
        return max(0.0, (builder.next_due_ns - self.clock.now_ns()) / 1e9)

    def _give_out(self) -> None:
        """Give the decider what is built, and each transition its turn: after the verdicts on all before it, but for SlowUpdates."""
        builder = self.links.builder
        while (
            builder is not None
            and self._configuring is None
            and (service := builder.next_service) is not None
        ):
            if service not in (TransitionId.L1Accept, TransitionId.SlowUpdate) and builder.n_taken:
                return
            built = builder.take(self._decider.room if self._configured else MOST_UNASKED)
            if built is None:
                return
            if isinstance(built, Transition):
                self._transition(built)
            else:
                self._submit(builder, built)

    def _submit(self, builder: EventBuilder, batch: Batch) -> None:
        events = batch.events
        numbers = self._run_events + np.arange(1, len(events) + 1)
        self._run_events += len(events)
        prescaled = events["env"] & wire.KEEP_RAW != 0
        if self.config.prescale:
            prescaled |= numbers % self.config.prescale == 0
        extra = np.where(prescaled, wire.PRESCALE, 0) | np.where(
            events["flags"] & EventFlag.failed, wire.PERSIST, 0
        )
        self.counts.batches += 1
        if (lost := events["missing"]).any():
            self._tell_lost(lost)
        asked = _Asked(extra.astype(np.uint32), time.monotonic_ns(), batch)
        if self._configured:
            self._asked.append(asked)
            self._decider.submit(events, batch.rows)
        else:
            self.counts.unanswered += len(events)
            self._judge(builder, asked, asked.extra | np.uint32(wire.PERSIST))

    def _collect(self) -> None:
        """Take what was decided."""
        builder = self.links.builder
        results = self._decider.verdicts()
        self._look_at_configure()
        if builder is None or not self._configured:
            return
        self.counts.unanswered += int(np.count_nonzero(results["cause"]))
        words = results["result"]
        at = 0
        while at < len(words) and self._asked:
            asked = self._asked[0]
            part = words[at : at + len(asked.extra)]
            self._judge(builder, asked, part | asked.extra[: len(part)])
            at += len(part)
            if len(part) < len(asked.extra):
                asked.extra = asked.extra[len(part) :]
            else:
                self.counts.decision_ns += time.monotonic_ns() - asked.began_ns
                self._asked.popleft()

    def _judge(self, builder: EventBuilder, asked: _Asked, results: npt.NDArray[np.uint32]) -> None:
        counts = self.counts
        counts.events += len(results)
        counts.persisted += int(np.count_nonzero(results & wire.PERSIST))
        counts.prescaled += int(np.count_nonzero(results & wire.PRESCALE))
        for meb in range(wire.MAX_MEBS):
            counts.by_meb[meb] += int(np.count_nonzero(results & (1 << wire.MONITOR_SHIFT + meb)))
        builder.judge(np.ascontiguousarray(results, np.uint32))
        if self._words is not None:
            part = slice(asked.given, asked.given + len(results))
            asked.given += len(results)
            self._words.publish(asked.batch.events[part], [rows[part] for rows in asked.batch.rows], results)

    def _tell_lost(self, missing: npt.NDArray[np.uint64]) -> None:
        """Log the first incidents of each contributor that did not contribute, then no more."""
        mask = int(np.bitwise_or.reduce(missing))
        for i, one in enumerate(self.links.contributors.values()):
            if mask >> i & 1:
                told = self._lost[one.alias] = self._lost.get(one.alias, 0) + 1
                if told == 1 and self._warn is not None:
                    self._warn(f"{one.alias} did not contribute to events in time")
                if told <= TOLD_INCIDENTS:
                    more = "" if told < TOLD_INCIDENTS else "; further ones are only counted"
                    log.warning(
                        "%s did not contribute to events in time: they are built without it%s",
                        one.alias,
                        more,
                    )

    # Transitions.

    def _transition(self, built: Transition) -> None:
        self.counts.transitions += 1
        if built.service == TransitionId.BeginRun:
            self._run_events = 0
            self._lost.clear()
        if built.service == TransitionId.Configure:
            contributors = tuple(self.links.contributors.values())
            if self._words is not None:
                self._words.configure(contributors)
            connect = connect_info(
                contributors,
                mebs=self.mebs,
                platform=self.config.platform,
                instrument=self.config.instrument,
                config_alias=self.config_alias,
                configs=self.configs,
            )
            self._configured = False
            try:
                self._decider.begin(contributors, connect, script=self.script or None)
            except DrpError as error:
                self._finish(built, error)
                return
            self._configuring = built
            self._look_at_configure()
        elif built.service == TransitionId.Unconfigure:
            self._configured = False
            self._decider.unconfigure()
            self._finish(built, None)
        else:
            self._finish(built, None)

    def _look_at_configure(self) -> None:
        """See whether what decides stands, or cannot."""
        built = self._configuring
        if built is None:
            return
        try:
            if not self._decider.ready:
                return
        except DrpError as error:
            self._configuring = None
            self._finish(built, error)
            return
        self._configuring = None
        self._configured = True
        self._finish(built, None)

    def _finish(self, built: Transition, error: DrpError | None) -> None:
        name = TransitionId(built.service).name
        if error is not None:
            log.error("%s: %s", name, error)
            self.error = error
        self.links.deliver()
        missing = self.links.tell(built) if error is None else []
        if missing:
            log.error("%s is not complete: it did not come from %s", name, ", ".join(missing))
        if self._told is not None:
            self._told(built, missing, error)

    # What is counted.

    def metrics(self) -> dict[str, float]:
        """Return what a teb counts, by the names of LCLS's where it has them."""
        counts, links = self.counts, self.links.counts
        builder = self.links.builder
        built = dict.fromkeys(COUNTERS, 0) if builder is None else builder.counts()
        named: dict[str, float] = {
            "TEB_EvtCt": counts.events,
            "TEB_TrCt": counts.transitions,
            "TEB_SpltCt": built["late"],
            "TEB_BatCt": counts.batches,
            "TEB_WrtCt": counts.persisted,
            "TEB_PsclCt": counts.prescaled,
            "TEB_MonCt": sum(counts.by_meb),
            "TEB_BtEnt": counts.events / counts.batches if counts.batches else 0.0,
            "TEB_trg_dt": counts.decision_ns / counts.batches / 1000 if counts.batches else 0.0,
            "TEB_unanswered": counts.unanswered,
            "EB_RxPdg": 0 if builder is None else builder.n_pending,
            "EB_BfInCt": links.messages,
            "EB_ToEvCt": built["expired"],
            "EB_FxUpCt": built["incomplete"],
        }
        named |= {f"TEB_MebCt{meb}": n for meb, n in enumerate(counts.by_meb)}
        return named | {f"EB_{name}": n for name, n in built.items()}
