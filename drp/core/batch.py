"""A batch of built events as the trigger script's process is given it, byte by byte, and what is answered for it.

It travels as one L1Accept dgram in a slot of the teb's own pebble. All is little-endian, at multiples of 8:

    0    dgram header (12) and top Xtc (12): time stamp and env of the first event, no children
    24   HEADER, 24 bytes
    48   n_events x EVENT, 48 bytes each
    ..   for each contributor of the Configure in turn: n_events rows as they came from its drp, a CONTRIBUTION and the words, `stride` bytes
         each; rows of those who did not contribute are zeros

The answer is one u32 for each event: the `result` of wire.VERDICT. A verdict for whoever submitted the batch is a RESULT.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.wire import CONTRIBUTION, MAX_DRPS, stride_of
from xtc import TransitionId

MAX_EVENTS = 1024
BATCH_BYTES = 1 << 20
"""Room of one batch: a slot of the pebble."""

_DGRAM_BYTES = 24
_TOP = struct.Struct("<QIIHHIQIIQ")
HEADER = np.dtype([("number", "<u8"), ("n_events", "<u4"), ("n_contributors", "<u4"), ("spare", "<u8")])
EVENT = np.dtype(
    [
        ("number", "<u8"),  # the submitter's own: its RESULT repeats it
        ("pulse_id", "<u8"),
        ("timestamp", "<u8"),
        ("env", "<u4"),
        ("damage", "<u2"),  # of all contributions and of the event builder, OR-ed
        ("flags", "<u2"),
        ("present", "<u8"),  # bit i: contributor i of the Configure, in its order, contributed
        ("missing", "<u8"),  # bit i: it should have
    ]
)
RESULT = np.dtype(
    [
        ("number", "<u8"),
        ("pulse_id", "<u8"),
        ("result", "<u4"),
        ("cause", "<u2"),  # why there is no answer of the script: drp.core.ledger.Cause, 0: it answered
        ("spare", "<u2"),
    ]
)

_NUMPY = {
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}
EVENTS_AT = _DGRAM_BYTES + HEADER.itemsize


class EventFlag(IntEnum):
    """What `flags` of an EVENT says."""

    failed = 1
    """The script of a contributor failed on this event: it persists whatever the trigger says."""


@dataclass(frozen=True, slots=True)
class Contributor:
    """One contributor of a Configure. `words`: (name, type) in packed order, types as numpy writes them ("<u4") or as xtc's Names do ("UINT32").

    ValueError: a type is neither.
    """

    id: int
    alias: str
    group: int
    words: tuple[tuple[str, str], ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The words as a packed record."""
        try:
            kinds = [np.dtype(_NUMPY.get(kind, kind)).newbyteorder("<") for _, kind in self.words]
            if wrong := [one.str for one in kinds if one.str[1:] not in _NUMPY.values()]:
                raise ValueError(f"{wrong[0]} is no type of a trigger word")
            return np.dtype([(name, kind) for (name, _), kind in zip(self.words, kinds, strict=True)])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.alias}: {error}") from None

    @property
    def stride(self) -> int:
        """Bytes of one contribution with its words."""
        return stride_of(self.dtype.itemsize if self.words else 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands in batches of these contributors. ValueError: more than 64, or an event of them does not fit a batch.

    `dtypes` and `strides` are those of the contributors; `event_bytes`: one event with all contributions; `max_events`: of a batch.
    """

    contributors: tuple[Contributor, ...]
    dtypes: tuple[np.dtype[Any], ...] = field(init=False)
    strides: tuple[int, ...] = field(init=False)
    event_bytes: int = field(init=False)
    max_events: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.contributors) > MAX_DRPS:
            raise ValueError(f"{len(self.contributors)} contributors: a partition has at most {MAX_DRPS}")
        strides = tuple(one.stride for one in self.contributors)
        event_bytes = EVENT.itemsize + sum(strides)
        # Once, and not for each batch: numpy takes its time over types.
        object.__setattr__(self, "dtypes", tuple(one.dtype for one in self.contributors))
        object.__setattr__(self, "strides", strides)
        object.__setattr__(self, "event_bytes", event_bytes)
        object.__setattr__(self, "max_events", min(MAX_EVENTS, (BATCH_BYTES - EVENTS_AT) // event_bytes))
        if self.max_events < 1:
            raise ValueError(f"the words of one event are {event_bytes} bytes: a batch has {BATCH_BYTES}")

    def encode(
        self, events: npt.NDArray[Any], rows: Sequence[npt.NDArray[np.uint8]], number: int = 0
    ) -> bytes:
        """Return the dgram of a batch.

        `events` (n,) EVENT, at least one; `rows[i]` (n, stride of contributor i) uint8. ValueError: shapes that do not go together.
        """
        n = len(events)
        shapes = [(n, stride) for stride in self.strides]
        if not 1 <= n <= self.max_events or [one.shape for one in rows] != shapes:
            raise ValueError(
                f"a batch of {n} events (1 to {self.max_events}), rows {[one.shape for one in rows]} for {shapes}"
            )
        size = EVENTS_AT + n * self.event_bytes
        first = events[0]
        env = TransitionId.L1Accept << 24 | int(first["env"]) & 0xFFFFFF
        top = _TOP.pack(int(first["timestamp"]), env, 0, 0, 0, size - 12, number, n, len(rows), 0)
        return b"".join([top, events.astype(EVENT, copy=False).tobytes(), *[one.tobytes() for one in rows]])

    def decode(self, dgram: bytes | memoryview) -> tuple[npt.NDArray[Any], list[npt.NDArray[np.uint8]]]:
        """Return events and rows of a batch as views of it; ValueError where it is none of this layout."""
        if len(dgram) < EVENTS_AT:
            raise ValueError(f"{len(dgram)} bytes are no batch")
        header = np.frombuffer(dgram, HEADER, 1, _DGRAM_BYTES)[0]
        n = int(header["n_events"])
        if (
            header["n_contributors"] != len(self.contributors)
            or len(dgram) != EVENTS_AT + n * self.event_bytes
        ):
            raise ValueError(f"a batch of {len(dgram)} bytes does not hold {n} events of {self.event_bytes}")
        events = np.frombuffer(dgram, EVENT, n, EVENTS_AT)
        at = EVENTS_AT + events.nbytes
        rows = []
        for stride in self.strides:
            rows.append(np.frombuffer(dgram, np.uint8, n * stride, at).reshape(n, stride))
            at += n * stride
        return events, rows

    def words(self, rows: npt.NDArray[np.uint8], contributor: int) -> npt.NDArray[Any]:
        """Return the words (n,) of one contributor's rows, a packed record, as a view; all of its columns by name."""
        dtype = self.dtypes[contributor]
        part = rows[:, CONTRIBUTION.itemsize : CONTRIBUTION.itemsize + dtype.itemsize]
        return np.ascontiguousarray(part).view(dtype)[:, 0] if dtype.itemsize else np.empty(len(rows), dtype)
