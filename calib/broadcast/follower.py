"""A follower: a source of constants that asks a supervisor over tcp, and nobody else.

What it is told to fetch comes in chunks, several under way at once; one that does not come is asked for again, over a new
connection where the old one broke (zmq makes it), and a supervisor that was started again goes on where the other one ended if it
finds the same. All of it within one time limit; then the error says how far it came.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection
from typing import NoReturn

import zmq
from zmq.utils.monitor import recv_monitor_message

import calib.errors
from calib.broadcast.keys import Keys
from calib.broadcast.messages import (
    Chunk,
    Done,
    Fetch,
    Find,
    Found,
    Gone,
    Message,
    NotFound,
    Searching,
    decode,
    encode,
)
from calib.broadcast.packing import unpack
from calib.broadcast.transfer import constants_of
from calib.errors import BroadcastError, CalibError
from calib.model import Constant, DetectorId

REPEAT_S = 1.0
WINDOW = 8
MAX_CHUNK_BYTES = 16 << 20
MAX_SET_BYTES = 64 << 30
HEARTBEAT_MS = 1000
KEY_HINT = "Give all drp processes of the detector the same key file (--calib-key)"
STILL_HINT = "See on its machine whether the drp that --calib-supervisor names was stopped (state T in ps), and start it again"
SILENT_REPEATS = 3
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class Follower:
    """A Source (calib.model) whose constants come from the supervisor at `address`. `find` takes at most `limit_s`."""

    def __init__(
        self,
        address: str,
        keys: Keys,
        *,
        limit_s: float,
        repeat_s: float = REPEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._keys = keys
        self._limit_s = limit_s
        self._repeat_s = repeat_s
        self._clock = clock

    @property
    def url(self) -> str:
        """Whom it asks."""
        return f"supervisor at {self.address}"

    def find(
        self, detector: DetectorId, experiment: str | None, run: int, *, ctypes: Collection[str] | None = None
    ) -> dict[str, Constant]:
        """Return the constants of the detector's panels, as the supervisor's source finds them.

        Raises what that source raised, and BroadcastError where the supervisor is not to be reached, is lost, or has another key.
        """
        wanted = None if ctypes is None else tuple(ctypes)
        find = Find(
            secrets.token_hex(16), detector.name, detector.dettype, detector.serials, experiment, run, wanted
        )
        with zmq.Context(io_threads=1) as context:
            search = _Search(self._connect(context), find, self)
            try:
                return search.run(self._clock() + self._limit_s)
            finally:
                search.close()

    def close(self) -> None:
        """Nothing is open between two searches."""

    def _connect(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 200)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_CHUNK_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        # A handshake that only times out would look like one that was refused.
        socket.setsockopt(zmq.HANDSHAKE_IVL, 2 * int(1000 * self._limit_s) + HEARTBEAT_MS)
        socket.curve_serverkey = self._keys.server_public.encode()
        socket.curve_publickey = self._keys.client_public.encode()
        socket.curve_secretkey = self._keys.client_secret.encode()
        return socket


class _Search:
    """One search: asking, fetching, and what became of the connection."""

    def __init__(self, socket: zmq.Socket[bytes], find: Find, follower: Follower) -> None:
        self._socket = socket
        self._find = find
        self._address = follower.address
        self._clock = follower._clock
        self._limit_s = follower._limit_s
        self._repeat_s = follower._repeat_s
        self._monitor = socket.get_monitor_socket()
        self._until_s = 0.0
        self._handshakes_failed = 0
        self._connected = False
        self._heard_s: float | None = None
        self._found: Found | None = None
        self._buffer = bytearray()
        self._missing: set[int] = set()
        self._asked: dict[int, float] = {}

    def run(self, until_s: float) -> dict[str, Constant]:
        self._until_s = until_s
        try:
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            raise BroadcastError(
                f"this is no address of a supervisor: {error}", where=self._address
            ) from error
        self._search()
        for last in (False, True):
            self._fetch()
            try:
                constants = constants_of(unpack(self._buffer, digest=self._set.digest, verify=True))
            except BroadcastError:
                if last:
                    raise
                self._begin(self._set)
                continue
            break
        self._send(Done(self._find.token))
        return constants

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    @property
    def _set(self) -> Found:
        if self._found is None:
            raise BroadcastError("nothing was found yet", where=self._address)
        return self._found

    def _search(self) -> None:
        """Ask until the supervisor says what it found."""
        self._found = None
        while self._found is None:
            self._send(self._find)
            asked = self._clock()
            while self._found is None and self._clock() - asked < self._repeat_s:
                self._listen()

    def _fetch(self) -> None:
        """Ask for chunks, some at a time, until none is missing."""
        while self._missing:
            now = self._clock()
            under_way = [number for number, asked in self._asked.items() if now - asked < self._repeat_s]
            wanted = sorted(self._missing.difference(under_way))[: WINDOW - len(under_way)]
            for number in wanted:
                self._asked[number] = now
                self._send(Fetch(self._find.token, self._set.digest, number))
            self._listen()

    def _send(self, message: Message) -> None:
        # Without a connection (a refused key ends it for good) it is not sent, and asked again in time.
        with contextlib.suppress(zmq.Again):
            self._socket.send(encode(message), zmq.NOBLOCK)

    def _listen(self) -> None:
        """Take in one message, or wait a moment; raises where time is over."""
        left_s = self._until_s - self._clock()
        self._look_at_connection()
        if left_s <= 0:
            self._give_up()
        if not self._socket.poll(int(min(left_s, self._repeat_s, 0.2) * 1000) + 1, zmq.POLLIN):
            return
        frames = self._socket.recv_multipart()
        self._heard_s = self._clock()
        message = decode(frames[0], Searching, Found, NotFound, Chunk, Gone)
        if message.token == self._find.token:  # type: ignore[union-attr]
            self._take(message, frames[1:])

    def _take(self, message: Message, rest: list[bytes]) -> None:
        match message:
            case NotFound():
                raise _error(message, self._address)
            case Found() if self._found is None:
                self._begin(message)
            case Chunk(_, digest, number) if (
                digest == self._set.digest and number in self._missing and len(rest) == 1
            ):
                self._store(number, rest[0])
            case Gone(_, digest) if self._found is not None and digest == self._found.digest:
                self._resume()
            case _:
                pass

    def _begin(self, found: Found) -> None:
        if not 0 < found.chunk_bytes <= MAX_CHUNK_BYTES or not 0 < found.size_bytes <= MAX_SET_BYTES:
            raise BroadcastError(
                f"the supervisor offers {found.size_bytes} bytes, which cannot be", where=self._address
            )
        self._found = found
        self._buffer = bytearray(found.size_bytes)
        self._missing = set(range(-(-found.size_bytes // found.chunk_bytes)))
        self._asked = {}

    def _store(self, number: int, data: bytes) -> None:
        found = self._set
        begin = number * found.chunk_bytes
        if len(data) != min(found.chunk_bytes, found.size_bytes - begin):
            return
        self._buffer[begin : begin + len(data)] = data
        self._missing.discard(number)
        self._asked.pop(number, None)

    def _resume(self) -> None:
        """The supervisor was started again: search again, and keep what there is if it finds the same."""
        before, buffer, missing = self._set, self._buffer, self._missing
        self._search()
        if self._found == before:
            self._buffer, self._missing = buffer, missing

    def _look_at_connection(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event & _FAILED:
                self._handshakes_failed += 1
            elif event == zmq.EVENT_CONNECTED:
                self._connected = True
        if self._handshakes_failed and self._heard_s is None:
            raise BroadcastError(
                "the supervisor has other keys than we have", where=self._address, hint=KEY_HINT
            )

    def _give_up(self) -> NoReturn:
        within = f"within {self._limit_s:g} s"
        hint = "Is the drp that --calib-supervisor names running? Or raise --calib-timeout"
        silent_s = 0.0 if self._heard_s is None else self._clock() - self._heard_s
        if self._found is not None:
            done = 1 - len(self._missing) / max(1, -(-self._set.size_bytes // self._set.chunk_bytes))
            what = f"the supervisor was lost: {done:.0%} of {self._set.size_bytes:,} bytes came {within}"
        elif silent_s > SILENT_REPEATS * self._repeat_s:
            what, hint = (
                f"the supervisor was lost: it answered, and then not for {silent_s:.0f} s",
                STILL_HINT,
            )
        elif self._heard_s is not None:
            what = f"the supervisor answers, but its source of constants found nothing {within}"
            hint = "See what the supervisor's --calib is, and whether it answers; or raise --calib-timeout"
        elif self._connected:
            what = f"connections are taken there, but nobody answers {within}: the supervisor stands still, or it is another program"
            hint = STILL_HINT
        else:
            what = f"no supervisor answered {within}"
        raise BroadcastError(what, where=self._address, hint=hint)


def _error(message: NotFound, address: str) -> CalibError:
    """Return the error a search ended with, as one of calib's own."""
    kind = getattr(calib.errors, message.error, None)
    if not (isinstance(kind, type) and issubclass(kind, CalibError)):
        kind = BroadcastError
    return kind(message.what, where=message.where or address, hint=message.hint)
