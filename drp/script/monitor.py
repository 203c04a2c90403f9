"""A viewer's end of its link to a meb: the events of a running partition, for a script that only looks.

It has the names of a recording (`drp.script.offline`), so that the same script and the same detectors work on it; what a script would have
recorded is forgotten. The stream is made whole here: whatever the viewer missed, runs begin and end in order, what
stands already and is told again is passed over, and events that were not seen are counted. A meb that is not there is waited for.
"""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path

import zmq

from drp.core.errors import MessageError
from drp.core.transitions import RunState, Sequencer
from drp.core.wire import (
    POSTED,
    VIEWER_CREDIT,
    Header,
    Kind,
    decode,
    decode_json,
    encode_json,
    monitored,
    records,
)
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join, served, well_known
from drp.script._link import FeedLink
from drp.script.constants import offline_constants
from drp.script.errors import ScriptError
from drp.script.info import DrpInfo
from drp.script.offline import Arrival
from drp.script.run import Run
from drp.script.session import Session
from drp.shm._board import read
from drp.shm._segment import Segment, attach
from xtc import DgramHeader, TransitionId, XtcError, encode_dgram

HELLO_S = 0.2
SILENT_S = 2.0
TELL_S = 3.0
POLL_MS = 100
WINDOW = 8
MAX_BYTES = 1 << 30
ROOM_BYTES = 0x7FFFFFFF
GROUPS_MASK = 0xFFFF
_STANDING = (
    TransitionId.Configure,
    TransitionId.BeginRun,
    TransitionId.BeginStep,
    TransitionId.Enable,
)
_ENDS = {
    TransitionId.Unconfigure: TransitionId.Configure,
    TransitionId.EndRun: TransitionId.BeginRun,
    TransitionId.EndStep: TransitionId.BeginStep,
    TransitionId.Disable: TransitionId.Enable,
}
_WHERE = re.compile(r"(?P<instrument>[A-Za-z0-9_.-]+)(:(?P<platform>[0-7]))?(/(?P<alias>[A-Za-z0-9_.-]+))?")

log = logging.getLogger("drp.monitor")


def endpoint_of(where: str, keys: Keys | None = None) -> Endpoint:
    """Return where a meb serves viewers: `tst`, `tst:0` or `tst:0/meb0` on this machine, or an address tcp://HOST:PORT. ScriptError, LinkError."""
    if where.startswith("ipc://"):
        return Endpoint(where)
    if where.startswith("tcp://"):
        host, _, port = where.removeprefix("tcp://").rpartition(":")
        if not host or not port.isdecimal():
            raise ScriptError("a meb's address is tcp://HOST:PORT", found=where)
        return well_known("", host=host, port=int(port), keys=keys)
    match = _WHERE.fullmatch(where)
    if match is None:
        raise ScriptError("a meb is INSTRUMENT:PLATFORM/ALIAS, such as tst:0/meb0", found=where)
    partition = f"{match['instrument']}-p{match['platform'] or 0}"
    return well_known(f"view-{match['alias'] or _only_meb(partition)}-{partition}")


def _only_meb(partition: str) -> str:
    """Return the alias of the meb of a partition on this machine; meb0 where there is none yet, ScriptError where there are several."""
    before, after = "view-", f"-{partition}"
    found = [name[len(before) : -len(after)] for name in served(f"{before}*{after}")]
    if len(found) > 1:
        raise ScriptError(
            f"{partition} has several mebs: {', '.join(found)}", hint="Say which: monitor='tst:0/meb0'."
        )
    return found[0] if found else "meb0"


