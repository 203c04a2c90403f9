"""The Cython walker beside its plain twin, on bytes that end at a page without access."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xtc import builders as b
from tests.xtc import plain_walk as plain
from tests.xtc.guard import GuardedBuffer
from tests.xtc.hostile import corpus
from xtc import _walk

GUARD = GuardedBuffer(1 << 16)

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
