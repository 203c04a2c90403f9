"""The meb's end of the links from drps: who is there, what they send, and how much more they may."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import zmq

from drp.core.errors import MessageError
from drp.core.wire import MAX_DRPS, MAX_GROUPS, Header, Kind, decode, decode_json, encode_json, monitored
from drp.meb.assembly import Assembly, Contributor, Part
from xtc import DgramHeader, TransitionId, XtcError

BEAT_S = 0.5
SILENT_MESSAGES = 1000
U64_BYTES = 8

log = logging.getLogger("drp.meb")


@dataclass(slots=True)
class _Peer:
    who: Contributor
    session: int
    received: int = 0
    granted: int = 0
    beat_s: float = 0.0


class Drps:
    """Takes what comes on `socket` (a ROUTER) into an assembly; each drp may have `buffers` events here at once.

    `known`: the contributors of the partition by id; None: whoever comes. `demand`: whether anybody wants events.
    """

    def __init__(self, socket: zmq.Socket[bytes], buffers: int) -> None:
        self.socket = socket
        self.demand = False
        self.epoch = 0
        self.known: dict[int, Contributor] | None = None
        self.assembly = Assembly()
        self.errors = 0
        self._buffers = buffers
        self._peers: dict[bytes, _Peer] = {}

    @property
    def connected(self) -> list[str]:
        """The aliases of those that are there."""
        return sorted(one.who.alias for one in self._peers.values())

    def configure(self, epoch: int, known: dict[int, Contributor] | None, assembly: Assembly) -> None:
        """Begin another epoch: all say HELLO again."""
        for identity, peer in self._peers.items():
            self._send(
                identity, encode_json(Kind.ERROR, peer.session, {"what": "another Configure", "hint": ""})
            )
        self._peers.clear()
        self.epoch, self.known, self.assembly = epoch, known, assembly

    def receive(self) -> Iterator[tuple[int, Part]]:
        """Take what has come, as far as it is not for the assembly: yields transitions that are in force, of a drp that joins."""
        for _ in range(SILENT_MESSAGES):
            try:
                identity, frame = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            except ValueError:
                self.errors += 1
                continue
            try:
                yield from self._take(identity.bytes, frame.buffer)
            except (MessageError, XtcError, ValueError, LookupError, TypeError) as error:
                self.errors += 1
                log.warning("a drp sent what cannot be understood: %s", error)
                self._send(identity.bytes, encode_json(Kind.ERROR, 0, {"what": str(error), "hint": ""}))

    def look(self, now_s: float) -> None:
        """Give credit where it is due, and let each drp hear that the meb is there."""
        for identity, peer in list(self._peers.items()):
            due = peer.received - self.assembly.held(peer.who.id) + self._buffers
            grown = self.demand and due > peer.granted and (due - peer.granted) * 2 >= self._buffers
            if grown or now_s - peer.beat_s >= BEAT_S:
                peer.beat_s = now_s
                if self.demand:
                    peer.granted = max(peer.granted, due)
                credit = peer.granted.to_bytes(U64_BYTES, "little")
                if not self._send(identity, Header(Kind.CREDIT, peer.session).encode() + credit):
                    self._forget(identity)

    def close(self) -> None:
        """Say BYE."""
        for identity, peer in self._peers.items():
            self._send(identity, Header(Kind.BYE, peer.session).encode())
        self._peers.clear()

    def _take(self, identity: bytes, frame: memoryview) -> Iterator[tuple[int, Part]]:
        header, payload = decode(frame)
        peer = self._peers.get(identity)
        if header.kind == Kind.HELLO:
            self._hello(identity, header.session, decode_json(payload))
        elif peer is None:
            self.errors += 1
            self._send(
                identity, encode_json(Kind.ERROR, header.session, {"what": "say HELLO first", "hint": ""})
            )
        elif header.session != peer.session:
            return
        elif header.kind == Kind.BYE:
            self._forget(identity)
        elif header.kind == Kind.DGRAM:
            yield from self._dgram(peer, payload, again=bool(header.count))

    def _hello(self, identity: bytes, session: int, body: dict[str, Any]) -> None:
        who = Contributor(int(body["id"]), str(body["alias"])[:64], int(body["group"]))
        if not (0 <= who.id < MAX_DRPS and 0 <= who.group < MAX_GROUPS):
            raise MessageError(f"drp {who.id} of readout group {who.group}: there are no such")
        wrong = ""
        if body["epoch"] != self.epoch:
            wrong = f"this is epoch {self.epoch}, not {body['epoch']}"
        elif self.known is not None and who.id not in self.known:
            wrong = f"{who.alias} is not of this partition"
        if wrong:
            self._send(identity, encode_json(Kind.ERROR, session, {"what": wrong, "hint": ""}))
            return
        peer = self._peers.get(identity)
        if peer is None or peer.session != session:
            for other, one in list(self._peers.items()):
                if one.who.id == who.id:
                    del self._peers[other]
            peer = self._peers[identity] = _Peer(who, session)
            self.assembly.connect(who)
        window = self._buffers if self.demand else 0
        peer.granted = max(peer.granted, window)
        self._send(
            identity, encode_json(Kind.WELCOME, session, {"epoch": self.epoch, "window": peer.granted})
        )

    def _dgram(self, peer: _Peer, payload: memoryview, *, again: bool) -> Iterator[tuple[int, Part]]:
        pulse_id, result, _, dgrams = monitored(payload)
        header = DgramHeader.decode(dgrams)
        if header.service == TransitionId.Configure and len(dgrams) > 12 + header.extent:
            # It goes with the BeginRun behind it, whose place it takes.
            header = DgramHeader.decode(dgrams[12 + header.extent :])
        part = Part(
            pulse_id or header.timestamp, header, pulse_id, result, dgrams, time.monotonic_ns(), again
        )
        if header.service == TransitionId.L1Accept:
            peer.received += 1
        elif again and part.key <= self.assembly.last_key:
            yield peer.who.id, part
            return
        self.assembly.put(peer.who.id, part)

    def _forget(self, identity: bytes) -> None:
        peer = self._peers.pop(identity, None)
        if peer is not None:
            log.info("%s is gone", peer.who.alias)
            self.assembly.leave(peer.who.id)

    def _send(self, identity: bytes, frame: bytes) -> bool:
        with suppress(zmq.Again):
            try:
                self.socket.send_multipart([identity, frame], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                return False
        return True