class MonitorFeed:
    """Deals the dgrams that a meb sends; see `drp.script._link.FeedLink`. `window`: events that may be on their way. LinkError."""

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys | None = None,
        *,
        window: int = WINDOW,
        shared: bool | None = None,
    ) -> None:
        self.lost = 0
        self.event_bytes = self.transition_bytes = ROOM_BYTES
        self._endpoint = endpoint
        self._window = window
        self._shared = endpoint.address.startswith("ipc://") if shared is None else shared
        self._socket = join(zmq.DEALER, endpoint, keys=keys, max_bytes=MAX_BYTES)
        weakref.finalize(self, self._socket.close)
        self._gate = Sequencer(endpoint.address)
        self._ready: deque[Arrival] = deque()
        self._standing: dict[TransitionId, bytes] = {}
        self._groups = 0
        self._segment: Segment | None = None
        self._session = self._stream = self._known = self._number = 0
        self._events = self._transitions = self._granted = 0
        self._heard_s = self._asked_s = 0.0
        self._began_s = time.monotonic()
        self._told = False

    def next(self) -> Arrival:
        """Return the next dgram, however long that takes."""
        while not self._ready:
            self._receive()
        return self._ready.popleft()

    def answer(self, *_: object) -> None:
        """Forget what a script would have recorded."""

    def close(self) -> None:
        """Say BYE."""
        if self._stream:
            self._send(Header(Kind.BYE, self._session).encode())
        self._socket.close()

    def _receive(self) -> None:
        try:
            frame = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            self._look(time.monotonic())
            self._socket.poll(POLL_MS)
            return
        try:
            self._take(frame)
        except (MessageError, XtcError, ValueError, LookupError, TypeError) as error:
            log.warning("the meb at %s sent what cannot be understood: %s", self._endpoint.address, error)
            self._stream = 0

    def _look(self, now_s: float) -> None:
        """Say HELLO where the meb is not there, or no longer; only once all that it sent was taken."""
        if self._stream and now_s - self._heard_s > SILENT_S:
            self._stream = 0
        if self._stream or now_s - self._asked_s < HELLO_S:
            return
        if not self._told and now_s - self._began_s > TELL_S:
            self._told = True
            log.warning("no meb answers at %s yet", self._endpoint.address)
        self._asked_s = now_s
        self._session = self._session or random.getrandbits(32) or 1
        body = {"alias": _name(), "level": "viewer", "shared": self._shared, "window": self._window}
        self._send(encode_json(Kind.HELLO, self._session, body))

    def _take(self, frame: bytes) -> None:
        header, payload = decode(frame)
        if header.kind == Kind.WELCOME and header.session == self._session:
            body = decode_json(payload)
            self._stream, number = int(body["stream"]), int(body["number"])
            if self._stream == self._known:
                self._events_until(number)
            self._known, self._number = self._stream, number
            self._events, self._transitions, self._granted = 0, 0, self._window
            self._heard_s = time.monotonic()
        elif header.kind == Kind.ERROR and header.session in (0, self._session):
            self._stream = self._session = 0
        elif self._stream and header.session == self._stream:
            self._heard_s = time.monotonic()
            self._from_stream(header, payload)

    def _from_stream(self, header: Header, payload: memoryview) -> None:
        if header.kind == Kind.CREDIT:
            self._events_until(int.from_bytes(payload[:8], "little"))
            return
        if header.kind == Kind.BYE:
            self._stream = self._session = 0
            return
        if header.kind == Kind.DGRAM:
            pulse_id, _, number, dgram = monitored(payload)
            self._take_one(is_event=number > 0)
            if not number:
                self._events_until(header.count)
            self._dgram(pulse_id, number, dgram)
        elif header.kind == Kind.EVENTS:
            self._take_one(is_event=True)
            row = records(payload, header.count, POSTED)[0]
            found = self._read(
                *(int(row[one]) for one in ("segment", "segment_bytes", "offset", "stamp", "size"))
            )
            if found is not None:
                self._dgram(int(row["pulse_id"]), int(row["number"]), memoryview(found))

    def _take_one(self, *, is_event: bool) -> None:
        """Count what was taken, and give credit for more: for events in halves of the window, so that it costs little."""
        self._events += is_event
        self._transitions += not is_event
        grow = 2 * (self._granted - self._events) <= self._window
        if grow or not is_event:
            self._granted = self._events + self._window if grow else self._granted
            credit = VIEWER_CREDIT.pack(self._granted, self._transitions)
            self._send(Header(Kind.CREDIT, self._session).encode() + credit)

    def _read(self, segment: int, segment_bytes: int, offset: int, stamp: int, size: int) -> bytes | None:
        """Return an event from shared memory; None where it was overwritten, or cannot be had: then it is asked for without."""
        if self._segment is None or self._segment.id != segment:
            try:
                self._segment = attach(segment, segment_bytes, True)
            except (OSError, ValueError) as error:
                log.info("events come through the socket: %s", error)
                self._shared, self._stream, self._session = False, 0, 0
                return None
        return read(self._segment, offset, stamp, size)

    def _events_until(self, number: int) -> None:
        self.lost += max(0, number - self._number)
        self._number = max(self._number, number)

    def _dgram(self, pulse_id: int, number: int, dgram: memoryview) -> None:
        header = DgramHeader.decode(dgram)
        service, timestamp = header.service, header.timestamp
        if service == TransitionId.L1Accept:
            self._events_until(number - 1)
            self._number = max(self._number, number)
        elif self._is_known(service, dgram):
            return
        if self._gate.state is RunState.UNCONFIGURED and service != TransitionId.Configure:
            return
        self._groups = header.env & GROUPS_MASK
        for step in self._gate.before(service, timestamp):
            self._gate.accept(step.service, step.timestamp, synthesised=True)
            self._put(encode_dgram(step.service, step.timestamp, env=self._groups), step.service, 0, 0)
        index = self._gate.index
        self._gate.accept(service, timestamp)
        self._put(dgram, service, index, pulse_id)

    def _is_known(self, service: TransitionId, dgram: memoryview) -> bool:
        """Take note of a transition; whether it is one that stands already: a meb that is found again tells what is in force."""
        begun = _ENDS.get(service, service)
        if begun not in _STANDING:
            return False
        # A Configure is the same at another time.
        known = bytes(dgram[8:] if service == TransitionId.Configure else dgram)
        if self._standing.get(service) == known:
            return True
        for over in _STANDING[_STANDING.index(begun) :]:
            self._standing.pop(over, None)
        if service == begun:
            self._standing[service] = known
        return False

    def _put(self, dgram: bytes | memoryview, service: TransitionId, index: int, pulse_id: int) -> None:
        self._ready.append(Arrival(dgram, service, index, pulse_id, ROOM_BYTES))

    def _send(self, frame: bytes) -> None:
        with suppress(zmq.Again):
            self._socket.send(frame, zmq.NOBLOCK)


class MonitorSession(Session):
    """A session that goes on over Configures: `runs()` yields runs for as long as there are some."""

    def next_run(self) -> Run | None:
        """Go to the next run, under this Configure or another."""
        while True:
            run = super().next_run()
            if run is not None:
                return run
            while self.stream.service != TransitionId.Configure:
                self.advance()
            skipped, copies = self._skipped, self.stream.copy_views
            self.configure()
            self.start_script()
            self.open()
            self.skip_constants(skipped)
            self.stream.copy_views = copies


def open_monitor(
    where: str, keys: str | Path | None = None, calib: str | None = None
) -> tuple[Session, MonitorFeed]:
    """Return a session over what a meb serves, once there is a run, and its feed. ScriptError, LinkError."""
    known = None if keys is None else Keys.load(keys)
    feed = MonitorFeed(endpoint_of(where, known), known)
    constants = offline_constants(calib or os.environ.get("DRP_CALIB"))
    info = DrpInfo().with_sizes(feed.event_bytes, feed.transition_bytes)
    session = MonitorSession(FeedLink(feed), info, sys.argv[1:], constants=constants)
    while session.advance() != TransitionId.Configure:
        pass
    session.configure()
    session.start_script()
    return session, feed


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
