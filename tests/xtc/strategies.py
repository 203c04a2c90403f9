"""Hypothesis strategies of what the format can hold: Names, and values that fit them."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from xtc import Alg, DataType, Field, Names
from xtc.codes import DTYPES

NAME = st.text(string.ascii_letters + string.digits + "_.:", min_size=1, max_size=12)
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)
VERSION = st.tuples(*[st.integers(0, 255)] * 3)
ALGS = st.builds(Alg, TEXT, VERSION)
_INTEGERS = {kind: np.iinfo(dtype.str) for kind, dtype in DTYPES.items() if dtype.kind in "iu"}


@st.composite
def field_kinds(draw: st.DrawFn) -> tuple[DataType, int]:
    kind = draw(st.sampled_from(DataType))
    if kind == DataType.CHARSTR:
        return kind, 1
    if kind in (DataType.ENUMVAL, DataType.ENUMDICT):
        return kind, 0
    return kind, draw(st.integers(0, 4))


@st.composite
def names(draw: st.DrawFn, names_id: int | None = None) -> Names:
    labels = draw(st.lists(NAME, max_size=6, unique_by=lambda one: one.partition(":")[0]))
    fields = []
    for label in labels:
        kind, rank = draw(field_kinds())
        fields.append(Field(label, kind, rank, draw(ALGS)))
    return Names(
        names_id=draw(st.integers(0, 0xFFFFF)) if names_id is None else names_id,
        dettype=draw(TEXT),
        detname=draw(st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=10)),
        detid=draw(TEXT),
        segment=draw(st.integers(0, 0xFFFFFFFF)),
        alg=draw(ALGS),
        fields=tuple(fields),
    )


@st.composite
def arrays(draw: st.DrawFn, kind: DataType, rank: int) -> npt.NDArray[np.generic]:
    """An array in C, Fortran or strided order, some of its dims perhaps 0."""
    dims = draw(st.tuples(*[st.integers(0, 3)] * rank))
    dtype = DTYPES[kind]
    size = int(np.prod(dims)) * dtype.itemsize
    array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype=dtype).reshape(dims)
    order = draw(st.sampled_from(["C", "F", "strided"]))
    if order == "F":
        return np.asfortranarray(array)
    return np.repeat(array, 2, axis=0)[::2] if order == "strided" else array


@st.composite
def value(draw: st.DrawFn, field: Field) -> Any:
    if field.dtype == DataType.CHARSTR:
        return draw(TEXT)
    if field.rank:
        return draw(arrays(field.dtype, field.rank))
    if field.dtype in _INTEGERS:
        limits = _INTEGERS[field.dtype]
        return draw(st.integers(int(limits.min), int(limits.max)))
    return draw(st.floats(width=32 if field.dtype == DataType.FLOAT else 64))


@st.composite
def filled(draw: st.DrawFn, names_id: int | None = None) -> tuple[Names, list[Any]]:
    """Names and a value for each field."""
    one = draw(names(names_id))
    return one, [draw(value(field)) for field in one.fields]


def same(got: Any, wanted: Any) -> bool:
    """Whether two values are the same bit for bit."""
    if isinstance(wanted, np.ndarray):
        return bool(
            got.dtype == wanted.dtype and got.shape == wanted.shape and got.tobytes() == wanted.tobytes()
        )
    if isinstance(wanted, float):
        return bool(
            np.float64(got).tobytes() == np.float64(wanted).tobytes() or (got != got and wanted != wanted)
        )
    return bool(type(got) is type(wanted) and got == wanted)
