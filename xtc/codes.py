"""The one module that knows struct codes: the fixed records of XTC2, little-endian, and the limits of the
format.

Nothing here decides what a record means; `names`, `dgram` and `writer` do.
"""

from __future__ import annotations

import struct

import numpy as np

from xtc.kinds import DataType

# Dgram: 0 time.low (ns), 4 time.high (s), 8 env, 12 top Xtc.
DGRAM = struct.Struct("<IIIIHHI")
# Xtc: 0 src, 4 damage, 6 contains, 8 extent (its own 12 bytes included).
XTC = struct.Struct("<IHHI")
# Names after its Xtc header: 0 numArrays, 4 detType, 260 detName, 516 detId, 772 alg name, 1028 alg version,
# 1032 segment.
NAME_INFO = struct.Struct("<I256s256s256s256sII")
# One Name: 0 alg name, 256 alg version, 260 name, 516 DataType, 520 rank.
NAME = struct.Struct("<256sI256sII")
# One Shape: five dims, the first `rank` of which mean something.
SHAPE = struct.Struct("<5I")
ENUM = struct.Struct("<i")

MAX_TEXT_BYTES = 255
MAX_RANK = 4
MAX_DIMS = 5
MAX_NAMES_ID = 0xFFFFF
MAX_NAMES_INDEX = 0xFF
MAX_NODE = 0xFFF
MAX_EXTENT = 0x7FFFFFF0
MAX_DEPTH = 8
MAX_VERSION_PART = 0xFF
# Reserved by the DAQ on its node; detector data counts from 0 up.
CHUNKINFO_INDEX, STEPINFO_INDEX, SMDINFO_INDEX, RUNINFO_INDEX = 252, 253, 254, 255

DTYPES: dict[DataType, np.dtype[np.generic]] = {
    DataType.UINT8: np.dtype("<u1"),
    DataType.UINT16: np.dtype("<u2"),
    DataType.UINT32: np.dtype("<u4"),
    DataType.UINT64: np.dtype("<u8"),
    DataType.INT8: np.dtype("<i1"),
    DataType.INT16: np.dtype("<i2"),
    DataType.INT32: np.dtype("<i4"),
    DataType.INT64: np.dtype("<i8"),
    DataType.FLOAT: np.dtype("<f4"),
    DataType.DOUBLE: np.dtype("<f8"),
    DataType.CHARSTR: np.dtype("<u1"),
    DataType.ENUMVAL: np.dtype("<i4"),
    DataType.ENUMDICT: np.dtype("<i4"),
}


def pack_version(version: tuple[int, int, int]) -> int:
    """Pack (major, minor, micro), each 0..255."""
    major, minor, micro = version
    return major << 16 | minor << 8 | micro


def unpack_version(word: int) -> tuple[int, int, int]:
    """Unpack a version word; bits above 23 are not part of it."""
    return (word >> 16 & 0xFF, word >> 8 & 0xFF, word & 0xFF)
