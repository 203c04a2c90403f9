"""Byte builders of XTC2, made from the format's description and nothing of the package: what tests read was
not written by what they test.

    dgram   = time.low u32, time.high u32, env u32, Xtc
    Xtc     = src u32, damage u16, contains u16, extent u32 (these 12 bytes included), payload
    Names   = Xtc(4): numArrays u32, detType, detName, detId, alg (256 each), version u32, segment u32,
              then per field: alg 256, version u32, name 256, DataType u32, rank u32
    ShapesData = Xtc(1) of Shapes = Xtc(2): 5 x u32 per array; and Data = Xtc(3): values without padding
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

PARENT, SHAPES_DATA, SHAPES, DATA, NAMES = range(5)
CONFIGURE, BEGINRUN, ENDRUN, BEGINSTEP, ENABLE, SLOWUPDATE, L1ACCEPT = 2, 4, 5, 6, 8, 10, 12
UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FLOAT, DOUBLE, CHARSTR, ENUMVAL, ENUMDICT = range(
    13
)
CORRUPTED = 8
FieldSpec = tuple[str, int, int]


def xtc(
    kind: int, payload: bytes = b"", *, src: int = 0, damage: int = 0, extent: int | None = None
) -> bytes:
    """An Xtc; `extent` may lie."""
    return struct.pack("<IHHI", src, damage, kind, 12 + len(payload) if extent is None else extent) + payload


def dgram(
    service: int,
    payload: bytes = b"",
    *,
    time: int = 0,
    env: int = 0,
    src: int = 0,
    damage: int = 0,
    extent: int | None = None,
) -> bytes:
    """A dgram; `extent` may lie."""
    words = struct.pack("<QI", time, env | service << 24)
    return words + xtc(PARENT, payload, src=src, damage=damage, extent=extent)


def text(value: str, size: int = 256) -> bytes:
    """NUL-terminated text with stale bytes after the NUL, as real files have."""
    raw = value.encode() + b"\0"
    return raw + b"\xee" * (size - len(raw))


def names(
    names_id: int,
    fields: Sequence[FieldSpec],
    *,
    det: str = "det",
    alg: str = "raw",
    version: int = 0x010203,
    segment: int = 0,
    dettype: str = "type",
    detid: str = "serial",
    num_arrays: int | None = None,
) -> bytes:
    """A Names Xtc of (name, DataType, rank) fields."""
    arrays = sum(1 for _, _, rank in fields if rank) if num_arrays is None else num_arrays
    info = struct.pack("<I", arrays) + text(dettype) + text(det) + text(detid) + text(alg)
    body = info + struct.pack("<II", version, segment)
    for name, dtype, rank in fields:
        body += text("") + struct.pack("<I", 0) + text(name) + struct.pack("<II", dtype, rank)
    return xtc(NAMES, body, src=names_id)


def shape(*dims: int) -> bytes:
    """A Shape; slots beyond the rank hold junk."""
    return struct.pack(f"<{len(dims)}I", *dims) + b"\xcc" * (20 - 4 * len(dims))


def shapes_data(
    names_id: int,
    shapes: Sequence[bytes],
    data: bytes,
    *,
    damage: int = 0,
    data_first: bool = False,
    junk: bytes = b"",
) -> bytes:
    """A ShapesData; `junk` goes after the shapes, as the legacy writer does."""
    parts = [xtc(SHAPES, b"".join(shapes) + junk), xtc(DATA, data)]
    return xtc(SHAPES_DATA, b"".join(reversed(parts) if data_first else parts), src=names_id, damage=damage)


def small_file(events: int = 3) -> bytes:
    """A Configure with one Names (u16 `n`, u8 array `a` of rank 2, text `s`), then events 1, 2, 3..."""
    fields = [("n", UINT16, 0), ("a", UINT8, 2), ("s", CHARSTR, 1)]
    out = dgram(CONFIGURE, names(0x101, fields), time=1)
    for index in range(1, events + 1):
        body = struct.pack("<H", index) + bytes([index & 0xFF] * 6) + b"ev\0\xff"
        out += dgram(L1ACCEPT, shapes_data(0x101, [shape(2, 3), shape(4)], body), time=index + 1)
    return out
