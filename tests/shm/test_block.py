"""The result block: what the encoder makes the check accepts, and nothing else."""

import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.shm._block import SIZES, BlockError, NamesTable, check, decode_block, describe, encode_block
from xtc import Alg, DataType, Field, Names


def names(*fields: tuple[DataType, int]) -> Names:
    members = tuple(Field(f"f{i}", dtype, rank) for i, (dtype, rank) in enumerate(fields))
    return Names(0x180, "fex", "det", "", 0, Alg("fex", (0, 0, 1)), members)


IMAGE = names((DataType.UINT16, 2), (DataType.DOUBLE, 0))
TEXT = names((DataType.CHARSTR, 1))
WORDS = names((DataType.UINT8, 0), (DataType.FLOAT, 0))
TABLE = NamesTable([IMAGE, TEXT, WORDS], 2)
IMAGE_ADD = (0, [(2, 3)], bytes(20))
WORDS_ADD = (2, [], bytes(5))


def code_of(desc: bytes, data: bytes, table: NamesTable = TABLE, **options: int) -> str:
    with pytest.raises(BlockError) as caught:
        check(desc, options.pop("block_bytes", len(desc) + len(data)), table, data, **options)
    assert describe(caught.value.code) in str(caught.value)
    return describe(caught.value.code)


def patched(desc: bytes, at: int, code: str, value: int) -> bytes:
    return desc[:at] + struct.pack(code, value) + desc[at + struct.calcsize(code) :]


def test_sums_are_those_of_the_headers_and_the_data() -> None:
    desc, data = encode_block(
        drops=[5, 6], adds=[IMAGE_ADD, WORDS_ADD], damage=0x41, user=9, words=True, json=b"{}"
    )
    info = check(desc, len(desc) + len(data), TABLE, data)
    assert info["header_bytes"] == 36 + 20 + 36
    assert (info["data_bytes"], info["words_bytes"]) == (25, 5)
    assert (info["n_drop"], info["n_add"], info["damage"], info["user"], info["json_bytes"]) == (
        2,
        2,
        0x41,
        9,
        2,
    )


def test_no_bytes_are_the_empty_edit() -> None:
    assert check(b"", 0, TABLE)["n_add"] == 0


@pytest.mark.parametrize(
    ("at", "code", "value", "text"),
    [
        (0, "<I", 5000, "more dropped"),
        (0, "<I", 4000, "ends before"),
        (4, "<I", 2000, "more added"),
        (4, "<I", 9, "ends before"),
        (4, "<I", 1, "another length than its contents"),
        (8, "<H", 0x1000, "above bit 11"),
        (10, "<B", 16, "above 15"),
        (11, "<B", 2, "unknown flags"),
        (11, "<B", 1, "not the trigger's"),
        (12, "<I", 0xFFFFFFFF, "ends before"),
        (16, "<I", 0x10000000, "more than 28 bits"),
        (20, "<I", 3, "none of the declared"),
        (24, "<I", 2, "number of arrays"),
        (28, "<Q", 21, "not those of its shapes"),
        (28, "<Q", 1 << 63, "not those of its shapes"),
        (36, "<I", 0xFFFFFFFF, "more bytes than a dgram"),
        (36, "<I", 3, "not those of its shapes"),
    ],
)
def test_what_is_wrong_is_named(at: int, code: str, value: int, text: str) -> None:
    desc, data = encode_block(drops=[5], adds=[IMAGE_ADD, IMAGE_ADD])
    assert text in code_of(patched(desc, at, code, value), data)


def test_lengths_must_agree() -> None:
    desc, data = encode_block(adds=[IMAGE_ADD])
    assert "another length than its descriptor" in code_of(desc, data, block_bytes=len(desc) + len(data) - 1)
    assert "another length than its descriptor" in code_of(desc, data + b"x")
    assert "shorter than its header" in code_of(desc[:15], b"")
    assert "larger than the limit" in code_of(desc, data, max_desc_bytes=len(desc) - 1)
    assert "another length than its contents" in code_of(desc + bytes(8), data)


