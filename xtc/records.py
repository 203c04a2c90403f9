"""The two headers everything else is made of, each with its reading and its writing. They know nothing of
what follows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xtc import codes
from xtc.errors import XtcError
from xtc.kinds import TransitionId, TypeId

if TYPE_CHECKING:
    from typing_extensions import Buffer

DGRAM_BYTES = codes.DGRAM.size
XTC_BYTES = codes.XTC.size


@dataclass(frozen=True, slots=True)
class XtcHeader:
    """The 12 bytes of an Xtc. `extent` counts them."""

    src: int
    damage: int
    contains: int
    extent: int

    def encode(self) -> bytes:
        """Return the 12 bytes; raise XtcError where a number does not fit."""
        if not XTC_BYTES <= self.extent <= codes.MAX_EXTENT:
            raise XtcError("an extent is out of range", expected=f"12..{codes.MAX_EXTENT}", found=self.extent)
        _check_words(src=(self.src, 32), damage=(self.damage, 16), contains=(self.contains, 16))
        return codes.XTC.pack(self.src, self.damage, self.contains, self.extent)

    @classmethod
    def decode(cls, buffer: Buffer, offset: int = 0) -> XtcHeader:
        """Read the header at `offset`; raise XtcError where it is cut off or its extent is too small."""
        view = memoryview(buffer)
        if not 0 <= offset <= len(view) - XTC_BYTES:
            raise XtcError(
                "an Xtc header is cut off", offset=offset, expected=XTC_BYTES, found=len(view) - offset
            )
        header = cls(*codes.XTC.unpack_from(view, offset))
        if header.extent < XTC_BYTES:
            raise XtcError(
                "an extent is out of range", offset=offset + 8, expected="12 or more", found=header.extent
            )
        return header


@dataclass(frozen=True, slots=True)
class DgramHeader:
    """The 24 bytes of a dgram. `timestamp` is seconds << 32 | nanoseconds, `extent` the top Xtc's."""

    timestamp: int
    env: int
    src: int = 0
    damage: int = 0
    contains: int = TypeId.Parent
    extent: int = XTC_BYTES

    @property
    def service(self) -> TransitionId:
        """What kind of dgram it is; raises XtcError where the number has no name."""
        number = self.env >> 24 & 0xF
        if number > TransitionId.L1Accept:
            raise XtcError("the service of a dgram is unknown", expected="0..12", found=number)
        return TransitionId(number)

    def encode(self) -> bytes:
        """Return the 24 bytes; raise XtcError where a number does not fit."""
        if not XTC_BYTES <= self.extent <= codes.MAX_EXTENT:
            raise XtcError("an extent is out of range", expected=f"12..{codes.MAX_EXTENT}", found=self.extent)
        _check_words(
            timestamp=(self.timestamp, 64),
            env=(self.env, 32),
            src=(self.src, 32),
            damage=(self.damage, 16),
            contains=(self.contains, 16),
        )
        low, high = self.timestamp & 0xFFFFFFFF, self.timestamp >> 32
        return codes.DGRAM.pack(low, high, self.env, self.src, self.damage, self.contains, self.extent)

    @classmethod
    def decode(cls, buffer: Buffer, offset: int = 0) -> DgramHeader:
        """Read the header at `offset`; raise XtcError where it is cut off or its extent is too small."""
        view = memoryview(buffer)
        if not 0 <= offset <= len(view) - DGRAM_BYTES:
            raise XtcError(
                "the header of a dgram is cut off",
                offset=offset,
                expected=DGRAM_BYTES,
                found=len(view) - offset,
            )
        low, high, env, src, damage, contains, extent = codes.DGRAM.unpack_from(view, offset)
        if extent < XTC_BYTES:
            raise XtcError(
                "an extent is out of range", offset=offset + 12, expected="12 or more", found=extent
            )
        return cls(high << 32 | low, env, src, damage, contains, extent)


def encode_xtc(kind: TypeId | int, payload: Iterable[Buffer] = (), *, src: int = 0, damage: int = 0) -> bytes:
    """Return an Xtc that holds the parts of `payload` back to back; `kind` is the whole `contains` word."""
    body = b"".join(payload)
    return XtcHeader(src, damage, int(kind), XTC_BYTES + len(body)).encode() + body


def encode_dgram(
    service: TransitionId | int,
    timestamp: int,
    xtcs: Iterable[Buffer] = (),
    *,
    env: int = 0,
    src: int = 0,
    damage: int = 0,
    contains: int = TypeId.Parent,
) -> bytes:
    """Return a dgram that holds `xtcs` back to back. Bits 27:24 of `env` are replaced by `service`, the
    others kept.
    """
    if not 0 <= service <= TransitionId.L1Accept:
        raise XtcError("the service of a dgram is unknown", expected="0..12", found=service)
    body = b"".join(xtcs)
    word = env & ~(0xF << 24) | int(service) << 24
    return DgramHeader(timestamp, word, src, damage, contains, XTC_BYTES + len(body)).encode() + body


def time_text(timestamp: int) -> str:
    """Return a time stamp (seconds << 32 | nanoseconds) in seconds, as people read it."""
    return f"{timestamp >> 32}.{timestamp & 0xFFFFFFFF:09d}"


def _check_words(**words: tuple[int, int]) -> None:
    for name, (value, bits) in words.items():
        if not 0 <= value < 1 << bits:
            raise XtcError(f"the {name} of a header is out of range", expected=f"0..2^{bits}-1", found=value)
