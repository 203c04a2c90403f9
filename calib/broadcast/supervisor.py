"""A supervisor: one process that asks the store, and hands on what it finds to others of its detector over tcp.

Two threads. One serves the sockets and never waits for a store: a search is answered with `Searching` until the other thread has
done it. What was found is packed once and fetched by its follower chunk by chunk, as often as it likes, until it says `Done`, or
has not asked for a while. Connections are CURVE-encrypted, and only who has the key file is let in; a message over the limit
costs the connection.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zmq
from zmq.utils import z85

from calib.broadcast.keys import Keys
from calib.broadcast.messages import (
    REQUEST_LIMIT_BYTES,
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
from calib.broadcast.transfer import pack_constants
from calib.errors import BroadcastError, CalibError

if TYPE_CHECKING:
    from calib.model import Source

CHUNK_BYTES = 1 << 20
KEEP_S = 60.0
MAX_SEARCHES = 256
POLL_MS = 500
JOIN_S = 0.3
ZAP_ADDRESS = "inproc://zeromq.zap.01"

log = logging.getLogger("calib.broadcast")


@dataclass(slots=True)
class Search:
    """One search of one follower. `packed` is what was found, `failed` why nothing was; neither while it goes on."""

    find: Find
    touched_s: float
    address: bytes
    packed: memoryview | None = None
    digest: str = ""
    failed: NotFound | None = None
    told: bool = field(default=False)


class Supervisor:
    """Serve the constants of `source` at `address` (tcp://HOST:PORT, the port `*` for any) to followers that have `keys`.

    The source is used from one thread, and is closed by who opened it, after close().
    """

    def __init__(
        self,
        source: Source,
        address: str,
        keys: Keys,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind the address and start to serve; BroadcastError where it cannot be bound."""
        self.refused = 0
        self.served = 0
        self._source = source
        self._keys = keys
        self._chunk_bytes = chunk_bytes
        self._keep_s = keep_s
        self._clock = clock
        self._searches: dict[str, Search] = {}
        self._jobs: queue.SimpleQueue[Search | None] = queue.SimpleQueue()
        self._stop = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        try:
            self._zap = self._context.socket(zmq.REP)
            self._zap.bind(ZAP_ADDRESS)
            self._socket = self._bind(address)
        except BaseException:
            self._context.destroy(linger=0)
            os.close(self._wake)
            raise
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._threads = [
            threading.Thread(target=self._serve, name="calib/supervisor", daemon=True),
            threading.Thread(target=self._search, name="calib/search", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End serving; a search that hangs in the store is left to itself."""
        self._stop = True
        self._jobs.put(None)
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            thread.join(JOIN_S)
        self._context.destroy(linger=0)

    def _bind(self, address: str) -> zmq.Socket[bytes]:
        bound = self._context.socket(zmq.ROUTER)
        bound.setsockopt(zmq.MAXMSGSIZE, REQUEST_LIMIT_BYTES)
        bound.setsockopt(zmq.LINGER, 0)
        bound.curve_server = True
        bound.curve_secretkey = self._keys.server_secret.encode()
        bound.curve_publickey = self._keys.server_public.encode()
        bound.setsockopt_string(zmq.ZAP_DOMAIN, "calib")
        try:
            bound.bind(_numeric(address))
        except (zmq.ZMQError, OSError) as error:
            raise BroadcastError(
                f"the supervisor's address cannot be bound: {error}",
                where=address,
                hint="Is another supervisor running there? Choose another port",
            ) from error
        return bound

    # The thread that serves.

    def _serve(self) -> None:
        poller = zmq.Poller()
        for one in (self._socket, self._zap, self._wake):
            poller.register(one, zmq.POLLIN)
        while not self._stop:
            ready = {one for one, _ in poller.poll(POLL_MS)}
            if self._zap in ready:
                self._authenticate()
            if self._wake in ready:
                os.eventfd_read(self._wake)
                self._tell()
            if self._socket in ready:
                self._receive()
            self._forget()

    def _authenticate(self) -> None:
        """Let in whoever has the followers' key (ZMTP's authentication protocol, RFC 27)."""
        frames = self._zap.recv_multipart()
        known = z85.decode(self._keys.client_public.encode())
        good = len(frames) == 7 and frames[0] == b"1.0" and frames[5] == b"CURVE" and frames[6] == known
        request_id = frames[1] if len(frames) > 1 else b""
        verdict = [b"200", b"OK", b"follower"] if good else [b"400", b"this key is not known here", b""]
        if not good:
            self.refused += 1
            log.warning("supervisor: a follower with another key was refused")
        self._zap.send_multipart([b"1.0", request_id, *verdict, b""])

    def _receive(self) -> None:
        for _ in range(64):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if len(frames) != 2:
                    raise BroadcastError(f"a message of {len(frames)} frames")
                message = decode(frames[1], Find, Fetch, Done, limit_bytes=REQUEST_LIMIT_BYTES)
            except BroadcastError as error:
                self.refused += 1
                log.warning("supervisor: refused: %s", error)
                continue
            self._answer(frames[0], message)

    def _answer(self, address: bytes, message: Message) -> None:
        match message:
            case Find():
                self._find(address, message)
            case Fetch():
                self._fetch(address, message)
            case Done():
                self._searches.pop(message.token, None)
            case _:
                pass

    def _find(self, address: bytes, find: Find) -> None:
        search = self._searches.get(find.token)
        if search is None or search.find != find:
            if len(self._searches) >= MAX_SEARCHES:
                self._send(
                    address,
                    NotFound(find.token, "BroadcastError", "the supervisor has too many searches", "", ""),
                )
                return
            search = Search(find, self._clock(), address)
            self._searches[find.token] = search
            self._jobs.put(search)
        search.address, search.touched_s = address, self._clock()
        self._send(address, self._state(search))

    def _state(self, search: Search) -> Message:
        if search.failed is not None:
            return search.failed
        if search.packed is None:
            return Searching(search.find.token)
        return Found(search.find.token, search.digest, search.packed.nbytes, self._chunk_bytes)

    def _fetch(self, address: bytes, fetch: Fetch) -> None:
        search = self._searches.get(fetch.token)
        packed = None if search is None or search.digest != fetch.digest else search.packed
        if search is None or packed is None:
            self._send(address, Gone(fetch.token, fetch.digest))
            return
        search.touched_s = self._clock()
        begin = fetch.number * self._chunk_bytes
        if not 0 <= begin < packed.nbytes:
            self.refused += 1
            return
        head = encode(Chunk(fetch.token, fetch.digest, fetch.number))
        self._send_frames([address, head, packed[begin : begin + self._chunk_bytes]])
        self.served += 1

    def _tell(self) -> None:
        """Tell followers whose search has come to an end."""
        for search in self._searches.values():
            if not search.told and (search.packed is not None or search.failed is not None):
                search.told = True
                self._send(search.address, self._state(search))

    def _forget(self) -> None:
        over = self._clock() - self._keep_s
        for token in [token for token, one in self._searches.items() if one.touched_s < over]:
            del self._searches[token]

    def _send(self, address: bytes, message: Message) -> None:
        self._send_frames([address, encode(message)])

    def _send_frames(self, frames: list[Any]) -> None:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            # A follower that is gone or does not read asks again, or not.
            log.debug("supervisor: not sent: %s", error)

    # The thread that asks the store.

    def _search(self) -> None:
        while (search := self._jobs.get()) is not None and not self._stop:
            try:
                plan = pack_constants(self._source, search.find)
                buffer = bytearray(plan.size_bytes)
                plan.write(buffer)
                search.digest = plan.digest
                search.packed = memoryview(buffer).toreadonly()
            except CalibError as error:
                found = (type(error).__name__, error.what, error.where, error.hint)
                search.failed = NotFound(search.find.token, *found)
            except Exception as error:
                log.exception("supervisor: a search failed")
                search.failed = NotFound(
                    search.find.token, "BroadcastError", f"the search failed: {error!r}", "", ""
                )
            os.eventfd_write(self._wake, 1)


def _numeric(address: str) -> str:
    """Return tcp://HOST:PORT with the number of the host, for zmq binds no name; OSError where the name has none."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if host == "*" or host.startswith("[") or not host:
        return address
    number = socket.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)[0][4][0]
    return f"tcp://{number}:{port}"
