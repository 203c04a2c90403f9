"""The messages between the processes of a partition: what stands in each, byte by byte.

Everything is little-endian, at fixed places, and checked before it is believed: nothing that comes from another process is run.
A message is one ZMQ frame: a `Header`, then a payload that is an array of one of the records below, or JSON text. Three links use it:

* drp and teb: contributions go out, verdicts come back;
* timing and drp: triggers go out, credit comes back;
* drp and meb, meb and viewer: whole datagrams go out, credit comes back.

Control speaks JSON throughout (`drp.link.control`). This module knows no socket and no clock.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.errors import MessageError

VERSION = 1
MAX_DRPS, MAX_TEBS, MAX_MEBS, MAX_GROUPS = 64, 4, 4, 8
MAX_JSON_BYTES = 4 << 20
MAX_RECORDS = 65536
GROUPS_MASK = 0xFFFF
KEEP_RAW = 1 << 22
N_EVENT_CODES = 288
WORDS_ALIGN = 8

_MAGIC = 0x31505244  # "DRP1"
_HEADER = struct.Struct("<IHHII")
_MONITORED = struct.Struct("<QII")


class Kind(IntEnum):
    """What a message is."""

    HELLO = 1
    """JSON. The first message of whoever connects, and again whenever it is answered with ERROR."""
    WELCOME = 2
    """JSON. The answer to HELLO."""
    ERROR = 3
    """JSON {"what", "hint"}: what was wrong with the last message; the session is over."""
    BYE = 4
    """No payload: the sender leaves in good order."""
    EVENTS = 5
    """Contributions, verdicts, or triggers, by link: an array of its record."""
    TRANSITION = 6
    """One record, as in EVENTS, and then JSON text."""
    CREDIT = 7
    """u64: how many events may be sent on this link since HELLO, in all. A viewer's is a VIEWER_CREDIT; to a viewer, the events there were."""
    DGRAM = 8
    """One MONITORED record, and then a whole datagram."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first 16 bytes of every message. `session` is chosen by whoever said HELLO; an answer repeats it, and one of another session is dropped."""

    kind: Kind
    session: int
    count: int = 0

    SIZE = _HEADER.size

    def encode(self) -> bytes:
        """Return the 16 bytes."""
        return _HEADER.pack(_MAGIC, VERSION, self.kind, self.session, self.count)


class Contributed(IntFlag):
    """What is said of one contribution beside its damage."""

    words = 1
    """The script gave trigger words. Without them (its failure, or it has none) the words are zeros."""
    failed = 2
    """The event's script failed: whatever the trigger says, it persists."""


CONTRIBUTION = np.dtype(
    [
        ("seq", "<u8"),  # the drp's own number of the event; its verdict repeats it
        ("pulse_id", "<u8"),
        ("timestamp", "<u8"),
        ("env", "<u4"),
        ("damage", "<u2"),
        ("flags", "<u2"),
    ]
)
"""drp to teb, 32 bytes; the words follow, packed in declared order and padded with zeros to a multiple of 8. All of one drp have the same length."""

VERDICT = np.dtype(
    [
        ("seq", "<u8"),
        ("pulse_id", "<u8"),
        (
            "result",
            "<u4",
        ),  # as LCLS's ResultDgram: bit 0 prescale, 1 persist, 2-5 monitor mask, 8-31 auxiliary data
        ("damage", "<u2"),
        ("flags", "<u2"),
    ]
)
"""teb to drp, 24 bytes. `damage` is what the event builder adds."""

PRESCALE, PERSIST, MONITOR_SHIFT, MONITOR_MASK, AUX_SHIFT = 1, 2, 2, 0x3C, 8

TRIGGER = np.dtype(
    [
        ("pulse_id", "<u8"),
        ("timestamp", "<u8"),
        ("env", "<u4"),  # type and service, keepRaw, readout groups: as in a dgram
        ("beam", "<u4"),  # bits 0-6 the destination, bit 7 whether there was beam
        ("event_codes", "<u4", (9,)),  # bit n % 32 of word n / 32: event code n
        ("number", "<u4"),  # counts the triggers sent to this drp since HELLO, from 1: none is lost unseen
    ]
)
"""timing to drp, 64 bytes. A TRANSITION's JSON is what its phase 1 said."""

