"""Timing's end of the links to the drps: who is there, what has been sent to each, and what waits for one that is not there yet.

Nothing here blocks, and nobody can fill memory: events go only where there is credit, and what a full connection does not
take waits here, within that credit. A stranger, a drp of another epoch, and whoever sends nonsense get an ERROR and no
more.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from drp.core import wire
from drp.core.errors import MessageError
from drp.core.wire import Header, Kind

MOST_MESSAGES = 2000
MAX_STRANGERS_TOLD = 10
ALIVE_S = 2.5
"""So long after its last message a drp is taken for alive; each says something every second."""

log = logging.getLogger("drp.timing")


@dataclass(slots=True)
class Drp:
    """One drp of the partition."""

    drp_id: int
    alias: str
    group: int
    identity: bytes | None = None
    session: int = 0
    number: int = 0
    """Triggers sent in this session, transitions too."""
    sent: int = 0
    """Triggers of this epoch, transitions too, sent or waiting."""
    granted: int = 0
    heard_s: float = 0.0
    left: bool = False
    frames: deque[bytes] = field(default_factory=deque)
    early: list[tuple[npt.NDArray[Any], bytes]] = field(default_factory=list)
    """Transitions for one that has not said HELLO yet."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A drp said HELLO and is welcome; it has no credit yet."""

    drp_id: int


@dataclass(frozen=True, slots=True)
class Credit:
    """A drp may get `total` events since it joined."""

    drp_id: int
    total: int


@dataclass(frozen=True, slots=True)
class Left:
    """A drp said BYE, or is not reached any more."""

    drp_id: int
    in_order: bool


