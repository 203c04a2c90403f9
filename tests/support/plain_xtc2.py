"""A second, independent reader of xtc2: plain struct and numpy, written from the description of the format, using nothing of `xtc`.

It is slow and simple on purpose: what it says of a file is what the tests of the whole drp command believe.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CONFIGURE, UNCONFIGURE, BEGIN_RUN, END_RUN, BEGIN_STEP, END_STEP, ENABLE, DISABLE, SLOW_UPDATE = (
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
)
L1_ACCEPT = 12
PARENT, SHAPES_DATA, SHAPES, DATA, NAMES = range(5)
CORRUPTED = 1 << 3
DTYPES = ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8", "S1", "<i4", "<i4")
CHARSTR = 10

Values = dict[str, Any]


@dataclass(frozen=True)
class PlainNames:
    """The fields of one kind of ShapesData: (name, type, rank) each."""

    det: str
    alg: str
    segment: int
    fields: tuple[tuple[str, int, int], ...]


@dataclass
class PlainDgram:
    """One dgram. `values` holds, by (detector, alg, segment), the fields of each ShapesData, and `raw` its bytes as they stand in the file."""

    offset: int
    size: int
    timestamp: int
    env: int
    damage: int
    names_ids: list[int] = field(default_factory=list)
    values: dict[tuple[str, str, int], Values] = field(default_factory=dict)
    raw: dict[tuple[str, str, int], bytes] = field(default_factory=dict)

    @property
    def service(self) -> int:
        return self.env >> 24 & 15

    @property
    def user_damage(self) -> int:
        return self.damage >> 12

    def find(self, alg: str) -> Values | None:
        """Return the fields of the only ShapesData of that alg, None where there is none."""
        found = [values for (_, name, _), values in self.values.items() if name == alg]
        assert len(found) <= 1, f"{len(found)} of {alg}"
        return found[0] if found else None


class PlainFile:
    """All dgrams of a file; `tail_bytes` is what is left behind the last whole one."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.names: dict[int, PlainNames] = {}
        self.tail_bytes = 0
        self.dgrams = list(self._dgrams())

    @property
    def services(self) -> list[int]:
        return [dgram.service for dgram in self.dgrams]

    @property
    def events(self) -> list[PlainDgram]:
        return [dgram for dgram in self.dgrams if dgram.service == L1_ACCEPT]

    def _dgrams(self) -> Iterator[PlainDgram]:
        offset = 0
        while offset < len(self.data):
            left = len(self.data) - offset
            if left < 24:
                break
            nanoseconds, seconds, env, _, damage, contains, extent = struct.unpack_from(
                "<IIIIHHI", self.data, offset
            )
            assert extent >= 12, f"extent {extent} at {offset}"
            assert contains & 0xFFF == PARENT, f"type {contains} at {offset}"
            if left < 12 + extent:
                break
            dgram = PlainDgram(offset, 12 + extent, seconds << 32 | nanoseconds, env, damage)
            if not damage & CORRUPTED:
                self._walk(dgram, offset + 24, offset + 12 + extent)
            yield dgram
            offset += dgram.size
        self.tail_bytes = len(self.data) - offset

    def _walk(self, dgram: PlainDgram, at: int, end: int) -> None:
        for src, damage, kind, begin, stop in self._children(at, end):
            if kind == PARENT and not damage & CORRUPTED:
                self._walk(dgram, begin, stop)
            elif kind == NAMES:
                self._take_names(src, begin, stop)
            elif kind == SHAPES_DATA:
                self._take_values(dgram, src, begin, stop)

    def _children(self, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        while at < end:
            src, damage, contains, extent = struct.unpack_from("<IHHI", self.data, at)
            assert 12 <= extent <= end - at, f"extent {extent} at {at}"
            yield src, damage, contains & 0xFFF, at + 12, at + extent
            at += extent

    def _take_names(self, src: int, begin: int, stop: int) -> None:
        _, _, det, _, alg = (self._text(begin, at) for at in (0, 4, 260, 516, 772))
        segment = struct.unpack_from("<I", self.data, begin + 1032)[0]
        assert (stop - begin - 1036) % 524 == 0, f"Names at {begin}"
        fields = []
        for at in range(begin + 1036, stop, 524):
            kind, rank = struct.unpack_from("<II", self.data, at + 516)
            fields.append((self._text(at, 260), kind, rank))
        self.names[src & 0x0FFFFFFF] = PlainNames(det, alg, segment, tuple(fields))

    def _take_values(self, dgram: PlainDgram, src: int, begin: int, stop: int) -> None:
        names = self.names[src & 0x0FFFFFFF]
        shapes, data = (0, 0), (0, 0)
        for _, _, kind, first, last in self._children(begin, stop):
            if kind == SHAPES:
                shapes = (first, last)
            elif kind == DATA:
                data = (first, last)
        values: Values = {}
        at, arrays = data[0], 0
        for name, kind, rank in names.fields:
            dtype = np.dtype(DTYPES[kind])
            dims: tuple[int, ...] = ()
            if rank:
                assert shapes[0] + 20 * (arrays + 1) <= shapes[1], f"no shape for {name} at {begin}"
                dims = struct.unpack_from("<5I", self.data, shapes[0] + 20 * arrays)[:rank]
                arrays += 1
            count = int(np.prod(dims, dtype=np.int64))
            assert at + count * dtype.itemsize <= data[1], f"{name} passes the end of its Data at {begin}"
            array = np.frombuffer(self.data, dtype, count, at)
            at += array.nbytes
            if kind == CHARSTR:
                values[name] = array.tobytes().split(b"\0")[0].decode()
            else:
                values[name] = array.reshape(dims) if rank else array[0].item()
        key = (names.det, names.alg, names.segment)
        assert key not in dgram.values, f"{key} twice in the dgram at {dgram.offset}"
        dgram.names_ids.append(src & 0x0FFFFFFF)
        dgram.values[key] = values
        dgram.raw[key] = self.data[begin:stop]

    def _text(self, begin: int, at: int) -> str:
        return self.data[begin + at : begin + at + 256].split(b"\0")[0].decode()
