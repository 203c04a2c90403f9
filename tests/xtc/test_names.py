"""Names, and the records around them, written and read back."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings

from tests.xtc import builders as b
from tests.xtc import strategies
from xtc import (
    Alg,
    Damage,
    DataType,
    DgramHeader,
    Field,
    Names,
    TransitionId,
    XtcError,
    XtcHeader,
    encode_dgram,
)
from xtc.names import check_alphabet


def some_names(**changes: object) -> Names:
    fields = {
        "names_id": 0x1FE,
        "dettype": "type",
        "detname": "det",
        "detid": "serial",
        "segment": 3,
        "alg": Alg("raw", (1, 2, 3)),
        "fields": (
            Field("a", DataType.UINT16, 2),
            Field("s", DataType.CHARSTR, 1),
            Field("v:e", DataType.ENUMVAL),
        ),
    }
    return Names(**(fields | changes))  # type: ignore[arg-type]


@settings(deadline=None)
@given(strategies.names())
def test_any_names_survive_encoding(names: Names) -> None:
    raw = names.encode()
    assert len(raw) == names.extent == 1048 + 524 * len(names.fields)
    assert Names.decode(raw) == names
    assert Names.decode(raw).encode() == raw


def test_bytes_from_the_builder_read_as_declared_whatever_stands_after_nul() -> None:
    raw = b.names(0x1FE, [("a", b.UINT16, 2), ("s", b.CHARSTR, 1), ("v:e", b.ENUMVAL, 0)], segment=3)
    names = Names.decode(raw)
    assert names == some_names()
    assert (names.node, names.index, names.num_arrays) == (1, 254, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"names_id": -1},
        {"names_id": 1 << 20},
        {"segment": 1 << 32},
        {"detname": "x" * 256},
        {"detid": "é" * 128},
        {"dettype": "a\0b"},
        {"detname": "a b"},
    ],
)
def test_names_that_the_format_cannot_hold_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(XtcError):
        some_names(**changes)


def test_fields_that_the_format_cannot_hold_are_refused() -> None:
    for arguments in (
        ("", DataType.UINT8, 0),
        ("a", DataType.UINT8, 5),
        ("s", DataType.CHARSTR, 0),
        ("n" * 256, DataType.UINT8, 0),
    ):
        with pytest.raises(XtcError):
            Field(*arguments)
    with pytest.raises(XtcError):
        Alg("raw", (0, 256, 0))


def test_real_field_names_are_read_and_not_declared() -> None:
    names = some_names(fields=(Field("Buffer[0].x", DataType.UINT8),))
    assert Names.decode(names.encode()) == names
    with pytest.raises(XtcError, match="other characters"):
        check_alphabet(names)


def test_an_error_keeps_its_fields_through_pickling() -> None:
    error = XtcError("wrong", path="f", offset=16, inside=("a", "b"), expected=1, found=2, hint="Do this.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is XtcError
    assert (copy.what, copy.fields()) == (error.what, error.fields())
    assert str(copy) == "f, byte 0x10: wrong; expected 1; found 2 (in a, in b). Do this."
    outer = copy.within("c", 100, "g")
    assert (outer.path, outer.offset, outer.inside) == ("f", 116, ("a", "b", "c"))


def test_headers_read_what_they_wrote() -> None:
    header = DgramHeader(7 << 32 | 9, 0x0C000001, 5, 3, 0, 100)
    assert DgramHeader.decode(header.encode()) == header
    assert header.service is TransitionId.L1Accept
    inner = XtcHeader(1, 2, 3, 12)
    assert XtcHeader.decode(b"\0" + inner.encode(), 1) == inner
    for raw in (b"", b"\0" * 12):
        with pytest.raises(XtcError):
            XtcHeader.decode(raw)
        with pytest.raises(XtcError):
            DgramHeader.decode(raw * 2)


def test_headers_refuse_what_does_not_fit() -> None:
    for bad in (
        {"timestamp": 1 << 64},
        {"env": -1},
        {"damage": 1 << 16},
        {"extent": 11},
        {"extent": 1 << 31},
    ):
        with pytest.raises(XtcError):
            DgramHeader(**({"timestamp": 0, "env": 0} | bad)).encode()
    with pytest.raises(XtcError):
        encode_dgram(13, 0)


def test_encode_dgram_replaces_only_the_service_bits_of_env() -> None:
    header = DgramHeader.decode(encode_dgram(TransitionId.Enable, 1, env=0xFFFFFFFF))
    assert header.env == 0xF8FFFFFF


def test_a_user_damage_code_leaves_the_other_bits() -> None:
    damage = (Damage.TimedOut | Damage.User3).with_user_code(5)
    assert (int(damage), damage.user_code) == (0x5040, 5)
    with pytest.raises(ValueError, match=r"0\.\.15"):
        damage.with_user_code(16)
