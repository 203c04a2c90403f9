"""The meb: what drps send is put together and served to viewers. One thread, one loop; nobody is waited for."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import zmq

from drp.link.keys import Keys
from drp.link.sockets import Endpoint, listen
from drp.meb._merge import merge, split
from drp.meb.assembly import Assembly, Built, Contributor, Part
from drp.meb.drps import Drps
from drp.meb.setup import Setup
from drp.meb.viewers import HOLE_BYTES, Viewers
from xtc import Damage, TransitionId, encode_dgram

MAX_BYTES = 1 << 30
DRPS_HIGH_WATER = 1000
VIEWERS_HIGH_WATER = 256
POLL_MS = 100
AT_ONCE = 64

log = logging.getLogger("drp.meb")


@dataclass(frozen=True, slots=True)
class MebConfig:
    """`name`: what its sockets are called, `meb0-tst-p0`. `buffers`: events of each drp that may be here, and in shared memory, at once.

    `bind`: where drps come, `viewers_bind` viewers, None: in the run directory.
    """

    name: str
    buffers: int = 8
    bind: str | None = None
    viewers_bind: str | None = None
    keys: Keys | None = None

    @property
    def viewers_name(self) -> str:
        """The name of the socket for viewers."""
        return f"view-{self.name}"


class Meb:
    """A meb with its sockets open, from `with` on. LinkError where they cannot be."""

    def __init__(self, config: MebConfig) -> None:
        drps, self.endpoint = listen(
            zmq.ROUTER,
            config.name,
            bind=config.bind,
            keys=config.keys,
            max_bytes=MAX_BYTES,
            high_water=DRPS_HIGH_WATER,
        )
        try:
            viewers, self.viewers_endpoint = self._listen_to_viewers(config)
        except BaseException:
            drps.close()
            raise
        self.drps = Drps(drps, config.buffers)
        self.viewers = Viewers(viewers, config.buffers)
        self.counts: Counter[str] = Counter()
        self._setup = Setup()
        self._began: Part | None = None
        self._poller = zmq.Poller()
        self._poller.register(drps, zmq.POLLIN)
        self._poller.register(viewers, zmq.POLLIN)
        self._callbacks: dict[int, Callable[[], None]] = {}
        self.built: Callable[[TransitionId, int, tuple[int, ...]], None] = lambda *_: None
        """Called with each transition that was built, its pulse id, and the contributors that it lacks."""

    @staticmethod
    def _listen_to_viewers(config: MebConfig) -> tuple[zmq.Socket[bytes], Endpoint]:
        return listen(
            zmq.ROUTER,
            config.viewers_name,
            bind=config.viewers_bind,
            keys=config.keys,
            high_water=VIEWERS_HIGH_WATER,
        )

    def __enter__(self) -> Meb:
        return self

    def __exit__(self, *_error: object) -> None:
        self.drps.close()
        self.viewers.close()
        self.drps.socket.close()
        self.viewers.socket.close()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` when `fd` is readable."""
        self._poller.register(fd, zmq.POLLIN)
        self._callbacks[fd] = callback

    def configure(self, epoch: int, contributors: Iterable[Contributor] | None) -> None:
        """Begin another epoch with these contributors; None: with whoever comes. A run that is going on is over for viewers."""
        known = None if contributors is None else {one.id: one for one in contributors}
        self.drps.configure(epoch, known, Assembly((known or {}).values()))
        if self._began is not None:
            over = encode_dgram(TransitionId.EndRun, self._began.header.timestamp)
            self.viewers.transition(TransitionId.EndRun, 0, bytearray(HOLE_BYTES) + over)
        self._setup.forget()
        self._began = None

    def turn(self, limit_ms: int = POLL_MS) -> None:
        """Wait for news for `limit_ms` at most, and deal with it."""
        for fd, _ in self._poller.poll(self._wait_ms(limit_ms)):
            if fd in self._callbacks:
                self._callbacks[fd]()
        now_s = time.monotonic()
        self.viewers.receive()
        self.drps.demand = len(self.viewers) > 0
        for contributor, part in self.drps.receive():
            self._joined(contributor, part)
        for _ in range(AT_ONCE):
            built = self.drps.assembly.take(time.monotonic_ns())
            if built is None:
                break
            self._serve(built)
        self.drps.look(now_s)
        self.viewers.look(now_s)

    def metrics(self) -> Mapping[str, float]:
        """Return what is counted, by names as LCLS's where it has them."""
        assembly = self.drps.assembly.counts
        return {
            "MEB_EvtCt": self.counts["events"],
            "MEB_TrCt": self.counts["transitions"],
            "MEB_SpltCt": assembly["split"],
            "MEB_ToEvCt": assembly["timed_out"],
            "MEB_BytCt": self.counts["bytes"],
            "MEB_ViewCt": len(self.viewers),
            "MEB_ServCt": self.viewers.served,
            "MEB_LostCt": sum(one.lost for one in self.viewers),
            "MEB_ErrCt": self.drps.errors + self.viewers.errors,
        }

    def _wait_ms(self, limit_ms: int) -> int:
        due_ns = self.drps.assembly.waits_until_ns()
        if due_ns is None:
            return limit_ms
        return max(1, min(limit_ms, (due_ns - time.monotonic_ns()) // 1_000_000))

    def _serve(self, built: Built) -> None:
        first = built.first
        if first.service == TransitionId.L1Accept:
            self._event(built)
            return
        self.counts["transitions"] += 1
        if first.service == TransitionId.BeginRun:
            self._begin_run(built)
        elif first.service != TransitionId.Configure:  # which comes whole with BeginRun
            if first.service in (TransitionId.Unconfigure, TransitionId.EndRun):
                self._began = None
            self._transition(
                first.service,
                first.pulse_id,
                [(one, part.dgrams) for one, part in sorted(built.parts.items())],
            )
        if built.missing:
            log.warning(
                "%s came from all drps but %s", first.service.name, ", ".join(map(str, built.missing))
            )
        self.built(first.service, first.pulse_id, built.missing)

    def _begin_run(self, built: Built) -> None:
        configures, begins = {}, []
        for one, part in sorted(built.parts.items()):
            *configure, begin = split(part.dgrams)
            if configure:
                configures[one] = configure[0]
            begins.append((one, begin))
        self._setup.take(configures, all_of_them=True)
        self._began = built.first
        self._tell_configure()
        self._transition(TransitionId.BeginRun, built.first.pulse_id, begins)

    def _tell_configure(self) -> None:
        frame = bytearray(HOLE_BYTES) + self._setup.merged
        self.viewers.transition(TransitionId.Configure, 0, frame)

    def _transition(self, service: TransitionId, pulse_id: int, dgrams: list[tuple[int, memoryview]]) -> None:
        parts = [(dgram, nodes) for one, dgram in dgrams if (nodes := self._setup.nodes(one)) is not None]
        if parts:
            self.viewers.transition(service, pulse_id, merge(parts, HOLE_BYTES))

    def _joined(self, contributor: int, part: Part) -> None:
        """A drp that joins tells what is in force: where that is a Configure that nobody has seen, viewers begin the run anew."""
        began = self._began
        if part.service != TransitionId.BeginRun or began is None or part.key != began.key:
            return
        *configure, begin = split(part.dgrams)
        if configure and self._setup.take({contributor: configure[0]}, all_of_them=False):
            self._tell_configure()
            self._transition(TransitionId.BeginRun, part.pulse_id, [(contributor, begin)])

    def _event(self, built: Built) -> None:
        parts = [
            (part.dgrams, nodes)
            for one, part in sorted(built.parts.items())
            if (nodes := self._setup.nodes(one)) is not None
        ]
        if not parts:
            self.counts["before_run"] += 1
            return
        missing = len(parts) < len(built.parts) or built.missing
        frame = merge(parts, HOLE_BYTES, int(Damage.DroppedContribution) if missing else 0)
        self.counts["events"] += 1
        self.counts["bytes"] += len(frame)
        self.viewers.event(built.first.pulse_id, built.first.result, frame)
