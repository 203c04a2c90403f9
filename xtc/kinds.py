"""The numbers of the XTC2 format that have names: transitions, Xtc types, data types, damage bits. No
behaviour beyond that.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class TransitionId(IntEnum):
    """The service of a dgram, bits 27:24 of its env word."""

    ClearReadout = 0
    Reset = 1
    Configure = 2
    Unconfigure = 3
    BeginRun = 4
    EndRun = 5
    BeginStep = 6
    EndStep = 7
    Enable = 8
    Disable = 9
    SlowUpdate = 10
    L1Accept_EndOfBatch = 11
    L1Accept = 12


class TypeId(IntEnum):
    """What an Xtc contains, bits 11:0 of its `contains` word."""

    Parent = 0
    ShapesData = 1
    Shapes = 2
    Data = 3
    Names = 4


class DataType(IntEnum):
    """The type of a field. ENUMVAL and ENUMDICT are 32-bit signed integers, CHARSTR is bytes of rank 1."""

    UINT8 = 0
    UINT16 = 1
    UINT32 = 2
    UINT64 = 3
    INT8 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    FLOAT = 8
    DOUBLE = 9
    CHARSTR = 10
    ENUMVAL = 11
    ENUMDICT = 12


class Damage(IntFlag):
    """Damage of an Xtc by the bit positions of the C++ headers (psana's Python enum is one bit off for some).

    The top four bits are a value 0..15 that belongs to the user; see `user_code` and `with_user_code`.
    """

    Truncated = 1 << 0
    OutOfOrder = 1 << 1
    OutOfSynch = 1 << 2
    Corrupted = 1 << 3
    DroppedContribution = 1 << 4
    MissingData = 1 << 5
    TimedOut = 1 << 6
    User0 = 1 << 12
    User1 = 1 << 13
    User2 = 1 << 14
    User3 = 1 << 15

    @property
    def user_code(self) -> int:
        """The user value, 0..15."""
        return int(self) >> 12 & 0xF

    def with_user_code(self, code: int) -> Damage:
        """Return this damage with the user value `code`, 0..15, in place of its own."""
        if not 0 <= code <= 15:
            raise ValueError(f"a user damage code is 0..15, not {code}")
        return Damage(int(self) & 0x0FFF | code << 12)
