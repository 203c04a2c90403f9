"""The messages of the broadcast, as JSON objects of known fields: between a drp and its workers, and between a supervisor and its followers.

What does not fit its kind exactly is refused whole. The payload of a `Chunk` travels as a second frame; nothing else does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from calib.broadcast.packing import MAX_ENTRIES, Entry
from calib.errors import BroadcastError

REQUEST_LIMIT_BYTES = 64 << 10
MESSAGE_LIMIT_BYTES = 4 << 20
TEXT_LIMIT = 64 << 10
LIST_LIMIT = 4096
INT_LIMIT = 1 << 63


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker asks for the set of the BeginRun with time stamp `stamp`; its ticket says who it is."""

    ticket: str
    stamp: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A worker has attached the set it was offered, and found it whole."""

    ticket: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Pending:
    """The set is being made: wait for an offer."""

    stamp: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A set: where it lies and all that is in it. `version` counts the BeginRuns of this drp."""

    version: int
    stamp: int
    digest: str
    segment_id: int
    size_bytes: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """It is noted that the worker has taken this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Find:
    """A follower asks for constants; `token` is its own name for this search, the same in every repetition."""

    token: str
    name: str
    dettype: str
    serials: tuple[str, ...]
    experiment: str | None
    run: int
    ctypes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Searching:
    """The supervisor is at it."""

    token: str


@dataclass(frozen=True, slots=True)
class Found:
    """What was found is a packed set of so many bytes and this digest, to be fetched in chunks of `chunk_bytes`."""

    token: str
    digest: str
    size_bytes: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class NotFound:
    """The search failed; `error` names the class of the error."""

    token: str
    error: str
    what: str
    where: str
    hint: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """A follower asks for one chunk of a set."""

    token: str
    digest: str
    number: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk; its bytes are the second frame."""

    token: str
    digest: str
    number: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The supervisor does not have that set (any more): search again."""

    token: str
    digest: str


@dataclass(frozen=True, slots=True)
class Done:
    """A follower has all it wanted of a search."""

    token: str


Message = (
    Ask
    | Taken
    | Pending
    | Offer
    | Settled
    | Find
    | Searching
    | Found
    | NotFound
    | Fetch
    | Chunk
    | Gone
    | Done
)


def encode(message: Message) -> bytes:
    """Return the message as one frame."""
    content: dict[str, Any] = {"kind": type(message).__name__}
    for one in dataclasses.fields(message):
        value = getattr(message, one.name)
        content[one.name] = [entry.as_json() for entry in value] if one.name == "entries" else value
    return json.dumps(content, separators=(",", ":")).encode()


def decode(frame: bytes, *kinds: type[Message], limit_bytes: int = MESSAGE_LIMIT_BYTES) -> Message:
    """Return the message in a frame, which must be one of `kinds`; BroadcastError where it is none of them, or not as it must be."""
    if len(frame) > limit_bytes:
        raise BroadcastError(f"a message of {len(frame)} bytes, at most {limit_bytes} are read")
    try:
        content = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise BroadcastError("a message that is no JSON") from error
    found = content.pop("kind", None) if isinstance(content, dict) else None
    kind = next((one for one in kinds if one.__name__ == found), None)
    if kind is None:
        raise BroadcastError(f"a message that is none of {', '.join(one.__name__ for one in kinds)}")
    hints = _HINTS[kind.__name__]
    if content.keys() != hints.keys():
        raise BroadcastError(f"a {kind.__name__} with other fields than its own")
    try:
        return kind(**{name: _READ[hint](content[name]) for name, hint in hints.items()})
    except ValueError as error:
        raise BroadcastError(f"a {kind.__name__} whose {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise ValueError("text is none")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not -INT_LIMIT <= value < INT_LIMIT:
        raise ValueError("number is none")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_LIMIT:
        raise ValueError("list is none")
    return tuple(_text(one) for one in value)


def _entries(value: Any) -> tuple[Entry, ...]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise ValueError("table of entries is none")
    return tuple(Entry.from_json(row) for row in value)


_READ: Mapping[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _number,
    str | None: lambda value: None if value is None else _text(value),
    tuple[str, ...]: _texts,
    tuple[str, ...] | None: lambda value: None if value is None else _texts(value),
    tuple[Entry, ...]: _entries,
}

_HINTS = {kind.__name__: get_type_hints(kind) for kind in get_args(Message)}
