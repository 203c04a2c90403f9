"""The line between control and the members of a partition: the messages, and a member's end of it.

A message is one frame of JSON: {"header": {"key", "msg_id", "sender_id"}, "body": {...}}. Members connect to control and tell twice a second who they
are and how they are; a control that was not there before learns all it needs from that. Control sends commands, each of which is answered
once, with its key and msg_id; what a member says on its own has no msg_id.

The line has a thread of its own, so that a member which is busy is not taken for dead. What it says while control is away waits for control, up
to a limit.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeGuard

import zmq

from drp.core.errors import DrpError, MessageError
from drp.core.partition import RESET, STEPS, State
from drp.core.wire import MAX_JSON_BYTES, decode_json
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join

HEARTBEAT_S = 0.5
RETRY_S = 0.05
SILENT_S = 1.5
JOIN_S = 2.0
MAX_WAITING = 1000
MAX_TEXT = 200
HEARTBEAT, ROLLCALL, GONE, REFUSED = "heartbeat", "rollcall", "gone", "refused"

log = logging.getLogger("drp.control")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it came."""

    key: str
    msg_id: str
    sender_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """What control asks of a member."""

    key: str
    msg_id: str
    body: dict[str, Any] = field(default_factory=dict)


def encode(key: str, body: dict[str, Any], *, msg_id: str = "", sender_id: str = "") -> bytes:
    """Return a message as a frame. MessageError: it is over the limit, or no JSON can say it."""
    whole = {"header": {"key": key, "msg_id": msg_id, "sender_id": sender_id}, "body": body}
    try:
        text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"{key}: JSON cannot say it: {error}") from None
    if len(text) > MAX_JSON_BYTES:
        raise MessageError(f"{key}: {len(text)} bytes are over the limit of {MAX_JSON_BYTES}")
    return text


def decode(frame: bytes) -> Message:
    """Return the message in a frame. MessageError: it is none."""
    whole = decode_json(frame)
    header, body = whole.get("header"), whole.get("body")
    if not isinstance(header, dict) or not isinstance(body, dict):
        raise MessageError("a message has a header and a body")
    key, msg_id, sender_id = (header.get(name) for name in ("key", "msg_id", "sender_id"))
    if not (_is_text(key) and key and _is_text(msg_id) and _is_text(sender_id)):
        raise MessageError("a header has key, msg_id and sender_id, all of them text")
    return Message(key, msg_id, sender_id, body)


def _is_text(field: object) -> TypeGuard[str]:
    return isinstance(field, str) and len(field) <= MAX_TEXT


def told(error: BaseException | str) -> dict[str, str]:
    """Return what is told of an error: {"what", "where", "hint", "traceback"}."""
    if isinstance(error, DrpError):
        trace = getattr(error, "traceback", "")
        return {"what": error.what, "where": error.where, "hint": error.hint, "traceback": trace}
    return {"what": str(error) or type(error).__name__, "where": "", "hint": "", "traceback": ""}