def test_a_shape_of_no_elements_that_no_array_can_have_is_refused() -> None:
    """Readers multiply the other dims, and find no array that large."""
    table = NamesTable([names((DataType.UINT8, 4))])
    desc, data = encode_block(adds=[(0, [(0, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)], b"")])
    assert "more bytes than a dgram" in code_of(desc, data, table)
    desc, data = encode_block(adds=[(0, [(0xFFFFFFFF, 0xFFFFFFFF, 0, 1)], b"")])
    assert "more bytes than a dgram" in code_of(desc, data, table)
    desc, data = encode_block(adds=[(0, [(100_000, 100_000, 0, 7)], b"")])
    assert check(desc, len(desc), table, data)["n_add"] == 1


def test_text_without_nul_is_refused() -> None:
    desc, data = encode_block(adds=[(1, [(4,)], b"abcd")])
    assert "no NUL" in code_of(desc, data)
    desc, data = encode_block(adds=[(1, [(0,)], b"")])
    assert "no NUL" in code_of(desc, data)
    desc, data = encode_block(adds=[IMAGE_ADD, (1, [(4,)], b"abc\0")])
    assert check(desc, len(desc) + len(data), TABLE, data)["n_add"] == 2


def test_words_need_a_declared_trigger() -> None:
    desc, data = encode_block(adds=[WORDS_ADD], words=True)
    assert check(desc, len(desc) + len(data), TABLE, data)["words_bytes"] == 5
    assert "not the trigger's" in code_of(desc, data, NamesTable([IMAGE, TEXT, WORDS]))
    desc, data = encode_block(words=True)
    assert "not the trigger's" in code_of(desc, data)


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(BlockError(10, 3)))
    assert (error.code, error.wrong) == (10, 3)


@pytest.mark.parametrize("trigger", [-2, 3])
def test_a_table_refuses_a_trigger_it_does_not_have(trigger: int) -> None:
    with pytest.raises(ValueError, match="names_index"):
        NamesTable([IMAGE, TEXT, WORDS], trigger)


@st.composite
def adds(draw: st.DrawFn) -> tuple[int, tuple[tuple[int, ...], ...], bytes]:
    index = draw(st.integers(0, 2))
    fields = (IMAGE, TEXT, WORDS)[index].fields
    shapes = []
    data = b""
    for field in fields:
        size = SIZES[field.dtype]
        if field.rank:
            shape = tuple(draw(st.lists(st.integers(1, 4), min_size=field.rank, max_size=field.rank)))
            shapes.append(shape)
            for dim in shape:
                size *= dim
        data += draw(st.binary(min_size=size, max_size=size))[: size - 1] + b"\0"
    return index, tuple(shapes), data


@given(
    drops=st.lists(st.integers(0, 2**28 - 1)).map(tuple),
    added=st.lists(adds(), max_size=6).map(tuple),
    damage=st.integers(0, 0xFFF),
    user=st.integers(0, 15),
    json=st.binary(max_size=9),
)
def test_decoding_is_the_inverse_of_encoding(drops, added, damage, user, json) -> None:  # type: ignore[no-untyped-def]
    edit = {"drops": drops, "adds": added, "damage": damage, "user": user, "words": False, "json": json}
    desc, data = encode_block(**edit)
    assert len(desc) % 8 == 0
    assert decode_block(desc, data, TABLE) == edit


@given(st.binary(max_size=200), st.integers(0, 300), st.binary(max_size=100))
def test_any_bytes_are_accepted_or_refused_and_nothing_else(
    desc: bytes, block_bytes: int, data: bytes
) -> None:
    try:
        check(desc, block_bytes, TABLE, data)
    except BlockError as error:
        assert describe(error.code)


@given(adds(), st.data())
def test_a_flipped_byte_is_accepted_or_refused(added, data) -> None:  # type: ignore[no-untyped-def]
    desc, values = encode_block(drops=[1], adds=[added, added])
    broken = bytearray(desc)
    broken[data.draw(st.integers(0, len(desc) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        check(bytes(broken), len(desc) + len(values), TABLE, values)
    except BlockError as error:
        assert describe(error.code)
