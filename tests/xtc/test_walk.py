"""The Cython walker beside its plain twin, on bytes that end at a page without access."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xtc import builders as b
from tests.xtc import plain_walk as plain
from tests.xtc.guard import GuardedBuffer
from tests.xtc.hostile import corpus
from xtc import Alg, Config, DataType, Dgram, Field, Names, XtcError, _walk

GUARD = GuardedBuffer(1 << 16)
_DTYPES = ["<u1", "<u2", "<u4", "<u8", "<i1", "<i2", "<i4", "<i8", "<f4", "<f8", "<u1", "<i4", "<i4"]

xtcs = st.recursive(
    st.builds(
        b.xtc,
        st.integers(0, 5),
        st.binary(max_size=20),
        src=st.integers(0, 0xFFFFFFFF),
        damage=st.sampled_from([0, 1, 8, 0xFFFF]),
    ),
    lambda inner: st.builds(
        b.xtc,
        st.sampled_from([0, 0, 1]),
        st.lists(inner, max_size=4).map(b"".join),
        src=st.integers(0, 0xFFFFFFFF),
        damage=st.sampled_from([0, 0, 0, 4, 8]),
    ),
    max_leaves=12,
)
dgrams = st.builds(
    b.dgram,
    st.integers(0, 15),
    st.lists(xtcs, max_size=4).map(b"".join),
    damage=st.sampled_from([0, 0, 0, 7, 8]),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(dgrams))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at] = draw(st.sampled_from([0, 1, 11, 12, 13, 0x7F, 0x80, 0xFF]))
    return bytes(raw[: draw(st.integers(0, len(raw)))]) if draw(st.booleans()) else bytes(raw)


def outcome(call: object, raw: object) -> object:
    try:
        return call(raw)  # type: ignore[operator]
    except (_walk.WalkFault, plain.Fault) as fault:
        return (fault.code, fault.where)


def both_agree(raw: bytes) -> None:
    held = GUARD.place(raw)
    assert outcome(_walk.children, held) == outcome(plain.children, raw)
    assert outcome(_walk.shapes, held) == outcome(plain.shapes, raw)


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_the_walker_agrees_with_its_plain_twin_on_any_bytes(raw: bytes) -> None:
    both_agree(raw)


@pytest.mark.parametrize("case", corpus(), ids=lambda case: case.name)
def test_the_walker_agrees_with_its_plain_twin_on_hostile_files(case: object) -> None:
    raw = case.raw  # type: ignore[attr-defined]
    both_agree(raw)
    both_agree(raw[len(raw) // 2 :])


def test_more_xtcs_than_one_batch_are_all_listed() -> None:
    raw = b.dgram(b.L1ACCEPT, b.shapes_data(5, [], b"\1") * 1000)
    assert len(_walk.children(raw)) == len(_walk.shapes(raw)) == 1000


def test_a_fault_says_what_and_where() -> None:
    raw = b.dgram(b.L1ACCEPT, b.xtc(9) + b.xtc(9, extent=13))
    with pytest.raises(_walk.WalkFault, match="ends beyond what encloses it") as caught:
        _walk.children(raw)
    assert caught.value.where == 36


def test_a_layout_refuses_types_and_ranks_beyond_the_format() -> None:
    class Names:
        def __init__(self, dtype: int, rank: int) -> None:
            self.fields = (type("F", (), {"dtype": dtype, "rank": rank})(),)

    assert _walk.Layout(Names(12, 4)).n_fields == 1
    for dtype, rank in ((13, 0), (-1, 0), (0, 5), (0, -1)):
        with pytest.raises(ValueError, match="out of range"):
            _walk.Layout(Names(dtype, rank))


def test_the_event_after_the_walked_one_does_not_matter() -> None:
    raw = b.small_file(2)
    size = struct.unpack_from("<I", raw, 20)[0] + 12
    assert _walk.children(raw) == _walk.children(raw[:size])


@st.composite
def odd_shapes(draw: st.DrawFn) -> tuple[list[tuple[int, int]], bytes]:
    """Fields of any type and rank, and a dgram with one ShapesData that may or may not hold them."""
    fields = draw(st.lists(st.tuples(st.sampled_from([*range(10), 11]), st.integers(0, 4)), max_size=6))
    dim = st.sampled_from([0, 1, 1, 2, 2, 3, 1 << 31, 0xFFFFFFFF])
    dims = [draw(st.lists(dim, min_size=rank, max_size=rank)) for _, rank in fields if rank]
    shapes = b"".join(b.shape(*one) for one in dims)
    shapes = shapes[: len(shapes) - draw(st.sampled_from([0, 0, 0, 1, 20]))] if shapes else shapes
    body = bytes(draw(st.sampled_from([0, 1, 8, 50, 400]))) + b"\1\2\3\4"
    return fields, b.dgram(b.L1ACCEPT, b.shapes_data(1, [shapes], body))


@settings(max_examples=300, deadline=None)
@given(odd_shapes())
def test_fields_lie_where_the_plain_twin_says(one: tuple[list[tuple[int, int]], bytes]) -> None:
    """Both ways to a field, alone and with all others, agree with the twin, and on what is at fault too."""
    kinds, raw = one
    fields = tuple(Field(f"f{i}", DataType(kind), rank) for i, (kind, rank) in enumerate(kinds))
    config = Config.of([Names(1, "t", "det", "", 0, Alg("raw"), fields)])
    held = GUARD.place(raw)
    dgram = Dgram(held, config=config)
    readable, places = len(fields), []
    try:
        places = plain.field_places(raw, plain.shapes(raw)[0], kinds)
        values = [one.value for one in dgram.fields()]
    except plain.Fault as fault:
        readable, values = fault.where, []
        with pytest.raises(XtcError, match=r"Data|Shapes") as caught:
            dgram.fields()
        assert caught.value.inside[0] == f"field 'f{readable}'"
    start = np.frombuffer(held, np.uint8).__array_interface__["data"][0]
    for i, (value, (offset, size, dims)) in enumerate(zip(values, places, strict=True)):
        stored = np.asarray(value, dtype=_DTYPES[kinds[i][0]])
        assert (stored.shape, stored.tobytes()) == (dims, raw[offset : offset + size])
        if dims and size:
            assert value.__array_interface__["data"][0] - start == offset
    for i, field in enumerate(fields):
        column = config.column("det", "raw", field.name)
        if i < readable:
            value = column.read(dgram)
            assert not values or np.array_equal(value, values[i])
        else:
            with pytest.raises(XtcError):
                column.read(dgram)