class Member:
    """A member's end of the line. Connects, and connects again, for as long as it lives. All methods may be called from any thread.

    `describe` is called from the line's own thread twice a second: it must be quick, and returns what is added to each heartbeat and to the answer to
    rollcall, such as {"det_info": {"readout": 0}}. `state` follows the commands that were answered without an error.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys | None = None,
        *,
        level: str,
        alias: str,
        describe: Callable[[], dict[str, Any]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to control at `endpoint`; LinkError where that is no address."""
        self.level = level
        self.alias = alias
        self.state = State.UNALLOCATED
        self.lost = 0
        self.sender_id = f"{level}/{alias}/{secrets.token_hex(6)}"
        self._describe = describe
        self._clock = clock
        self._lock = threading.Lock()
        self._commands: deque[tuple[float, Command]] = deque()
        self._open: dict[str, tuple[str, float]] = {}
        self._waiting: deque[bytes] = deque()
        self._heard_s = -SILENT_S
        self._described = True
        self._stop = False
        self._socket = join(zmq.DEALER, endpoint, keys=keys)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable while commands() has something."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._main, name="drp/control", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether control was heard in the last second and a half."""
        return self._clock() - self._heard_s < SILENT_S

    def commands(self) -> list[Command]:
        """Return the commands that came since the last call, in order."""
        with self._lock:
            with suppress(BlockingIOError):
                os.eventfd_read(self.fd)
            taken = [command for _, command in self._commands]
            self._commands.clear()
            return taken

    def answer(
        self, command: Command, body: dict[str, Any] | None = None, *, error: DrpError | str | None = None
    ) -> None:
        """Answer a command, once; with an error, the partition's transition fails and names this member."""
        answer = dict(body or {})
        if error is not None:
            answer["err_info"] = told(error)
        elif command.key == ROLLCALL:
            answer = self._who() | answer
        try:
            frame = encode(command.key, answer, msg_id=command.msg_id, sender_id=self.sender_id)
        except MessageError as wrong:
            self.answer(command, error=wrong)
            return
        with self._lock:
            self._open.pop(command.msg_id, None)
            if error is None:
                self.state = _state_after(command.key, self.state)
        self._say(frame)

    def tell(self, key: str, body: dict[str, Any]) -> None:
        """Say something that was not asked for: error, warning, fileReport, timingTransition, gone. MessageError: JSON cannot say it."""
        self._say(encode(key, body, sender_id=self.sender_id))

    def close(self) -> None:
        """End the line; what has not been sent by then is lost."""
        with self._lock:
            if self._stop:
                return
            self._stop = True
            os.eventfd_write(self._wake, 1)
        self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            self._socket.close()
            os.close(self._wake)
            os.close(self.fd)

    def _say(self, frame: bytes) -> None:
        with self._lock:
            if self._stop:
                return
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(frame)
            os.eventfd_write(self._wake, 1)

    def _who(self) -> dict[str, Any]:
        now = self._clock()
        with self._lock:
            state = self.state
            busy = next(iter(self._open.values()), None)
            untaken_s = now - self._commands[0][0] if self._commands else 0.0
        return {
            "level": self.level,
            "alias": self.alias,
            "proc_info": {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "alias": self.alias,
                "level": self.level,
                "version": _version(),
            },
            "state": state,
            "busy": "" if busy is None else busy[0],
            "busy_s": 0.0 if busy is None else round(now - busy[1], 3),
            "untaken_s": round(untaken_s, 3),
        } | self._own_words()

    def _own_words(self) -> dict[str, Any]:
        try:
            return self._describe()
        except Exception:
            # It is the member's own code, and its line must not end with it.
            if self._described:
                log.exception("%s cannot be described", self.alias)
            self._described = False
            return {}

    # The line's own thread.

    def _main(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        due_s = self._clock()
        while not self._stop:
            now = self._clock()
            if now >= due_s:
                due_s = now + HEARTBEAT_S
                self._beat()
            limit_s = RETRY_S if self._waiting else due_s - now
            poller.poll(max(1, int(limit_s * 1000)))
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._receive()
            self._send()
        self._send()

    def _beat(self) -> None:
        with suppress(zmq.Again, MessageError):
            self._socket.send(encode(HEARTBEAT, self._who(), sender_id=self.sender_id), zmq.NOBLOCK)

    def _receive(self) -> None:
        while True:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode(frame)
            except MessageError as error:
                log.warning("control said what cannot be read: %s", error)
                continue
            self._heard_s = self._clock()
            if message.key == REFUSED:
                log.error("control refuses this process: %s", message.body.get("what"))
            elif message.key != HEARTBEAT:
                self._take(Command(message.key, message.msg_id, message.body))

    def _take(self, command: Command) -> None:
        with self._lock:
            self._commands.append((self._heard_s, command))
            if command.msg_id:
                self._open[command.msg_id] = (command.key, self._heard_s)
            os.eventfd_write(self.fd, 1)

    def _send(self) -> None:
        with self._lock, suppress(zmq.Again):
            while self._waiting:
                self._socket.send(self._waiting[0], zmq.NOBLOCK)
                self._waiting.popleft()


def _state_after(key: str, before: State) -> State:
    if key == RESET:
        return State.UNALLOCATED
    return STEPS[key].after if key in STEPS and key != ROLLCALL else before


def _version() -> str:
    try:
        return version("drp")
    except PackageNotFoundError:
        return "not installed"
