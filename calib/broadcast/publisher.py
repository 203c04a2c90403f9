"""The drp's end of the broadcast: a ROUTER socket on a path of the user's own, served by a thread.

Bulk data never pass here: an offer names a shared memory segment. The socket's file is of mode 0600, in a folder of mode 0700
that the caller answers for; a message that is over the limit costs its sender the connection, one that cannot be read is counted
and not answered. All methods may be called from any thread; sockets are touched by the one thread only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import zmq

from calib.broadcast.messages import REQUEST_LIMIT_BYTES, Ask, Offer, Taken, decode, encode
from calib.broadcast.takers import REPEAT_S, Letter, Takers
from calib.errors import BroadcastError

PATH_LIMIT_BYTES = 107
POLL_MS = 200
JOIN_S = 1.0
AT_ONCE = 64

log = logging.getLogger("calib.broadcast")


class Publisher:
    """Offer the set in force to those who were given a ticket.

    `on_early` is called, in the publisher's thread, when one asks for the set of a BeginRun that `begin` has not told of.
    """

    def __init__(
        self,
        path: Path,
        *,
        repeat_s: float = REPEAT_S,
        on_early: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind the socket and start the thread; BroadcastError where the path cannot be bound."""
        self.path = path
        self.refused = 0
        self._on_early = on_early
        self._takers = Takers(repeat_s=repeat_s, clock=clock)
        self._lock = threading.Lock()
        self._letters: list[Letter] = []
        self._stop = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        try:
            self._socket = self._bind(path)
        except BaseException:
            self._context.destroy(linger=0)
            os.close(self._wake)
            raise
        self._thread = threading.Thread(target=self._main, name="calib/publisher", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What a subscriber connects to."""
        return f"ipc://{self.path}"

    @property
    def strangers(self) -> int:
        """Messages with a ticket that was never given, or is no longer good."""
        with self._lock:
            return self._takers.strangers

    def expect(self, ticket: str, name: str) -> None:
        """Let whoever has `ticket` take the set."""
        with self._lock:
            self._takers.expect(ticket, name)

    def forget(self, ticket: str) -> None:
        """Let it no more."""
        with self._lock:
            self._takers.forget(ticket)

    def begin(self, stamp: int) -> None:
        """A BeginRun goes out, its set is being made."""
        with self._lock:
            self._takers.begin(stamp)

    def publish(self, offer: Offer) -> None:
        """Offer a set to all who wait for it and to all who ask from now on."""
        with self._lock:
            self._post(self._takers.publish(offer))

    def has(self, ticket: str) -> bool:
        """Whether whoever has `ticket` has taken the set in force."""
        with self._lock:
            return self._takers.has(ticket)

    def story(self, ticket: str) -> str:
        """Say what is known of one that has not taken the set."""
        with self._lock:
            return self._takers.story(ticket)

    def close(self) -> None:
        """End the thread and remove the socket's file."""
        self._stop = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(JOIN_S)
        self._context.destroy(linger=0)
        os.close(self._wake)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def _bind(self, path: Path) -> zmq.Socket[bytes]:
        if len(os.fsencode(path)) > PATH_LIMIT_BYTES:
            raise BroadcastError(
                f"a socket's path has at most {PATH_LIMIT_BYTES} bytes",
                where=str(path),
                hint="Set XDG_RUNTIME_DIR to a folder of your own with a shorter name",
            )
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_LIMIT_BYTES)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.bind(f"ipc://{path}")
            path.chmod(0o600)
        except (zmq.ZMQError, OSError) as error:
            raise BroadcastError(f"no socket can be made: {error}", where=str(path)) from error
        return socket

    def _post(self, letters: Iterable[Letter]) -> None:
        """Have the thread send; the lock is held."""
        self._letters += letters
        os.eventfd_write(self._wake, 1)

    def _main(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._stop:
            ready = {one for one, _ in poller.poll(POLL_MS)}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if self._socket in ready:
                self._receive()
            with self._lock:
                letters, self._letters = [*self._letters, *self._takers.due()], []
                early = self._takers.early()
            self._send(letters)
            if early:
                self._on_early()

    def _receive(self) -> None:
        """Take what has come, a bounded number at a time: one that floods the socket must not keep the others waiting."""
        for _ in range(AT_ONCE):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if len(frames) != 2:
                    raise BroadcastError(f"a message of {len(frames)} frames")
                message = decode(frames[1], Ask, Taken, limit_bytes=REQUEST_LIMIT_BYTES)
            except BroadcastError as error:
                self.refused += 1
                level = logging.WARNING if self.refused == 1 else logging.DEBUG
                log.log(level, "%s: refused (more of these are only counted): %s", self.path.name, error)
                continue
            with self._lock:
                self._letters += self._takers.receive(frames[0], message)

    def _send(self, letters: Iterable[Letter]) -> None:
        for address, message in letters:
            # One that is gone meanwhile is no concern: a ROUTER drops what is for nobody, and one that is full is sent it again.
            with contextlib.suppress(zmq.Again):
                self._socket.send_multipart([address, encode(message)], zmq.NOBLOCK)
