"""The meb's end of the links to viewers: each gets what it has credit for, in order, and the meb waits for none.

A viewer gives credit for events, and says how many transitions it has taken. An event for which there is no credit is lost to it and counted.
While too many transitions wait for it, it is sent nothing; once it has taken some it is told those in force that it has not seen, and the last one:
so it knows where the run stands whatever it missed. All viewers share the memory of an event. One on the same machine is told where in shared memory
the event lies instead (`drp.shm._board`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import zmq

from drp.core.errors import MessageError, SegmentError
from drp.core.wire import (
    MONITORED,
    POSTED,
    VIEWER_CREDIT,
    Header,
    Kind,
    decode,
    decode_json,
    encode_json,
    encode_monitored,
)
from drp.shm._board import Board
from xtc import TransitionId

MAX_VIEWERS = 64
MAX_WINDOW = 64
MAX_TOLD = 64
BEAT_S = 0.5
HOLE_BYTES = Header.SIZE + MONITORED.itemsize
BOARD_BYTES = 512 << 20
MIN_SLOTS = 4
PAGE_BYTES = 4096
MESSAGES_AT_ONCE = 1000

log = logging.getLogger("drp.meb")


@dataclass(slots=True)
class Viewer:
    """One viewer. `granted` events may be sent to it in all, `events` were, and `lost` were not; it has taken `taken` of `told` transitions."""

    alias: str
    session: int
    shared: bool
    granted: int
    events: int = 0
    lost: int = 0
    serial: int = 0
    told: int = 0
    taken: int = 0

    @property
    def may_be_told(self) -> bool:
        """Whether it may be sent a transition."""
        return self.told - self.taken < MAX_TOLD


@dataclass(frozen=True, slots=True)
class _Transition:
    serial: int
    service: TransitionId
    frame: bytearray


@dataclass(slots=True)
class _State:
    """What is in force, and the transition that was last."""

    in_force: dict[TransitionId, _Transition] = field(default_factory=dict)
    last: _Transition | None = None

    def since(self, serial: int) -> list[_Transition]:
        """Return what somebody who has seen `serial` must be told, in order."""
        found = {one.serial: one for one in self.in_force.values()}
        if self.last is not None:
            found[self.last.serial] = self.last
        return [found[number] for number in sorted(found) if number > serial]


STANDING = (
    TransitionId.Configure,
    TransitionId.BeginRun,
    TransitionId.BeginStep,
    TransitionId.Enable,
    TransitionId.SlowUpdate,
)
_OVER = {
    TransitionId.Configure: STANDING,
    TransitionId.Unconfigure: STANDING,
    TransitionId.BeginRun: STANDING[1:],
    TransitionId.EndRun: STANDING[1:],
    TransitionId.BeginStep: STANDING[2:4],
    TransitionId.EndStep: STANDING[2:4],
    TransitionId.Disable: (TransitionId.Enable,),
}


class Viewers:
    """Serves viewers on `socket` (a ROUTER); `slots` events lie in shared memory at once, at most."""

    def __init__(self, socket: zmq.Socket[bytes], slots: int) -> None:
        self.socket = socket
        self.errors = 0
        self.served = 0
        self._slots = slots
        self._stream = random.getrandbits(32) or 1
        self._viewers: dict[bytes, Viewer] = {}
        self._state = _State()
        self._serial = 0
        self._number = 0
        self._board: Board | None = None
        self._no_board = False
        self._beat_s = 0.0

    def __iter__(self) -> Iterator[Viewer]:
        return iter(list(self._viewers.values()))

    def __len__(self) -> int:
        return len(self._viewers)

    def receive(self) -> None:
        """Take what viewers say."""
        for _ in range(MESSAGES_AT_ONCE):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                identity, frame = parts
                self._take(identity, frame)
            except (MessageError, ValueError, LookupError, TypeError) as error:
                self.errors += 1
                self._send(parts[0], encode_json(Kind.ERROR, 0, {"what": str(error)[:200], "hint": ""}))

    def look(self, now_s: float) -> None:
        """Let each viewer hear that the meb is there, and how many events there were: it then knows what it lost."""
        if now_s - self._beat_s < BEAT_S:
            return
        self._beat_s = now_s
        beat = Header(Kind.CREDIT, self._stream).encode() + self._number.to_bytes(8, "little")
        for identity in list(self._viewers):
            self._send(identity, beat)

    def transition(self, service: TransitionId, pulse_id: int, frame: bytearray) -> None:
        """Pass on a transition: `frame` is a hole for the headers and then the dgram."""
        self._serial += 1
        self._fill(frame, pulse_id, 0, 0)
        told = _Transition(self._serial, service, frame)
        for over in _OVER.get(service, ()):
            self._state.in_force.pop(over, None)
        if service in STANDING:
            self._state.in_force[service] = told
        if service != TransitionId.SlowUpdate:
            self._state.last = told
        for identity, viewer in list(self._viewers.items()):
            self._tell(identity, viewer)

    def event(self, pulse_id: int, result: int, frame: bytearray) -> None:
        """Pass on an event, made like `transition`'s."""
        self._number += 1
        self._fill(frame, pulse_id, result, self._number)
        posted: bytes | None = None
        for identity, viewer in list(self._viewers.items()):
            self._tell(identity, viewer)
            if viewer.serial != self._serial or viewer.events >= viewer.granted:
                viewer.lost += 1
                continue
            if viewer.shared and posted is None:
                posted = self._post(pulse_id, result, frame)
            own = posted if viewer.shared and posted else frame
            sent = self._send(identity, own, share=own is frame)
            viewer.events += sent
            viewer.lost += not sent
            self.served += sent

    def close(self) -> None:
        """Say BYE."""
        for identity in list(self._viewers):
            self._send(identity, Header(Kind.BYE, self._stream).encode())

    def _take(self, identity: bytes, frame: bytes) -> None:
        header, payload = decode(frame)
        viewer = self._viewers.get(identity)
        if header.kind == Kind.HELLO:
            self._hello(identity, header.session, decode_json(payload))
        elif viewer is None or header.session != viewer.session:
            raise MessageError("say HELLO first")
        elif header.kind == Kind.BYE:
            self._forget(identity)
        elif header.kind == Kind.CREDIT and len(payload) == VIEWER_CREDIT.size:
            granted, taken = VIEWER_CREDIT.unpack(payload)
            viewer.granted = min(granted, viewer.events + MAX_WINDOW)
            viewer.taken = min(taken, viewer.told)
            self._tell(identity, viewer)

    def _hello(self, identity: bytes, session: int, body: dict[str, object]) -> None:
        if identity not in self._viewers and len(self._viewers) >= MAX_VIEWERS:
            raise MessageError(f"there are {MAX_VIEWERS} viewers already")
        window = body.get("window")
        if not isinstance(window, int) or not 0 <= window <= MAX_WINDOW:
            raise MessageError(f"a window is 0 to {MAX_WINDOW} events")
        viewer = Viewer(str(body.get("alias", ""))[:64], session, bool(body.get("shared")), window)
        self._viewers[identity] = viewer
        self._send(
            identity, encode_json(Kind.WELCOME, session, {"stream": self._stream, "number": self._number})
        )
        log.info("viewer %s comes", viewer.alias)
        self._tell(identity, viewer)

    def _tell(self, identity: bytes, viewer: Viewer) -> None:
        """Tell a viewer of the transitions that it has not seen, as far as it may be."""
        if viewer.serial == self._serial:
            return
        for one in self._state.since(viewer.serial):
            if not viewer.may_be_told or not self._send(identity, one.frame, share=True):
                return
            viewer.told += 1
            viewer.serial = one.serial
        viewer.serial = self._serial

    def _fill(self, frame: bytearray, pulse_id: int, result: int, number: int) -> None:
        frame[: Header.SIZE] = Header(Kind.DGRAM, self._stream, self._number & 0xFFFFFFFF).encode()
        frame[Header.SIZE : HOLE_BYTES] = encode_monitored(pulse_id, result, number)

    def _post(self, pulse_id: int, result: int, frame: bytearray) -> bytes:
        """Write an event to the board; returns what says where, or nothing where there is no board."""
        size = len(frame) - HOLE_BYTES
        board = self._board
        if board is None or board.slot_bytes < size:
            board = self._new_board(size)
        if board is None:
            return b""
        offset, stamp = board.post(memoryview(frame)[HOLE_BYTES:])
        segment = board.segment
        row = (pulse_id, result, self._number, segment.id, 0, segment.size, offset, stamp, size)
        return Header(Kind.EVENTS, self._stream, 1).encode() + np.array([row], POSTED).tobytes()

    def _new_board(self, size: int) -> Board | None:
        """Make a board for events somewhat larger than this one; events go through sockets where there is no memory."""
        if self._no_board:
            return None
        slot_bytes = -(-size * 5 // 4 // PAGE_BYTES) * PAGE_BYTES
        try:
            self._board = Board(
                max(MIN_SLOTS, min(self._slots, BOARD_BYTES // max(slot_bytes, 1))), slot_bytes
            )
        except SegmentError as error:
            self._no_board, self._board = True, None
            log.warning("events go to viewers through sockets: %s", error)
        return self._board

    def _forget(self, identity: bytes) -> None:
        viewer = self._viewers.pop(identity, None)
        if viewer is not None:
            log.info("viewer %s leaves; it lost %d events", viewer.alias, viewer.lost)

    def _send(self, identity: bytes, frame: bytes | bytearray, *, share: bool = False) -> bool:
        with suppress(zmq.Again):
            try:
                self.socket.send_multipart([identity, frame], zmq.NOBLOCK, copy=not share)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._forget(identity)
                return False
            return True
        return False
