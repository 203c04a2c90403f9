"""The payloads of contributions as psdaq's trigger scripts read them: one class for each layout of lcls2's TebData structs.

All are little-endian. An empty payload, of a drp that gives no words, reads as zeros; one that is too short is a ScriptError.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import Any, ClassVar

from drp.script.errors import ScriptError

N_CODES = 288


class TebData:
    """A payload of a fixed layout."""

    LAYOUT: ClassVar[struct.Struct]

    def __init__(self, payload: bytes) -> None:
        self._raw = _whole(type(self).__name__, payload, self.LAYOUT.size)

    def _at(self, place: int) -> Any:
        return self.LAYOUT.unpack_from(self._raw)[place]


def _whole(name: str, payload: bytes, size: int) -> bytes:
    if not payload:
        return bytes(size)
    if len(payload) < size:
        raise ScriptError(
            f"{name}: the payload is too short",
            expected=f"{size} bytes",
            found=f"{len(payload)}",
            hint="The trigger words that its drp declares are the payload, packed in their order.",
        )
    return payload


class TmoTebData(TebData):
    """u32 write, u32 monitor."""

    LAYOUT = struct.Struct("<II")
    __slots__ = ("monitor", "write")

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self.write, self.monitor = self.LAYOUT.unpack_from(self._raw)


class TimingTebData:
    """u8 beam destination, bit 7 set where there was beam; 9 x u32 event codes, from byte 4 as C has it, or from byte 1 where they are packed."""

    ALIGNED, PACKED = struct.Struct("<B3x9I"), struct.Struct("<B9I")
    __slots__ = ("_beam", "_codes")

    def __init__(self, payload: bytes) -> None:
        layout = self.ALIGNED if len(payload) >= self.ALIGNED.size else self.PACKED
        self._beam, *self._codes = layout.unpack_from(_whole("TimingTebData", payload, layout.size))

    def has_destination(self, destn: int) -> bool:
        """Return whether there was beam, to this destination."""
        return bool(self._beam == 0x80 | destn)

    def has_eventcode(self, code: int) -> int:
        """Return 1 where the event has this event code, 0..287, else 0."""
        if not 0 <= code < N_CODES:
            raise ScriptError(
                "has_eventcode: there is no such event code", expected=f"0..{N_CODES - 1}", found=code
            )
        return int(self._codes[code >> 5] >> (code & 31) & 1)

    def eventcodes(self) -> list[int]:
        """Return the event codes of the event."""
        return [32 * k + bit for k, word in enumerate(self._codes) for bit in range(32) if word >> bit & 1]

    def eventcodes_to_int(self, low: int, high: int) -> int:
        """Return the event codes from `low` to `high` as bits of a number, `low` its lowest."""
        if not 0 <= low <= high < N_CODES:
            raise ScriptError(
                "eventcodes_to_int: not a range", expected=f"0..{N_CODES - 1}", found=(low, high)
            )
        whole = sum(word << 32 * k for k, word in enumerate(self._codes))
        return int(whole >> low & ((1 << (high - low + 1)) - 1))


class _Part:
    """One source of a BldTebData: its doubles by name, each asked for with a call, then what else it has."""

    def __init__(self, names: tuple[str, ...], values: tuple[float, ...]) -> None:
        self._values = dict(zip(names, values, strict=True))

    def __getattr__(self, name: str) -> Any:
        try:
            value = self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(
                f"no {name!r} here: there are {', '.join(self.__dict__['_values'])}"
            ) from None
        return lambda: value


_ENERGIES = tuple(f"f{place}ENRC" for place in (11, 12, 21, 22, 63, 64))
_CAVITY = ("fitTime1", "fitTime2", "charge1", "charge2", "severity")
_SOURCES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("gmd", "<dQ", ("milliJoulesPerPulse", "severity")),
    ("xgmd", "<dd", ("milliJoulesPerPulse", "POSY")),
    ("pcav", "<4dQ", _CAVITY),
    ("pcavs", "<4dQ", _CAVITY),
    ("gasdet", "<6d", _ENERGIES),
    ("ebeam", "<d", ("l3Energy",)),
    ("ebeams", "<d", ("l3Energy",)),
)


class BldTebData:
    """u64 mask of the sources that are there, then theirs in the order gmd, xgmd, pcav, pcavs, gasdet, ebeam, ebeams."""

    def __init__(self, payload: bytes) -> None:
        raw = _whole("BldTebData", payload, 8)
        (mask,) = struct.unpack_from("<Q", raw)
        self._parts: dict[str, _Part] = {}
        at = 8
        for bit, (name, layout, fields) in enumerate(_SOURCES):
            if mask >> bit & 1:
                size = struct.calcsize(layout)
                self._parts[name] = _Part(
                    fields, struct.unpack_from(layout, _whole("BldTebData", raw, at + size), at)
                )
                at += size

    def gmd(self) -> Any:
        """Return the gas monitor detector (milliJoulesPerPulse(), severity()), None where it is not there."""
        return self._parts.get("gmd")

    def xgmd(self) -> Any:
        """Return the X-ray gas monitor detector (milliJoulesPerPulse(), POSY()), or None."""
        return self._parts.get("xgmd")

    def pcav(self) -> Any:
        """Return the phase cavity (fitTime1(), fitTime2(), charge1(), charge2(), severity()), or None."""
        return self._parts.get("pcav")

    def pcavs(self) -> Any:
        """Return the phase cavity of the soft line, or None."""
        return self._parts.get("pcavs")

    def gasdet(self) -> Any:
        """Return the gas detector (f11ENRC() .. f64ENRC()), or None."""
        return self._parts.get("gasdet")

    def ebeam(self) -> Any:
        """Return the electron beam (l3Energy()), or None."""
        return self._parts.get("ebeam")

    def ebeams(self) -> Any:
        """Return the electron beam of the soft line, or None."""
        return self._parts.get("ebeams")


class HrEncoderTebData(TebData):
    """i32 position, u8 encoder errors, u8 missed triggers, u8 latches (upper 3 bits), u8 reserved."""

    LAYOUT = struct.Struct("<iBBBB")

    def position(self) -> int:
        """Return the position."""
        return int(self._at(0))

    def encErrCnt(self) -> int:
        """Return how many errors the encoder had."""
        return int(self._at(1))

    def missedTrigCnt(self) -> int:
        """Return how many triggers it missed."""
        return int(self._at(2))

    def latches(self) -> int:
        """Return the latches."""
        return int(self._at(3))


class Piranha4TTTebData(TebData):
    """Six doubles of a time tool: ampl (negative: no edge), fltpos, fltpos_ps, fltpos_fwhm, amplnxt, refampl."""

    LAYOUT = struct.Struct("<6d")

    def valid(self) -> bool:
        """Return whether an edge was found."""
        return bool(self._at(0) >= 0)

    def ampl(self) -> float:
        """Return the edge's amplitude."""
        return float(self._at(0))

    def fltpos(self) -> float:
        """Return its position in pixels."""
        return float(self._at(1))

    def fltpos_ps(self) -> float:
        """Return its position in ps."""
        return float(self._at(2))

    def fltpos_fwhm(self) -> float:
        """Return its width."""
        return float(self._at(3))

    def amplnxt(self) -> float:
        """Return the amplitude of the next best edge."""
        return float(self._at(4))

    def refampl(self) -> float:
        """Return the amplitude of the reference."""
        return float(self._at(5))


class TripperTebData(TebData):
    """Packed: a union of {u16 hotPixelThresh, u32 numHotPixels, u32 maxHotPixels} and u16 seqInfo[18], then char detType[30]."""

    LAYOUT = struct.Struct("<HII26x30s")
    SEQUENCE = struct.Struct("<18H")

    @property
    def hotPixelThresh(self) -> int:
        """The threshold in ADU from which a pixel is hot."""
        return int(self._at(0))

    @property
    def numHotPixels(self) -> int:
        """How many hot pixels there are."""
        return int(self._at(1))

    @property
    def maxHotPixels(self) -> int:
        """How many all contributors together may have before the beam is tripped."""
        return int(self._at(2))

    @cached_property
    def seqInfo(self) -> tuple[int, ...]:
        """The event codes of a timing detector, 18 words of 16 bits."""
        return self.SEQUENCE.unpack_from(self._raw)

    @property
    def detType(self) -> str:
        """The type of the detector, which says which part of the union is meant."""
        return bytes(self._at(3)).partition(b"\0")[0].decode("ascii", "replace")
