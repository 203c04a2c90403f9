"""A corpus of hostile files, each a few hundred bytes: what a reader must refuse, end at, or live with, and
never fall over.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from tests.xtc import builders as b

Verdict = Literal["error", "tail", "fine"]


class Hostile(NamedTuple):
    """A file, and what reading all of it must come to: an XtcError, a cut-off tail, or nothing wrong."""

    name: str
    raw: bytes
    verdict: Verdict


_SCALAR = [("n", b.UINT32, 0)]
_ARRAY = [("a", b.UINT16, 2)]
_CONFIG = b.dgram(b.CONFIGURE, b.names(1, _SCALAR) + b.names(2, _ARRAY))


def _event(payload: bytes, **header: int) -> bytes:
    return _CONFIG + b.dgram(b.L1ACCEPT, payload, **header)


def _names_with(**changes: int) -> bytes:
    """A Configure whose single Names has words written over, `at_<offset in the Xtc>` to value."""
    raw = bytearray(b.names(1, _ARRAY))
    for key, value in changes.items():
        struct.pack_into("<I", raw, int(key.removeprefix("at_")), value)
    return b.dgram(b.CONFIGURE, bytes(raw))


def _nested(depth: int) -> bytes:
    inner = b.shapes_data(1, [], struct.pack("<I", 7))
    for _ in range(depth):
        inner = b.xtc(b.PARENT, inner)
    return inner


def _unterminated(offset: int) -> bytes:
    raw = bytearray(b.names(1, _SCALAR))
    raw[offset : offset + 256] = b"x" * 256
    return b.dgram(b.CONFIGURE, bytes(raw))


def _with_data(*parts: bytes) -> bytes:
    return _event(b.xtc(b.SHAPES_DATA, b"".join(parts), src=1))


def corpus() -> list[Hostile]:
    """Return the whole corpus."""
    word = struct.pack("<I", 7)
    data, shapes = b.xtc(b.DATA, word), b.xtc(b.SHAPES)
    good = b.shapes_data(1, [], word)
    huge = 0xFFFFFFFF
    cases: list[tuple[str, bytes, Verdict]] = [
        ("empty file", b"", "fine"),
        ("one byte", b"\0", "tail"),
        ("cut header", _CONFIG + b"\0" * 23, "tail"),
        ("cut payload", _event(good)[:-1], "tail"),
        ("all zero", b"\0" * 4096, "error"),
        ("all ones", b"\xff" * 4096, "error"),
        ("top extent 0", b.dgram(b.L1ACCEPT, extent=0), "error"),
        ("top extent 11", b.dgram(b.L1ACCEPT, extent=11), "error"),
        ("top extent negative", b.dgram(b.L1ACCEPT, extent=0x80000000), "error"),
        ("top extent all ones", b.dgram(b.L1ACCEPT, extent=huge), "error"),
        ("top extent largest", b.dgram(b.L1ACCEPT, extent=0x7FFFFFF0), "tail"),
        ("unknown service", b.dgram(15), "error"),
        ("child extent 0", _event(b.xtc(b.PARENT, extent=0)), "error"),
        ("child extent 11", _event(b.xtc(b.PARENT, extent=11)), "error"),
        ("child beyond parent", _event(b.xtc(b.PARENT, extent=13)), "error"),
        ("child extent all ones", _event(b.xtc(b.SHAPES_DATA, data, extent=huge)), "error"),
        ("child header cut", _event(good + b"\0" * 11), "error"),
        ("grandchild beyond child", _event(b.xtc(b.PARENT, b.xtc(9, extent=40)) + b"\0" * 40), "error"),
        ("nested as deep as allowed", _event(_nested(8)), "fine"),
        ("nested too deep", _event(_nested(9)), "error"),
        ("nested a thousand deep", _event(_nested(1000)), "error"),
        ("corrupted top over junk", _event(b"\xff" * 50, damage=b.CORRUPTED), "fine"),
        (
            "corrupted parent over junk",
            _event(b.xtc(b.PARENT, b"\xff" * 50, damage=b.CORRUPTED) + good),
            "fine",
        ),
        ("unknown types", _event(b.xtc(5) + b.xtc(0xFFF, b"\1\2\3") + good), "fine"),
        ("type version bits", _event(b.xtc(0x1001, shapes + data, src=1)), "fine"),
        ("ShapesData empty", _with_data(), "error"),
        ("ShapesData without Data", _with_data(shapes), "error"),
        ("ShapesData with two Data", _with_data(shapes, data, data), "error"),
        ("ShapesData with two Shapes", _with_data(shapes, shapes, data), "error"),
        ("ShapesData with a stranger inside", _with_data(b.xtc(7, b"??"), data), "fine"),
        ("Data beyond ShapesData", _with_data(b.xtc(b.DATA, word, extent=17)), "error"),
        ("Data too short", _with_data(b.xtc(b.DATA, b"\1\2\3")), "error"),
        ("Data with bytes left over", _with_data(b.xtc(b.DATA, word + b"left over")), "fine"),
        ("no such Names", _event(b.shapes_data(99, [], word)), "error"),
        ("level bits in the id", _event(b.shapes_data(0xF0000001, [], word)), "fine"),
        ("no Configure", b.dgram(b.L1ACCEPT, good), "error"),
        ("Shapes missing", _event(b.xtc(b.SHAPES_DATA, data, src=2)), "error"),
        ("Shapes of 19 bytes", _event(b.shapes_data(2, [b"\1" * 19], word)), "error"),
        ("dims too large", _event(b.shapes_data(2, [b.shape(3, 1)], word)), "error"),
        ("dims overflow 32 bits", _event(b.shapes_data(2, [b.shape(1 << 31, 2)], word)), "error"),
        ("dims overflow 64 bits", _event(b.shapes_data(2, [b.shape(huge, huge)], word)), "error"),
        ("dims 0 and all ones", _event(b.shapes_data(2, [b.shape(0, huge)], word)), "fine"),
        ("Names rank 5", _names_with(at_1568=5), "error"),
        ("Names rank all ones", _names_with(at_1568=huge), "error"),
        ("Names DataType 13", _names_with(at_1564=13), "error"),
        ("Names text of rank 2", _names_with(at_1564=b.CHARSTR), "error"),
        ("Names numArrays wrong", _names_with(at_12=7), "error"),
        ("Names extent odd", b.dgram(b.CONFIGURE, b.xtc(b.NAMES, b"\0" * 1037)), "error"),
        ("Names too short", b.dgram(b.CONFIGURE, b.xtc(b.NAMES, b"\0" * 8)), "error"),
        ("Names id too large", b.dgram(b.CONFIGURE, b.names(0x100000, _SCALAR)), "error"),
        ("Names id twice", b.dgram(b.CONFIGURE, b.names(1, _SCALAR) * 2), "error"),
        ("detName without NUL", _unterminated(272), "error"),
        ("detId without NUL", _unterminated(528), "error"),
        ("field name without NUL", _unterminated(1048 + 260), "error"),
        ("field name empty", b.dgram(b.CONFIGURE, b.names(1, [("", b.UINT8, 0)])), "error"),
        ("field name with a space", b.dgram(b.CONFIGURE, b.names(1, [("a b", b.UINT8, 0)])), "error"),
        ("detName with a newline", b.dgram(b.CONFIGURE, b.names(1, _SCALAR, det="a\nb")), "error"),
        ("text without NUL", _text_event(b"abcd"), "fine"),
        ("text not UTF-8", _text_event(b"\xff\xfe\0\0"), "fine"),
        ("text of no bytes", _text_event(b""), "fine"),
        ("second Configure broken", _CONFIG + _names_with(at_1568=9), "error"),
    ]
    return [Hostile(*case) for case in cases]


def _text_event(raw: bytes) -> bytes:
    config = b.dgram(b.CONFIGURE, b.names(3, [("s", b.CHARSTR, 1)]))
    return config + b.dgram(b.L1ACCEPT, b.shapes_data(3, [b.shape(len(raw))], raw))
