"""Sets in a buffer: what goes in comes out, read-only and aligned; a buffer that somebody spoilt is refused, never read past its end."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.broadcast import pack, unpack
from calib.broadcast.packing import ALIGN
from calib.errors import BroadcastError

ITEMS = {
    "jungfrau/pedestals": np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5),
    "jungfrau/pixel_status": np.full((2, 4, 5), 1 << 63, np.uint64),
    "jungfrau/geometry": "# Geometrie für zwei Module\n",
    "jungfrau/derived/mask": np.eye(5, dtype=bool),
    "jungfrau/empty": np.zeros((0, 3), np.int16),
    "jungfrau/number": np.array(2.5),
}


def packed(items: dict[str, Any] | None = None) -> bytearray:
    plan = pack(ITEMS if items is None else items, {"detectors": {"jungfrau": ["a", "b"]}})
    buffer = bytearray(plan.size_bytes)
    plan.write(buffer)
    return buffer


def with_header(change: Any, *, digest: bool = True) -> bytearray:
    """A buffer whose header was changed by `change(content)`, with the digest made right again, or not."""
    buffer = packed()
    (size,) = struct.unpack_from("<I", buffer, 12)
    content = json.loads(buffer[64 : 64 + size])
    change(content)
    text = json.dumps(content, separators=(",", ":")).encode()
    out = bytearray(buffer[:64] + text + bytes(max(0, size - len(text))) + buffer[64 + size :])
    struct.pack_into("<I", out, 12, len(text))
    if digest:
        out[16:48] = hashlib.sha256(text).digest()
    return out


def test_what_is_packed_comes_out_equal_aligned_and_read_only() -> None:
    plan = pack(ITEMS, {"who": "me"})
    buffer = bytearray(plan.size_bytes + 100)
    plan.write(buffer)
    found = unpack(buffer, digest=plan.digest, verify=True)
    assert found.about == {"who": "me"}
    assert found.digest == plan.digest
    assert found.entries == plan.entries
    assert found.values.keys() == ITEMS.keys()
    for key, value in ITEMS.items():
        got = found.values[key]
        if isinstance(value, str):
            assert got == value
            continue
        assert isinstance(got, np.ndarray)
        assert got.dtype == value.dtype and got.shape == value.shape
        assert np.array_equal(got, value)
        assert not got.flags.writeable
    assert all(entry.offset % ALIGN == 0 for entry in found.entries)
    assert plan.size_bytes % ALIGN == 0


def test_values_are_views_of_the_buffer() -> None:
    buffer = packed()
    found = unpack(buffer)
    entry = next(one for one in found.entries if one.key == "jungfrau/pedestals")
    struct.pack_into("<f", buffer, entry.offset, -7.0)
    assert found.values["jungfrau/pedestals"].flat[0] == -7.0


def test_foreign_byte_order_and_layout_are_made_plain() -> None:
    value = np.arange(6, dtype=">f4").reshape(2, 3).T
    found = unpack(packed({"x": value})).values["x"]
    assert found.dtype == np.dtype("<f4")
    assert np.array_equal(found, value)


def test_the_digest_is_that_of_the_content() -> None:
    same, other = dict(ITEMS), dict(ITEMS)
    other["jungfrau/number"] = np.array(2.25)
    first = pack(ITEMS).digest
    assert pack(same).digest == first
    assert pack(other).digest != first
    assert pack(ITEMS, {"more": 1}).digest != first


@pytest.mark.parametrize(
    "value", [np.array(["text"]), np.array([1 + 2j]), np.array([object()]), np.zeros((1,) * 9)]
)
def test_what_cannot_be_broadcast_is_refused(value: Any) -> None:
    with pytest.raises(BroadcastError, match="cannot be broadcast"):
        pack({"x": value})


def test_a_buffer_too_small_or_read_only_is_refused() -> None:
    plan = pack(ITEMS)
    for buffer in (bytearray(plan.size_bytes - 1), bytes(plan.size_bytes)):
        with pytest.raises(BroadcastError, match="does not go into"):
            plan.write(buffer)


def test_another_set_than_the_one_expected_is_refused() -> None:
    with pytest.raises(BroadcastError, match="expected aaaa"):
        unpack(packed(), digest="a" * 64)


def set_entry(place: int, value: Any) -> Any:
    def change(content: dict[str, Any]) -> None:
        content["entries"][0][place] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_entry(0, 7),
        set_entry(0, "k" * 600),
        set_entry(1, "O"),
        set_entry(1, "<O8"),
        set_entry(1, ">f4"),
        set_entry(1, "<f3"),
        set_entry(1, "f4,f4"),
        set_entry(1, "text"),
        set_entry(2, [3, 2, 4, 500]),
        set_entry(2, [-1, 2]),
        set_entry(2, [1] * 20),
        set_entry(2, [1 << 62, 1 << 62]),
        set_entry(2, "abc"),
        set_entry(3, 1 << 39),
        set_entry(3, 0),
        set_entry(3, 65),
        set_entry(3, -64),
        set_entry(3, 64.0),
        set_entry(3, True),
        set_entry(4, 1 << 39),
        set_entry(5, "short"),
        lambda content: content["entries"].append(content["entries"][0]),
        lambda content: content["entries"].append([]),
        lambda content: content["entries"].append(None),
        lambda content: content.update(entries=5),
        lambda content: content.update(entries=[content["entries"][0]] * 5000),
        lambda content: content.update(about=[]),
        lambda content: content.update(size="x"),
        lambda content: content.update(size=64),
        lambda content: content.pop("size"),
    ],
)
def test_a_header_that_lies_is_refused(change: Any) -> None:
    with pytest.raises(BroadcastError):
        unpack(with_header(change))


def test_a_header_without_its_digest_is_refused() -> None:
    with pytest.raises(BroadcastError, match="does not have its digest"):
        unpack(with_header(set_entry(0, "x"), digest=False))


def test_a_value_without_its_digest_is_found_out_where_asked() -> None:
    buffer = packed()
    entry = next(one for one in unpack(buffer).entries if one.key == "jungfrau/pixel_status")
    buffer[entry.offset + 9] ^= 1
    unpack(buffer)
    with pytest.raises(BroadcastError, match="jungfrau/pixel_status: the value does not have its digest"):
        unpack(buffer, verify=True)


@pytest.mark.parametrize("size", [0, 10, 63, 64, 200, 600])
def test_a_buffer_that_was_cut_is_refused(size: int) -> None:
    with pytest.raises(BroadcastError):
        unpack(packed()[:size])


@given(st.data())
def test_no_single_spoilt_byte_of_the_header_is_believed(data: st.DataObject) -> None:
    buffer = packed()
    (size,) = struct.unpack_from("<I", buffer, 12)
    at = data.draw(st.integers(0, 47) | st.integers(64, 63 + size))
    buffer[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BroadcastError):
        unpack(buffer)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BroadcastError):
        unpack(noise)
