"""A drp's links to the mebs: what is monitored goes out, credit comes back.

One thread takes copies of events and SlowUpdates from a ring that the recorder's thread fills (`drp.engine._copies`), and the other
transitions, which are finished by the main thread, from a queue; the number of each in the flow says in which order. It sends to each meb that
has said WELCOME and given credit. Nobody waits for it: an event for which there is no credit, no room, or no connection is lost to that meb and
counted. A transition that cannot be sent ends the session; like a meb that begins anew, that one is then told HELLO, and what is in force.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import zmq

from drp.core.errors import MessageError
from drp.core.wire import (
    MAX_MEBS,
    MONITORED,
    Header,
    Kind,
    decode,
    decode_json,
    encode_json,
    encode_monitored,
)
from drp.engine._copies import Copy, CopyRing
from drp.engine.transition import Finished
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join
from xtc import TransitionId

HELLO_S = 0.2
SILENT_S = 2.0
JOIN_S = 2.0
GOODBYE_S = 0.05
POLL_MS = 100
MAX_BYTES = 1 << 30
HIGH_WATER = 256
RING_BYTES = 64 << 20
EVENTS_IN_RING = 4
AT_ONCE = 64
HOLE_BYTES = Header.SIZE + MONITORED.itemsize
SERVICE_AT = HOLE_BYTES + 11
RUN = (TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable, TransitionId.SlowUpdate)
IN_FORCE = (TransitionId.Configure, *RUN)
ENDS = {
    TransitionId.Configure: IN_FORCE,
    TransitionId.Unconfigure: IN_FORCE,
    TransitionId.BeginRun: RUN,
    TransitionId.EndRun: RUN,
    TransitionId.BeginStep: (TransitionId.BeginStep, TransitionId.Enable),
    TransitionId.EndStep: (TransitionId.BeginStep, TransitionId.Enable),
    TransitionId.Disable: (TransitionId.Enable,),
}
"""What a transition puts out of force."""

log = logging.getLogger("drp.meb")


@dataclass(frozen=True, slots=True)
class MebTarget:
    """A meb to send to: `id` 0 to 3 is its bit in the monitor mask."""

    id: int
    alias: str
    endpoint: Endpoint


@dataclass(slots=True)
class _Meb:
    target: MebTarget
    socket: zmq.Socket[bytes]
    session: int = 0
    welcome: bool = False
    asked_s: float = 0.0
    heard_s: float = 0.0
    granted: int = 0
    used: int = 0
    used_before: int = 0
    begins: int = 0
    complained: bool = False
    counts: dict[str, int] = field(
        default_factory=lambda: {"MCtbO_EvCt": 0, "MCtbO_TrCt": 0, "MCtbO_TxPdg": 0, "unsent": 0}
    )


@dataclass(frozen=True, slots=True)
class _Queued:
    seq: int
    service: TransitionId
    frame: bytearray


class MebLinks:
    """Send what is monitored to `targets`, at most four, from `start` to `close`.

    `always`: bits of the mebs that get every event, whatever a trigger says.
    """

    def __init__(
        self,
        targets: Sequence[MebTarget],
        *,
        alias: str,
        drp_id: int = 0,
        group: int = 0,
        keys: Keys | None = None,
        always: int = 0,
    ) -> None:
        if len(targets) > MAX_MEBS or any(not 0 <= one.id < MAX_MEBS for one in targets):
            raise ValueError(f"at most {MAX_MEBS} mebs, numbered from 0")
        self._alias, self._drp_id, self._group, self._always = alias, drp_id, group, always
        self._epoch = 0
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._queue: deque[_Queued | CopyRing] = deque()
        self._ring = CopyRing(self._bell, 0)
        self._in_force: dict[TransitionId, bytearray] = {}
        self._closing = False
        self._lost = 0
        self._targets, self._keys = tuple(targets), keys
        self._mebs: list[_Meb] = []
        self._thread = threading.Thread(target=self._run, name="drp/meblink", daemon=True)

    def start(self) -> None:
        """Begin to say HELLO. LinkError where an endpoint is none."""
        for one in self._targets:
            socket = join(
                zmq.DEALER, one.endpoint, keys=self._keys, max_bytes=MAX_BYTES, high_water=HIGH_WATER
            )
            self._mebs.append(_Meb(one, socket))
        self._thread.start()

    def configured(self, epoch: int) -> None:
        """Begin the sessions of another Configure: mebs that are still in another epoch refuse them until they are there too."""
        self._epoch = epoch
        os.eventfd_write(self._bell, 1)

    def copies(self, event_bytes: int, slow_bytes: int) -> CopyRing:
        """Return the ring that a flow is to copy to, for events and SlowUpdates of at most these sizes; that of the flow before is emptied first."""
        ring = CopyRing(self._bell, max(RING_BYTES, EVENTS_IN_RING * event_bytes), slow_bytes)
        ring.always = self._always
        self._queue.append(ring)
        os.eventfd_write(self._bell, 1)
        return ring

    def transition(self, seq: int, finished: Finished, shown: bytes | memoryview) -> None:
        """Pass on a transition; see `drp.engine.transition.Monitor`."""
        if not len(shown):
            return
        frame = bytearray(HOLE_BYTES + len(shown))
        frame[HOLE_BYTES:] = memoryview(shown).cast("B")
        self._monitored(frame, finished.pulse_id, 0)
        self._queue.append(_Queued(seq, finished.service, frame))
        os.eventfd_write(self._bell, 1)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return by meb what was sent and what was not; names as in LCLS where it has them."""
        now = self._ring.counts()
        return {
            one.target.alias: one.counts | {"dropped": now["dropped"][one.target.id], "lost": now["lost"]}
            for one in self._mebs
        }

    def close(self) -> None:
        """Send what is there and say BYE; whoever does not take it is left."""
        self._closing = True
        os.eventfd_write(self._bell, 1)
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            if any(one.welcome for one in self._mebs):
                time.sleep(GOODBYE_S)  # what is not on its way when a socket is closed never will be
            for one in self._mebs:
                one.socket.close()
            os.close(self._bell)

    # The thread.

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._bell, zmq.POLLIN)
        for meb in self._mebs:
            poller.register(meb.socket, zmq.POLLIN)
        epoch = self._epoch
        while True:
            closing = self._closing
            if epoch != self._epoch:
                epoch = self._epoch
                for meb in self._mebs:
                    self._leave(meb)
            now_s = time.monotonic()
            for meb in self._mebs:
                self._look(meb, now_s)
            if self._pass_on(AT_ONCE):
                continue
            if closing:
                break
            if self._ring.sleep():
                if not self._queue:
                    poller.poll(POLL_MS)
                self._ring.wake()
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        for meb in self._mebs:
            if meb.welcome:
                self._send(meb, Header(Kind.BYE, meb.session).encode())

    def _look(self, meb: _Meb, now_s: float) -> None:
        """Take what a meb says; tell HELLO where it has not said WELCOME yet."""
        while True:
            try:
                frame = meb.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                self._take(meb, frame, now_s)
            except (MessageError, LookupError, TypeError, ValueError) as error:
                log.warning("meb %s answers what cannot be understood: %s", meb.target.alias, error)
        if meb.welcome and now_s - meb.heard_s > SILENT_S:
            log.warning("meb %s has not been heard for %g s", meb.target.alias, SILENT_S)
            self._leave(meb)
        if not meb.welcome and now_s - meb.asked_s >= HELLO_S:
            meb.asked_s = now_s
            meb.session = meb.session or random.getrandbits(32) or 1
            body = {"alias": self._alias, "level": "drp", "id": self._drp_id, "epoch": self._epoch}
            self._send(meb, encode_json(Kind.HELLO, meb.session, body | {"group": self._group, "last": 0}))

    def _take(self, meb: _Meb, frame: bytes, now_s: float) -> None:
        header, payload = decode(frame)
        if not meb.session or header.session != meb.session:
            return
        meb.heard_s = now_s
        if header.kind == Kind.WELCOME and not meb.welcome:
            self._enter(meb, int(decode_json(payload).get("window", 0)))
        elif header.kind == Kind.CREDIT and meb.welcome:
            meb.granted = max(meb.granted, int.from_bytes(payload[:8], "little"))
            self._ring.grant(meb.target.id, meb.granted - meb.used_before)
        elif header.kind in (Kind.ERROR, Kind.BYE):
            if header.kind == Kind.ERROR and not meb.complained:
                meb.complained = True
                log.debug("meb %s: %s", meb.target.alias, decode_json(payload).get("what", ""))
            self._leave(meb)

    def _enter(self, meb: _Meb, window: int) -> None:
        """Begin a session: first what is in force, and then whatever comes."""
        meb.welcome, meb.complained = True, False
        meb.granted, meb.used, meb.used_before = window, 0, 0
        meb.begins = self._ring.stop(meb.target.id)
        for service in IN_FORCE:
            if service in self._in_force and meb.welcome:
                self._send_transition(meb, self._in_force[service], again=True)
        if meb.welcome:
            self._ring.grant(meb.target.id, window)
            log.info("meb %s takes what is monitored", meb.target.alias)

    def _leave(self, meb: _Meb) -> None:
        if meb.welcome:
            self._ring.stop(meb.target.id)
        meb.welcome, meb.session = False, 0

    def _pass_on(self, most: int) -> bool:
        """Send what is there, `most` messages at most; returns whether there was anything."""
        for done in range(most):
            # Looked at before the ring: what came before a transition is in the ring once the transition is here.
            head = self._queue[0] if self._queue else None
            copy = self._ring.take()
            if copy is not None and (not isinstance(head, _Queued) or copy.seq < head.seq):
                self._send_copy(copy)
                self._ring.release()
            elif isinstance(head, _Queued):
                self._queue.popleft()
                self._send_queued(head)
            elif head is not None:
                self._queue.popleft()
                self._change_ring(head)
            else:
                return done > 0
        return True

    def _change_ring(self, ring: CopyRing) -> None:
        self._ring = ring
        for meb in self._mebs:
            meb.begins = ring.stop(meb.target.id)
            meb.used_before = meb.used
            if meb.welcome:
                ring.grant(meb.target.id, meb.granted - meb.used)

    def _send_copy(self, copy: Copy) -> None:
        if copy.frame[SERVICE_AT] & 0xF == TransitionId.SlowUpdate:
            frame = bytearray(copy.frame)
            self._monitored(frame, copy.pulse_id, 0)
            self._send_queued(_Queued(copy.seq, TransitionId.SlowUpdate, frame))
            return
        self._monitored(copy.frame, copy.pulse_id, copy.result)
        for meb in self._mebs:
            if copy.mebs >> meb.target.id & 1 and meb.welcome and self._ring.position >= meb.begins:
                copy.frame[: Header.SIZE] = Header(Kind.DGRAM, meb.session).encode()
                sent = self._send(meb, copy.frame)
                meb.used += 1
                meb.counts["MCtbO_EvCt"] += sent
                meb.counts["unsent"] += not sent

    def _send_queued(self, queued: _Queued) -> None:
        for service in ENDS.get(queued.service, ()):
            self._in_force.pop(service, None)
        if queued.service in IN_FORCE:
            self._in_force[queued.service] = queued.frame
        for meb in self._mebs:
            if meb.welcome:
                self._send_transition(meb, queued.frame)

    def _send_transition(self, meb: _Meb, frame: bytearray, *, again: bool = False) -> None:
        frame[: Header.SIZE] = Header(Kind.DGRAM, meb.session, int(again)).encode()
        if self._send(meb, frame):
            meb.counts["MCtbO_TrCt"] += 1
        else:
            log.warning("meb %s takes no transition: it is told anew when it does", meb.target.alias)
            self._leave(meb)

    def _send(self, meb: _Meb, frame: bytes | bytearray | memoryview) -> bool:
        try:
            meb.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        meb.counts["MCtbO_TxPdg"] += 1
        return True

    def _monitored(self, frame: bytearray | memoryview, pulse_id: int, result: int) -> None:
        frame[Header.SIZE : HOLE_BYTES] = encode_monitored(pulse_id, result, self._drp_id)
