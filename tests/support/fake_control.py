"""A control for tests of members: it sends what the test says and keeps what it hears, with a limit on every wait and no thread of its own."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any, Self

import zmq

from drp.link.control import HEARTBEAT, Message, decode, encode
from drp.link.sockets import listen

LIMIT_S = 10.0


class FakeControl:
    """Serves `name` in the run directory, as a context manager. Give its `endpoint` to members."""

    def __init__(self, name: str = "control-tst-p0", limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.members: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.told: list[tuple[str, Message]] = []
        self._answers: dict[str, Message] = {}
        self._ids = itertools.count(1)
        self._socket, self.endpoint = listen(zmq.ROUTER, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def forget(self) -> None:
        """Forget what was heard."""
        self.members.clear()
        self.told.clear()

    def await_members(self, *aliases: str) -> None:
        """Wait until each has told that it is there."""
        self.until(lambda: set(aliases) <= set(self.members), f"{aliases} of {set(self.members)}")

    def command(self, alias: str, key: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command and return the body of its answer."""
        return self.answer(self.send(alias, key, body))

    def send(self, alias: str, key: str, body: dict[str, Any] | None = None) -> str:
        """Send a command and return its msg_id."""
        msg_id = str(next(self._ids))
        self.send_raw(alias, encode(key, body or {}, msg_id=msg_id, sender_id="control"))
        return msg_id

    def send_raw(self, alias: str, frame: bytes) -> None:
        """Send whatever is in a frame."""
        self.await_members(alias)
        self._socket.send_multipart([self.members[alias][0], frame])

    def answer(self, msg_id: str) -> dict[str, Any]:
        """Wait for the answer to a command, and return its body."""
        self.until(lambda: msg_id in self._answers, f"an answer to {msg_id}")
        return self._answers.pop(msg_id).body

    def all(self, key: str, body: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """Send a command to every member; return the answers by alias."""
        sent = {alias: self.send(alias, key, body) for alias in tuple(self.members)}
        return {alias: self.answer(msg_id) for alias, msg_id in sent.items()}

    def await_told(self, key: str, alias: str = "", **fields: object) -> dict[str, Any]:
        """Wait until a member, or a certain one, tells `key` with these fields; take that out of what was told, and return its body."""

        def found() -> tuple[str, Message] | None:
            for one in self.told:
                said = one[1].body
                if one[1].key == key and alias in ("", one[0]) and fields.items() <= said.items():
                    return one
            return None

        self.until(lambda: found() is not None, f"{key} {fields} from {alias or 'anybody'}")
        one = found()
        assert one is not None
        self.told.remove(one)
        return one[1].body

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Listen until something holds; AssertionError where it does not within the limit."""
        end = time.monotonic() + self.limit_s
        while not holds():
            left = end - time.monotonic()
            assert left > 0, f"waited {self.limit_s} s for {what}; told: {self.told}"
            if self._socket.poll(int(left * 1000) + 1):
                self._hear()

    def _hear(self) -> None:
        address, frame = self._socket.recv_multipart()
        message = decode(frame)
        if message.key == HEARTBEAT:
            self.members[message.body["alias"]] = (address, message.body)
            with contextlib.suppress(zmq.ZMQError):  # it may have gone meanwhile
                self._socket.send_multipart([address, encode(HEARTBEAT, {})])
        elif message.msg_id:
            self._answers[message.msg_id] = message
        else:
            _, alias, _ = message.sender_id.split("/")
            self.told.append((alias, message))
