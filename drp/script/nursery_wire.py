"""The messages between drp and its nursery, and how they stand on the socket.

One message is one packet of a SOCK_SEQPACKET pair: a JSON object `{"kind": name, field: value ...}` whose
values are integers and strings only, with file descriptors attached where the table `DESCRIPTORS` says so.
Both ends read with `receive`, which refuses a packet over the limit, an unknown kind, a missing or foreign
field, a wrong type and a wrong number of descriptors. This module knows nothing of what the messages make
happen.
"""

import array
import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from drp.core.errors import DrpError

PACKET_LIMIT_BYTES = 128 * 1024
REASON_LIMIT = 8000
MAX_DESCRIPTORS = 2

# In the environment of a nursery and all that comes from it, and in that of what a worker starts: whose it
# is.
NURSERY_VARIABLE = "DRP_NURSERY"
WORKER_PID_VARIABLE = "DRP_WORKER_PID"


class WireError(DrpError):
    """A packet on the nursery's socket that is not one of our messages."""

    @property
    def where(self) -> str:
        """The nursery's socket."""
        return "nursery socket"


@dataclass(frozen=True, slots=True)
class Fork:
    """drp -> nursery: fork a worker; the write ends of its stdout and stderr are attached, in that order."""

    id: int
    name: str
    spec: str


@dataclass(frozen=True, slots=True)
class Reap:
    """drp -> nursery: kill what is left of a worker and its process group, and reap it."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ping:
    """drp -> nursery: say that you are there."""

    id: int


@dataclass(frozen=True, slots=True)
class Ready:
    """nursery -> drp: everything is imported; workers can be forked."""

    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """nursery -> drp: no worker can be forked here, and why; the nursery ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forked:
    """nursery -> drp: a worker stands, in its own session; its pidfd is attached."""

    id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """nursery -> drp: no worker came of that request, and why; nothing is left of it."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """nursery -> drp: a worker is reaped.

    `status` is the wait status; `strays` counts the processes it left behind that had to be killed one by
    one, because they had left its process group.
    """

    pid: int
    status: int
    strays: int

    @property
    def exit_code(self) -> int | None:
        """The exit code, None if a signal ended the worker."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> int | None:
        """The signal that ended the worker, None if it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    def __str__(self) -> str:
        return describe_status(self.status)


@dataclass(frozen=True, slots=True)
class Pong:
    """nursery -> drp: the answer to a ping."""

    id: int


Message = Fork | Reap | Ping | Ready | StartFailed | Forked | ForkFailed | Reaped | Pong
KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Fork, Reap, Ping, Ready, StartFailed, Forked, ForkFailed, Reaped, Pong)
}
DESCRIPTORS: dict[type[Message], int] = {Fork: 2, Forked: 1}


def describe_status(status: int) -> str:
    """Say a wait status in words: `exit code 3` or `signal 9 (SIGKILL)`."""
    if os.WIFEXITED(status):
        return f"exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else "?"
    return f"signal {number} ({name})"


def encode(message: Message) -> bytes:
    """Return a message as a packet; WireError if it is over the limit."""
    packet = json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()
    if len(packet) > PACKET_LIMIT_BYTES:
        raise WireError(
            f"a {type(message).__name__} of {len(packet)} bytes is over the limit of {PACKET_LIMIT_BYTES}",
            hint="Are the script's arguments that long?",
        )
    return packet


def decode(packet: bytes) -> Message:
    """Return the message a packet holds; WireError if it is none of ours."""
    try:
        content = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a packet of {len(packet)} bytes is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise WireError("a packet is not a JSON object with a kind")
    name = content.pop("kind")
    kind = KINDS.get(name)
    if kind is None:
        raise WireError(f"unknown kind of message {name[:40]!r}")
    expected = {field.name: field.type for field in fields(kind)}
    if content.keys() != expected.keys():
        raise WireError(f"{name} has the fields {sorted(content)}, expected {sorted(expected)}")
    for field, value in content.items():
        if type(value) is not expected[field]:
            raise WireError(f"{name}.{field} is {type(value).__name__}, expected {expected[field]}")
    return kind(**content)


def send(link: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a packet with descriptors attached; the sender still owns its own copies of them."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    link.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)


def receive(link: socket.socket) -> tuple[Message, list[int]] | None:
    """Read one message and the descriptors attached to it, which are then the caller's; None at end of file.

    WireError if the packet is not one of our messages; its descriptors are closed. BlockingIOError if the
    socket does not block and has nothing.
    """
    packet, ancillary, flags, _address = link.recvmsg(
        PACKET_LIMIT_BYTES + 1, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not packet:
        return None
    try:
        message = _checked(packet, flags, len(descriptors))
    except WireError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return message, list(descriptors)


def _checked(packet: bytes, flags: int, descriptors: int) -> Message:
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(packet) > PACKET_LIMIT_BYTES:
        raise WireError(f"a packet was cut: over {PACKET_LIMIT_BYTES} bytes, or too many descriptors")
    message = decode(packet)
    wanted = DESCRIPTORS.get(type(message), 0)
    if descriptors != wanted:
        raise WireError(f"{type(message).__name__} came with {descriptors} descriptors, expected {wanted}")
    return message
