"""The gather list against a plain twin: what a recorded L1Accept is, byte for byte."""

import struct
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.shm._block import NamesTable, encode_block
from drp.sink._gather import Gather
from xtc import Alg, DataType, Field, Names

PARENT, SHAPESDATA, SHAPES, DATA = 0, 1, 2, 3
CORRUPTED = 8
INFO_ID = 0x177
OK, TRUNCATED, MALFORMED = 0, 1, 2


@dataclass(frozen=True)
class Xtc:
    """A tree of Xtcs; `body` is bytes or children."""

    src: int
    type: int
    body: tuple["Xtc", ...] | bytes = b""
    damage: int = 0

    def encode(self) -> bytes:
        inner = self.body if isinstance(self.body, bytes) else b"".join(child.encode() for child in self.body)
        return struct.pack("<IHHI", self.src, self.damage, self.type, 12 + len(inner)) + inner


@dataclass(frozen=True)
class Event:
    """An L1Accept as a tree."""

    children: tuple[Xtc, ...] = ()
    damage: int = 0
    head: bytes = field(default=struct.pack("<III", 7, 9, 0x0C400003))

    def encode(self) -> bytes:
        return self.head + Xtc(5, PARENT, self.children, self.damage).encode()


def without(children: tuple[Xtc, ...], drops: set[int]) -> tuple[Xtc, ...]:
    kept = []
    for child in children:
        if child.type == SHAPESDATA and child.src & 0x0FFFFFFF in drops:
            continue
        if child.type == PARENT and not child.damage & CORRUPTED and isinstance(child.body, tuple):
            kept.append(replace(child, body=without(child.body, drops)))
        else:
            kept.append(child)
    return tuple(kept)


def shapes_data(names_id: int, shapes: list[tuple[int, ...]], data: bytes) -> Xtc:
    slots = b"".join(struct.pack("<5I", *shape, *(0,) * (5 - len(shape))) for shape in shapes)
    return Xtc(names_id, SHAPESDATA, (Xtc(0, SHAPES, slots), Xtc(0, DATA, data)))


def drpinfo(pulse_id: int, cause: int, worker: int) -> Xtc:
    return shapes_data(INFO_ID, [], struct.pack("<QBH", pulse_id, cause, worker if cause else 0xFFFF))


def names(names_id: int, *fields: tuple[DataType, int]) -> Names:
    return Names(
        names_id,
        "fex",
        "det",
        "",
        0,
        Alg("fex", (0, 0, 1)),
        tuple(Field(f"f{i}", d, r) for i, (d, r) in enumerate(fields)),
    )


DECLARED = (
    names(0x180, (DataType.UINT16, 2), (DataType.DOUBLE, 0)),
    names(0x181, (DataType.UINT8, 0)),
    names(0x182, (DataType.CHARSTR, 1), (DataType.FLOAT, 1), (DataType.UINT8, 4)),
)
TABLE = NamesTable(DECLARED)
SIZES = (1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1, 4, 4)


def leaves() -> st.SearchStrategy[Xtc]:
    shapesdata = st.builds(
        Xtc, st.integers(0x100, 0x106), st.just(SHAPESDATA), st.binary(max_size=40), st.integers(0, 0xFFFF)
    )
    other = st.builds(Xtc, st.integers(0, 0xFFFFFFFF), st.integers(2, 9), st.binary(max_size=9))
    return st.one_of(shapesdata, other)


def trees() -> st.SearchStrategy[Xtc]:
    return st.recursive(
        leaves(),
        lambda inner: st.builds(
            Xtc,
            st.integers(0, 99),
            st.just(PARENT),
            st.lists(inner, max_size=5).map(tuple),
            st.sampled_from([0, 1, 8, 16]),
        ),
        max_leaves=20,
    )


@st.composite
def added(draw: st.DrawFn) -> tuple[int, list[tuple[int, ...]], bytes]:
    index = draw(st.integers(0, len(DECLARED) - 1))
    shapes = []
    data = b""
    for one in DECLARED[index].fields:
        size = SIZES[one.dtype]
        if one.rank:
            shape = tuple(draw(st.lists(st.integers(0, 3), min_size=one.rank, max_size=one.rank)))
            if one.dtype == DataType.CHARSTR:
                shape = (4,)
            shapes.append(shape)
            for dim in shape:
                size *= dim
        value = draw(st.binary(min_size=size, max_size=size))
        data += b"abc\0" if one.dtype == DataType.CHARSTR else value
    return index, shapes, data


def depth(tree: Xtc) -> int:
    return 0 if isinstance(tree.body, bytes) else 1 + max((depth(child) for child in tree.body), default=0)


GATHER = Gather(INFO_ID, (INFO_ID, 0x106))