class Links:
    """The drps on one ROUTER socket. `open_to_all` takes whoever says HELLO, until `expect` says who is meant."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        open_to_all: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket
        self._clock_s = clock_s
        self._open = open_to_all
        self.epoch = 1 if open_to_all else 0
        self.drps: dict[int, Drp] = {}
        self._by_identity: dict[bytes, Drp] = {}
        self._lost: list[Left] = []
        self._refused = 0

    def expect(self, members: Mapping[int, tuple[str, int]], epoch: int) -> None:
        """Take these drps, {id: (alias, readout group)}, and only at this epoch; who was there before says HELLO again."""
        self.dismiss()
        self.epoch = epoch
        self.drps = {drp: Drp(drp, alias, group) for drp, (alias, group) in members.items()}

    def dismiss(self) -> None:
        """Say BYE to all."""
        for drp in self.drps.values():
            if drp.identity is not None:
                self._send(drp.identity, Header(Kind.BYE, drp.session).encode())
        self.drps.clear()
        self._by_identity.clear()
        self.epoch = 1 if self._open else 0

    def gone(self, drp_id: int) -> None:
        """Forget a drp."""
        drp = self.drps.pop(drp_id, None)
        if drp is not None and drp.identity is not None:
            self._by_identity.pop(drp.identity, None)

    @property
    def missing(self) -> list[str]:
        """Aliases of the drps that are not there."""
        return [drp.alias for drp in self.drps.values() if drp.identity is None]

    def receive(self) -> list[Joined | Credit | Left]:
        """Return what has come, in order."""
        found: list[Joined | Credit | Left] = self._take_lost()
        for drp in self.drps.values():
            if drp.frames:
                self._flush(drp)
        for _ in range(MOST_MESSAGES):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if len(parts) != 2:
                self._refuse(parts[0], 0, "a message is one frame")
                continue
            try:
                found += self._hear(parts[0], parts[1])
            except (MessageError, ValueError) as error:
                self._refuse(parts[0], 0, str(error))
        return found + self._take_lost()

    def send(self, events: npt.NDArray[Any]) -> None:
        """Send to each drp those events that its readout group is in."""
        chosen: dict[int, npt.NDArray[Any]] = {}
        for drp in self.drps.values():
            mine = chosen.get(drp.group)
            if mine is None:
                mine = chosen[drp.group] = events[(events["env"] >> drp.group & 1).astype(bool)]
            if len(mine):
                self._post(drp, Kind.EVENTS, mine, b"")

    def send_transition(self, record: npt.NDArray[Any], info: Mapping[str, Any]) -> None:
        """Send a transition to all; to one that is not there yet, as soon as it is."""
        text = json.dumps(info, separators=(",", ":")).encode()
        for drp in self.drps.values():
            if drp.identity is None:
                drp.early.append((record.copy(), text))
            else:
                self._post(drp, Kind.TRANSITION, record, text)

    def _hear(self, identity: bytes, frame: bytes) -> list[Joined | Credit | Left]:
        header, payload = wire.decode(frame)
        if header.kind == Kind.HELLO:
            return self._hello(identity, header.session, wire.decode_json(payload))
        drp = self._by_identity.get(identity)
        if drp is None or header.session != drp.session:
            self._refuse(identity, header.session, "timing does not know this session", quiet=True)
            return []
        drp.heard_s = self._clock_s()
        if header.kind == Kind.CREDIT:
            if len(payload) != 8:
                raise MessageError("a credit is 8 bytes")
            drp.granted = int.from_bytes(payload, "little")
            return [Credit(drp.drp_id, drp.granted)]
        if header.kind == Kind.BYE:
            self._part(drp)
            drp.left = True
            return [Left(drp.drp_id, in_order=True)]
        raise MessageError(f"{header.kind.name} is not for timing")

    def _hello(self, identity: bytes, session: int, said: dict[str, Any]) -> list[Joined | Credit | Left]:
        number, alias, group, epoch, had = (
            said.get(key) for key in ("id", "alias", "group", "epoch", "received")
        )
        if not isinstance(number, int) or not isinstance(alias, str) or not isinstance(group, int):
            raise MessageError("a HELLO has id, alias and group")
        if epoch != self.epoch:
            self._refuse(identity, session, f"this is epoch {self.epoch}, not {epoch}", quiet=True)
            return []
        if self._open and number not in self.drps and len(self.drps) < wire.MAX_DRPS:
            if not (0 <= number < wire.MAX_DRPS and 0 <= group < wire.MAX_GROUPS):
                raise MessageError(f"there is no drp {number} or no readout group {group}")
            self.drps[number] = Drp(number, alias[:64], group)
        drp = self.drps.get(number)
        if drp is None or (drp.alias, drp.group) != (alias, group):
            self._refuse(
                identity, session, f"{alias} of readout group {group} is not drp {number} of this partition"
            )
            return []
        now = self._clock_s()
        if drp.identity not in (None, identity) and now - drp.heard_s < ALIVE_S:
            self._refuse(
                identity, session, f"drp {number}, {alias}, is there already: two of them have one id"
            )
            return []
        self._part(drp)
        drp.heard_s = now
        drp.identity, drp.session, drp.number, drp.granted, drp.left = identity, session, 0, 0, False
        self._by_identity[identity] = drp
        missed = max(0, drp.sent - had) if isinstance(had, int) else 0
        self._send(identity, wire.encode_json(Kind.WELCOME, session, {"epoch": self.epoch, "missed": missed}))
        if missed:
            log.error("%s was away: it lacks %d triggers", drp.alias, missed)
        for record, text in drp.early:
            self._post(drp, Kind.TRANSITION, record, text)
        drp.early.clear()
        return [Joined(number)]

    def _post(self, drp: Drp, kind: Kind, records: npt.NDArray[Any], text: bytes) -> None:
        """Number triggers for one drp, and send them as soon as its connection takes them."""
        drp.sent += len(records)
        if drp.identity is None:
            return
        mine = records.copy()
        mine["number"] = np.arange(drp.number + 1, drp.number + 1 + len(mine))
        drp.number += len(mine)
        drp.frames.append(Header(kind, drp.session, len(mine)).encode() + mine.tobytes() + text)
        self._flush(drp)

    def _flush(self, drp: Drp) -> None:
        while drp.frames and drp.identity is not None:
            try:
                self._socket.send_multipart((drp.identity, drp.frames[0]), zmq.NOBLOCK)
            except zmq.Again:
                return
            except zmq.ZMQError:
                log.warning("%s is not reached any more", drp.alias)
                self._part(drp)
                self._lost.append(Left(drp.drp_id, in_order=False))
                return
            drp.frames.popleft()

    def _part(self, drp: Drp) -> None:
        if drp.identity is not None:
            self._by_identity.pop(drp.identity, None)
        drp.identity = None
        drp.frames.clear()

    def _take_lost(self) -> list[Joined | Credit | Left]:
        lost: list[Joined | Credit | Left] = [*self._lost]
        self._lost.clear()
        return lost

    def _refuse(self, identity: bytes, session: int, what: str, *, quiet: bool = False) -> None:
        self._refused += not quiet
        if not quiet and self._refused <= MAX_STRANGERS_TOLD:
            log.warning("a message was refused: %s", what[:200])
        self._send(identity, wire.encode_json(Kind.ERROR, session, {"what": what[:400], "hint": ""}))

    def _send(self, identity: bytes, frame: bytes) -> None:
        try:
            self._socket.send_multipart((identity, frame), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("not sent: %s", error)
