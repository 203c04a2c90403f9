"""Dgrams as views: header, values of every type, what keeps bytes alive, and errors that say where."""

from __future__ import annotations

import gc
import struct
import weakref

import numpy as np
import pytest

from tests.xtc import builders as b
from xtc import Config, Damage, DataType, Dgram, Scan, TransitionId, XtcError

ALL_TYPES = [
    ("u8", b.UINT8, 0), ("u16", b.UINT16, 0), ("u32", b.UINT32, 0), ("u64", b.UINT64, 0),
    ("i8", b.INT8, 0), ("i16", b.INT16, 0), ("i32", b.INT32, 0), ("i64", b.INT64, 0),
    ("f4", b.FLOAT, 0), ("f8", b.DOUBLE, 0), ("On:sw", b.ENUMDICT, 0), ("mode:sw", b.ENUMVAL, 0),
]  # fmt: skip
ALL_VALUES = (255, 65535, 2**32 - 1, 2**64 - 1, -128, -32768, -(2**31), -(2**63), 0.5, -1e300, 1, -7)


def events(raw: bytes) -> list[Dgram]:
    return list(Scan(raw))


def with_config(names: bytes, payload: bytes, **header: int) -> Dgram:
    return events(b.dgram(b.CONFIGURE, names) + b.dgram(b.L1ACCEPT, payload, **header))[1]


def test_header_words_come_out_as_they_are() -> None:
    raw = b.dgram(
        b.L1ACCEPT, b.xtc(9), time=0x1234567800000009, env=0x00400001, src=0x10000007, damage=0x9041
    )
    dgram = Dgram(raw)
    assert dgram.timestamp == 0x1234567800000009
    assert dgram.env == 0x0C400001
    assert dgram.service is TransitionId.L1Accept
    assert dgram.keepraw
    assert dgram.src == 0x10000007
    assert dgram.damage == Damage.Truncated | Damage.TimedOut | Damage.User3 | Damage.User0
    assert dgram.damage.user_code == 9
    assert (dgram.extent, dgram.size, len(dgram.view)) == (24, 36, 36)
    assert bytes(dgram) == raw


def test_scalars_of_every_type_keep_their_value() -> None:
    body = struct.pack("<BHIQbhiqfdii", *ALL_VALUES)
    dgram = with_config(b.names(1, ALL_TYPES), b.shapes_data(1, [], body))
    assert tuple(one.value for one in dgram.fields()) == ALL_VALUES


def test_enum_values_are_shown_under_the_name_before_the_colon() -> None:
    dgram = with_config(
        b.names(1, ALL_TYPES), b.shapes_data(1, [], struct.pack("<BHIQbhiqfdii", *ALL_VALUES))
    )
    value = dgram.fields()[-1]
    assert (value.field.name, value.field.label, value.field.enum_type) == ("mode:sw", "mode", "sw")
    assert dgram.config is not None
    assert dgram.config.column("det", "raw", "mode").read(dgram) == -7


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [*range(10)])
def test_arrays_of_every_type_and_rank_are_views(kind: int, rank: int) -> None:
    dims = (2, 3, 1, 2)[:rank]
    dtype = np.dtype(["<u1", "<u2", "<u4", "<u8", "<i1", "<i2", "<i4", "<i8", "<f4", "<f8"][kind])
    wanted = np.arange(np.prod(dims)).astype(dtype).reshape(dims)
    names = b.names(1, [("odd", b.UINT8, 0), ("a", kind, rank)])
    dgram = with_config(names, b.shapes_data(1, [b.shape(*dims)], b"\1" + wanted.tobytes()))
    got = dgram.fields()[1].value
    assert got.dtype == dtype
    assert np.array_equal(got, wanted)
    assert not got.flags.writeable
    assert not got.flags.owndata
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        got.flags.writeable = True


def test_data_before_shapes_and_junk_after_shapes_read_the_same() -> None:
    names = b.names(1, [("a", b.UINT8, 1), ("s", b.CHARSTR, 1)])
    for how in ({"data_first": True}, {"junk": b"\xcc" * 4}, {}):
        shapes = b.shapes_data(1, [b.shape(2), b.shape(3)], b"\1\2ab\0", **how)
        first, second = (one.value for one in with_config(names, shapes).fields())
        assert (first.tolist(), second) == ([1, 2], "ab")


def test_text_ends_at_nul_or_with_its_bytes_and_survives_other_encodings() -> None:
    names = b.names(1, [("s", b.CHARSTR, 1)])
    for stored, wanted in (
        (b"", ""),
        (b"\0junk", ""),
        (b"ab\0\xff", "ab"),
        ("é\0".encode(), "é"),
        (b"abc", "abc"),
    ):
        dgram = with_config(names, b.shapes_data(1, [b.shape(len(stored))], stored))
        assert dgram.fields()[0].value == wanted
    odd = with_config(names, b.shapes_data(1, [b.shape(2)], b"\xff\0")).fields()[0].value
    assert odd.encode("utf-8", "surrogateescape") == b"\xff"