@given(
    event=st.builds(
        Event,
        st.lists(trees().filter(lambda tree: depth(tree) <= 7), max_size=6).map(tuple),
        st.sampled_from([0, 2, 8, 9]),
    ),
    drops=st.lists(st.integers(0x100, 0x105) | st.integers(0, 0x0FFFFFFF), max_size=12),
    adds=st.lists(added(), max_size=5),
    damage=st.integers(0, 0xFFF),
    user=st.integers(0, 15),
    late=st.sampled_from([0, 0x40]),
    cause=st.integers(0, 15),
    pulse_id=st.integers(0, 2**64 - 1),
    whole=st.booleans(),
    spare=st.integers(-3, 3),
)
def test_any_edit_gives_what_the_plain_twin_gives(
    event: Event,
    drops: list[int],
    adds: list[tuple[int, list[tuple[int, ...]], bytes]],
    damage: int,
    user: int,
    late: int,
    cause: int,
    pulse_id: int,
    whole: bool,
    spare: int,
) -> None:
    desc, data = encode_block(drops=drops, adds=adds, damage=damage, user=user)
    info = drpinfo(pulse_id, cause, 3)
    stripped = {INFO_ID, 0x106}
    left_out = stripped if whole else stripped | set(drops)
    kept = event.children if event.damage & CORRUPTED else without(event.children, left_out)
    new = tuple(shapes_data(DECLARED[index].names_id, shapes, value) for index, shapes, value in adds)
    want = Event(
        (*kept, *new, info), event.damage | damage | late | cause << 12 | user << 12, event.head
    ).encode()
    outcome = OK
    bound = len(want) + spare
    if adds and spare < 0:
        outcome = TRUNCATED
        kept = event.children if event.damage & CORRUPTED else without(event.children, stripped)
        want = Event(
            (*kept, drpinfo(pulse_id, 4, 3)), event.damage | late | cause << 12 | 0x4001, event.head
        ).encode()
    record, code = GATHER.assemble(
        event.encode(),
        table=TABLE,
        desc=desc,
        data=data,
        damage=late,
        cause=cause,
        worker=3,
        pulse_id=pulse_id,
        bound=bound,
        whole=whole,
    )
    assert (code, record) == (outcome, want)


def test_a_result_that_fits_exactly_is_kept_and_one_byte_more_is_truncated() -> None:
    raw = Event((Xtc(0x101, SHAPESDATA, bytes(100)),)).encode()
    desc, data = encode_block(adds=[(1, [], b"x")])
    whole = 24 + 112 + 36 + 1 + 47
    record, code = GATHER.assemble(raw, table=TABLE, desc=desc, data=data, bound=whole)
    assert (len(record), code) == (whole, OK)
    record, code = GATHER.assemble(raw, table=TABLE, desc=desc, data=data, bound=whole - 1)
    assert (len(record), code) == (24 + 112 + 47, TRUNCATED)
    assert struct.unpack_from("<H", record, 16) == (0x4001,)


def test_raw_as_large_as_the_bound_is_not_truncated_when_nothing_is_added() -> None:
    raw = Event((Xtc(0x101, SHAPESDATA, bytes(100)),)).encode()
    desc, data = encode_block(damage=2)
    record, code = GATHER.assemble(raw, table=TABLE, desc=desc, data=data, bound=len(raw))
    assert (len(record), code) == (len(raw) + 47, OK)


def test_neighbours_are_written_as_one_range_and_an_emptied_parent_stays() -> None:
    inner = (Xtc(0x101, SHAPESDATA, b"12345678"),)
    event = Event((Xtc(1, PARENT, inner), Xtc(0x102, SHAPESDATA, b"abcd")))
    desc, data = encode_block(drops=[0x101])
    record, code = Gather().assemble(event.encode(), table=TABLE, desc=desc, data=data)
    assert (code, record) == (OK, Event((Xtc(1, PARENT, ()), Xtc(0x102, SHAPESDATA, b"abcd"))).encode())


def test_more_children_than_there_was_room_for() -> None:
    children = tuple(Xtc(0x100 + i % 7, SHAPESDATA, b"z") for i in range(5000))
    desc, data = encode_block(drops=[0x102])
    record, code = Gather().assemble(Event(children).encode(), table=TABLE, desc=desc, data=data)
    assert (code, record) == (OK, Event(without(children, {0x102})).encode())


def test_many_drops_are_found() -> None:
    children = tuple(Xtc(0x100 + i, SHAPESDATA, b"z") for i in range(64))
    drops = [0x100 + i for i in range(63, -1, -3)]
    desc, data = encode_block(drops=drops)
    record, _ = Gather().assemble(Event(children).encode(), table=TABLE, desc=desc, data=data)
    assert record == Event(without(children, set(drops))).encode()


@pytest.mark.parametrize(
    "broken", [struct.pack("<IHHI", 0x101, 0, 1, 4000), struct.pack("<IHHI", 0x101, 0, 1, 3), b"short"]
)
def test_raw_whose_extents_do_not_add_up_is_kept_whole_and_marked_corrupted(broken: bytes) -> None:
    raw = Event().encode()[:12] + struct.pack("<IHHI", 5, 0, 0, 12 + len(broken)) + broken
    record, code = GATHER.assemble(raw, table=TABLE, pulse_id=4)
    assert code == MALFORMED
    assert record[24:] == broken + drpinfo(4, 0, 0).encode()
    assert struct.unpack_from("<HHI", record, 16) == (CORRUPTED, 0, 12 + len(broken) + 47)


def test_unused_dims_of_a_shape_are_written_as_zero() -> None:
    desc, data = encode_block(adds=[(0, [(2, 3, 77, 78, 79)], bytes(20))])
    record, _ = Gather().assemble(Event().encode(), table=TABLE, desc=desc, data=data)
    assert struct.unpack_from("<5I", record, 48) == (2, 3, 0, 0, 0)


def test_a_dgram_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="23 bytes"):
        GATHER.assemble(bytes(23))
