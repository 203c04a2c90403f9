"""Values into bytes and back, for all types, and the refusal of all that does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xtc import strategies
from xtc import (
    Alg,
    Config,
    DataType,
    Dgram,
    Field,
    Names,
    TransitionId,
    XtcError,
    encode_dgram,
    encode_shapes_data,
    encode_value,
)


def read_back(names: Names, raw: bytes) -> list[Any]:
    dgram = Dgram(encode_dgram(TransitionId.L1Accept, 0, [raw]), config=Config.of([names]))
    return [one.value for one in dgram.fields()]


def one_field(kind: DataType, rank: int = 0) -> Field:
    return Field("f", kind, rank)


@settings(deadline=None, max_examples=300)
@given(strategies.filled())
def test_any_values_survive_encoding(one: tuple[Names, list[Any]]) -> None:
    names, values = one
    got = read_back(names, encode_shapes_data(names, values))
    assert all(strategies.same(*pair) for pair in zip(got, values, strict=True))


@settings(deadline=None)
@given(strategies.filled(), st.data())
def test_values_by_name_are_written_in_declared_order(
    one: tuple[Names, list[Any]], data: st.DataObject
) -> None:
    names, values = one
    pairs = list(zip((field.name for field in names.fields), values, strict=True))
    shuffled = dict(data.draw(st.permutations(pairs)))
    assert encode_shapes_data(names, shuffled) == encode_shapes_data(names, values)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DataType.UINT8, 256), (DataType.UINT8, -1), (DataType.UINT8, 300.7), (DataType.INT8, 128),
        (DataType.UINT16, np.int64(65536)), (DataType.UINT64, 1 << 64), (DataType.INT64, -(1 << 63) - 1),
        (DataType.INT32, "7"), (DataType.INT32, None), (DataType.INT32, float("nan")), (DataType.INT32, 1e30),
        (DataType.FLOAT, 1e39), (DataType.FLOAT, "1"), (DataType.DOUBLE, 10**400), (DataType.DOUBLE, 1j),
        (DataType.ENUMVAL, 1 << 31), (DataType.UINT8, np.arange(1)),
    ],
)  # fmt: skip
def test_a_scalar_that_does_not_fit_is_refused_and_never_wrapped(kind: DataType, value: object) -> None:
    with pytest.raises(XtcError, match="field 'f'"):
        encode_value(one_field(kind), value)


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (DataType.UINT8, True, b"\1"), (DataType.UINT16, 5.0, b"\5\0"),
        (DataType.INT8, np.int64(-1), b"\xff"),
        (DataType.UINT8, np.array(7), b"\7"), (DataType.UINT8, np.bool(True), b"\1"),
        (DataType.FLOAT, 1, b"\0\0\x80?"), (DataType.FLOAT, float("inf"), b"\0\0\x80\x7f"),
    ],
)  # fmt: skip
def test_a_scalar_that_fits_is_taken(kind: DataType, value: object, stored: bytes) -> None:
    assert bytes(encode_value(one_field(kind), value)[0]) == stored


def test_arrays_are_taken_by_content_whatever_their_memory_order() -> None:
    array = np.arange(6, dtype="<u2").reshape(2, 3)
    wanted = (array.tobytes(), (2, 3))
    field = one_field(DataType.UINT16, 2)
    forms = (
        array,
        np.asfortranarray(array),
        array[::-1][::-1],
        array.astype(">u2"),
        array.tolist(),
        np.repeat(array, 2, 1)[:, ::2],
    )
    for form in forms:
        raw, dims = encode_value(field, form)
        assert (bytes(raw), dims) == wanted


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3), "<i2"), np.zeros((2, 3), "<f4"), np.zeros(6, "<u2"), np.zeros((1, 2, 3), "<u2"),
        [[1, 2], [3]], [[70000]], [[1.5]], [["a"]], 7, None, "text", np.zeros((2, 3), "<u4"),
    ],
)  # fmt: skip
def test_an_array_that_does_not_fit_is_refused(value: object) -> None:
    with pytest.raises(XtcError, match="field 'f'"):
        encode_value(one_field(DataType.UINT16, 2), value)


@pytest.mark.parametrize(("text", "stored"), [("", 4), ("abc", 4), ("abcd", 8), ("é", 4), (b"ab", 4)])
def test_text_is_stored_with_nul_in_multiples_of_four(text: object, stored: int) -> None:
    raw, dims = encode_value(one_field(DataType.CHARSTR, 1), text)
    assert (len(raw), dims) == (stored, (stored,))
    assert bytes(raw).rstrip(b"\0") == (text.encode() if isinstance(text, str) else text)


def test_text_with_nul_is_refused() -> None:
    for value in ("a\0b", b"\0", 7):
        with pytest.raises(XtcError):
            encode_value(one_field(DataType.CHARSTR, 1), value)


def test_missing_and_surplus_values_are_named() -> None:
    names = Names(
        1, "t", "det", "", 0, Alg("raw"), (Field("a", DataType.UINT8), Field("e:E", DataType.ENUMVAL))
    )
    with pytest.raises(XtcError, match="'e:E' has no value"):
        encode_shapes_data(names, {"a": 1})
    with pytest.raises(XtcError, match=r"not there.*found \['x'\]"):
        encode_shapes_data(names, {"a": 1, "e": 2, "x": 3})
    with pytest.raises(XtcError, match="one value per field"):
        encode_shapes_data(names, [1])
    assert read_back(names, encode_shapes_data(names, {"a": 1, "e": 2})) == [1, 2]