MONITORED = np.dtype([("pulse_id", "<u8"), ("result", "<u4"), ("drp_id", "<u4")])
"""drp to meb, 16 bytes before the dgram, or before Configure and BeginRun, which go together. `count` 1 in the header: a transition that was
in force already, told to a meb that begins. From meb to viewer the same with one dgram; `drp_id` is the event's number, from 1, or 0; `count` the
number of the last event."""

POSTED = np.dtype(
    [
        ("pulse_id", "<u8"),
        ("result", "<u4"),
        ("number", "<u4"),  # as `drp_id` in a MONITORED of a viewer
        ("segment", "<u4"),  # id of the shared memory segment
        ("spare", "<u4"),
        ("segment_bytes", "<u8"),
        ("offset", "<u8"),  # of the slot in it
        ("stamp", "<u8"),  # of the slot, while the event is there
        ("size", "<u8"),  # of the dgram
    ]
)
"""meb to viewer on the same machine, in EVENTS: where an event lies (drp.shm._board)."""

VIEWER_CREDIT = struct.Struct("<QQ")
"""viewer to meb, the payload of CREDIT: how many events may be sent since HELLO, in all, and how many transitions were taken."""


def stride_of(words_bytes: int) -> int:
    """Return the bytes of one contribution with so many bytes of words."""
    return CONTRIBUTION.itemsize + -(-words_bytes // WORDS_ALIGN) * WORDS_ALIGN


def monitored(payload: memoryview) -> tuple[int, int, int, memoryview]:
    """Return pulse id, result, drp id and dgrams of a DGRAM's payload. MessageError: it is too short."""
    if len(payload) < MONITORED.itemsize:
        raise MessageError(f"{len(payload)} bytes are no monitored dgram")
    pulse_id, result, drp_id = _MONITORED.unpack_from(payload)
    return pulse_id, result, drp_id, payload[MONITORED.itemsize :]


def encode_monitored(pulse_id: int, result: int, drp_id: int) -> bytes:
    """Return a MONITORED record."""
    return _MONITORED.pack(pulse_id, result, drp_id & 0xFFFFFFFF)


def decode(frame: bytes | memoryview) -> tuple[Header, memoryview]:
    """Return header and payload of one frame. MessageError: it is no message of ours, or of another version."""
    view = memoryview(frame)
    if len(view) < Header.SIZE:
        raise MessageError(f"{len(view)} bytes are no message")
    magic, version, kind, session, count = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise MessageError("this is no message of drp's")
    if version != VERSION:
        raise MessageError(
            f"the message has version {version}, this drp speaks {VERSION}",
            hint="Start all processes from the same installation.",
        )
    try:
        known = Kind(kind)
    except ValueError:
        raise MessageError(f"there is no message of kind {kind}") from None
    return Header(known, session, count), view[Header.SIZE :]


def records(payload: memoryview, count: int, dtype: np.dtype[Any], stride: int = 0) -> npt.NDArray[Any]:
    """Return `count` records as a read-only view of the payload, each `stride` bytes (0: its own size). MessageError: it has another length."""
    size = stride or dtype.itemsize
    if count > MAX_RECORDS or len(payload) != count * size:
        raise MessageError(f"{len(payload)} bytes are not {count} records of {size}")
    whole = np.frombuffer(payload, np.uint8).reshape(count, size)
    out = whole[:, : dtype.itemsize].view(dtype)[:, 0] if count else np.empty(0, dtype)
    out.flags.writeable = False
    return out


def encode_json(kind: Kind, session: int, body: dict[str, Any]) -> bytes:
    """Return a message whose payload is JSON."""
    return Header(kind, session).encode() + json.dumps(body, separators=(",", ":")).encode()


def decode_json(payload: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object of a payload. MessageError: it is none."""
    if len(payload) > MAX_JSON_BYTES:
        raise MessageError(f"{len(payload)} bytes of JSON are over the limit of {MAX_JSON_BYTES}")
    try:
        body = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the text is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise MessageError("the JSON is no object")
    return body