def test_an_array_keeps_the_bytes_alive_after_dgram_and_config_are_gone() -> None:
    class Bytes(bytearray):
        pass

    raw = Bytes(b.small_file(1))
    alive = weakref.ref(raw)
    array = list(Scan(raw))[1].fields()[1].value
    del raw
    gc.collect()
    assert alive() is not None
    assert array.tolist() == [[1, 1, 1], [1, 1, 1]]
    del array
    gc.collect()
    assert alive() is None


def test_shapes_data_in_nested_parents_are_found_and_damage_is_per_part() -> None:
    inner = b.xtc(b.PARENT, b.shapes_data(1, [], b"\7", damage=9), damage=4)
    dgram = with_config(b.names(1, [("n", b.UINT8, 0)]), b.xtc(b.PARENT, inner), damage=0x10)
    (value,) = dgram.fields()
    assert (value.value, value.damage) == (7, Damage.Corrupted | Damage.Truncated)
    assert dgram.damage == Damage.DroppedContribution
    assert [one.parent for one in dgram.xtcs()] == [-1, 0, 1]


def test_corrupted_stops_at_a_parent_and_not_at_a_shapes_data() -> None:
    names = b.names(1, [("n", b.UINT8, 0)])
    good = b.shapes_data(1, [], b"\7", damage=8)
    assert [one.value for one in with_config(names, b.xtc(b.PARENT, good, damage=8) + good).fields()] == [7]
    assert with_config(names, good, damage=8).fields() == []


def test_a_later_configure_replaces_all_names() -> None:
    first = b.dgram(b.CONFIGURE, b.names(1, [("n", b.UINT8, 0)]))
    second = b.dgram(b.CONFIGURE, b.names(1, [("m", b.UINT16, 0)]))
    event = b.dgram(b.L1ACCEPT, b.shapes_data(1, [], b"\1\2"))
    dgrams = events(first + event + second + event)
    assert [(one.fields()[0].field.name, one.fields()[0].value) for one in dgrams[1::2]] == [
        ("n", 1),
        ("m", 513),
    ]


def test_an_error_carries_offset_and_what_enclosed_it() -> None:
    raw = b.small_file(2)
    cut = bytearray(raw)
    configure = events(raw)[0].size
    struct.pack_into("<I", cut, configure + 24 + 12 + 12, 9999)
    dgram = list(Scan(bytes(cut), path="some.xtc2"))[1]
    with pytest.raises(XtcError) as caught:
        dgram.fields()
    error = caught.value
    assert (error.path, error.offset) == ("some.xtc2", configure + 24 + 12 + 52 + 12)
    assert error.inside == ("field 'a'", "ShapesData 0x101", "L1Accept dgram 1")
    assert "some.xtc2, byte 0x" in str(error)


def test_a_dgram_without_configure_says_what_is_missing() -> None:
    dgram = Dgram(b.dgram(b.L1ACCEPT, b.shapes_data(1, [], b"\1")))
    with pytest.raises(XtcError, match="no Configure"):
        dgram.fields()


def test_column_reads_the_last_of_two_and_none_where_there_is_none() -> None:
    names = b.names(1, [("n", b.UINT8, 0)]) + b.names(2, [("k", b.UINT8, 0)], alg="fex")
    two = with_config(names, b.shapes_data(1, [], b"\1") + b.shapes_data(1, [], b"\2"))
    assert two.config is not None
    column = two.config.column("det", "raw", "n")
    assert column.read(two) == 2
    assert two.config.column("det", "fex", "k").read(two) is None
    many = Dgram(b.dgram(b.L1ACCEPT, b"".join(b.shapes_data(1, [], bytes([k])) for k in range(100))))
    assert column.read(many) == 99


def test_asking_for_what_is_not_declared_names_what_is() -> None:
    config = events(b.small_file(0))[0].config
    assert isinstance(config, Config)
    with pytest.raises(XtcError, match=r"expected det\.raw\[0\]; found det\.fex"):
        config.column("det", "fex", "n")
    with pytest.raises(XtcError, match="expected n, a, s; found 'm'"):
        config.column("det", "raw", "m")
    assert config.find("det", "raw", 0).fields[0].dtype is DataType.UINT16


def test_objects_that_were_never_opened_raise_and_do_not_crash() -> None:
    blank = Dgram.__new__(Dgram)
    assert blank.timestamp == 0
    for call in (lambda: blank.view, blank.xtcs, blank.shapes_data, lambda: bytes(blank)):
        with pytest.raises((AttributeError, TypeError, XtcError)):
            call()
    with pytest.raises((AttributeError, TypeError)):
        next(Scan.__new__(Scan))
    opened = Dgram(b.small_file(0))
    with pytest.raises(TypeError, match="once"):
        opened.__init__(b.small_file(0))  # type: ignore[misc]


def test_the_garbage_collector_takes_cycles_of_dgrams_apart() -> None:
    for _ in range(50):
        dgrams = events(b.small_file(2))
        arrays = [one.value for one in dgrams[1].fields()]
        ring: list[object] = [dgrams, arrays, dgrams[0].config, dgrams[1].view, dgrams[1].shapes_data()]
        ring.append(ring)
        del dgrams, arrays, ring
        gc.collect()
