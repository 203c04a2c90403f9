"""What we compress is what hdf5plugin and imagecodecs decompress."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.fex import Compressor, FexError, decompress

pytestmark = pytest.mark.real
SHAPE = (3, 145, 769)
BLOCK = 8192


h5py: Any = None
hdf5plugin: Any = None
imagecodecs: Any = None
_bitshuffle: Any = None


@pytest.fixture(autouse=True, scope="module")
def judges() -> None:
    """Import them when a test is run, not when it is collected: a module that is skipped is told of even where none of its tests is wanted."""
    global h5py, hdf5plugin, imagecodecs, _bitshuffle  # noqa: PLW0603 - they are the module's, only later
    h5py, hdf5plugin = pytest.importorskip("h5py"), pytest.importorskip("hdf5plugin")
    imagecodecs = pytest.importorskip("imagecodecs")
    _bitshuffle = pytest.importorskip("drp.fex._bitshuffle")


def pieces(event: Any, bound: float = 0.0) -> list[bytes]:
    """The bytes of each segment."""
    found = Compressor(event.shape, event.dtype, bound).of(event)
    ends = np.cumsum(found.sizes)
    return [found.data[end - size : end].tobytes() for size, end in zip(found.sizes, ends, strict=True)]


def by_hdf5plugin(piece: bytes, dtype: Any) -> Any:
    """A segment as the HDF5 filter reads it, from a piece written as it is behind the filter's header."""
    header = (int(np.prod(SHAPE[1:])) * dtype.itemsize).to_bytes(8, "big") + BLOCK.to_bytes(4, "big")
    with h5py.File(io.BytesIO(), "w") as file:
        data = file.create_dataset(
            "x", SHAPE[1:], dtype, chunks=SHAPE[1:], **hdf5plugin.Bitshuffle(cname="lz4")
        )
        data.id.write_direct_chunk((0, 0), header + piece)
        return data[:]


def by_imagecodecs(piece: bytes, dtype: Any) -> Any:
    """A segment from its blocks of LZ4."""
    at, left, out = 0, int(np.prod(SHAPE[1:])) * dtype.itemsize, b""
    while left >= 8 * dtype.itemsize:
        size = min(left // (8 * dtype.itemsize) * 8 * dtype.itemsize, BLOCK)
        end = at + 4 + int.from_bytes(piece[at : at + 4], "big")
        plain = imagecodecs.lz4_decode(piece[at + 4 : end], out=size)
        out += imagecodecs.bitshuffle_decode(
            bytes(plain), itemsize=dtype.itemsize, blocksize=size // dtype.itemsize
        )
        at, left = end, left - size
    return np.frombuffer(out + piece[at:], dtype).reshape(SHAPE[1:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("judge", [by_hdf5plugin, by_imagecodecs])
def test_frames_without_loss_are_decompressed_by_others(dtype: str, judge: Any) -> None:
    rng = np.random.default_rng(1)
    event = (rng.poisson(3, SHAPE) + (rng.random(SHAPE) if dtype == "float32" else 0)).astype(dtype)
    for piece, segment in zip(pieces(event), event, strict=True):
        assert np.array_equal(judge(piece, event.dtype), segment)


@pytest.mark.parametrize("judge", [by_hdf5plugin, by_imagecodecs])
def test_quantized_frames_are_read_by_what_the_page_says_of_them(judge: Any) -> None:
    event = np.random.default_rng(2).normal(5, 3, SHAPE).astype(np.float32)
    event[0, 3, 4:7] = [np.nan, 1e8, -np.inf]
    for piece, segment in zip(pieces(event, 0.25), event, strict=True):
        kept, step = int.from_bytes(piece[:4], "little"), np.frombuffer(piece[4:8], "<f4")[0]
        found = judge(piece[8 + 8 * kept :], np.dtype(np.int16)).astype(np.float32) * step
        index = np.frombuffer(piece[8 : 8 + 4 * kept], "<u4")
        found.reshape(-1)[index] = np.frombuffer(piece[8 + 4 * kept : 8 + 8 * kept], "<f4")
        finite = np.isfinite(segment)
        assert np.abs(found[finite] - segment[finite]).max() <= 0.25
        assert np.array_equal(found[~finite], segment[~finite], equal_nan=True)


def test_the_filter_writes_what_we_write(tmp_path: Path) -> None:
    event = np.random.default_rng(3).poisson(30, SHAPE).astype(np.uint16)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset(
            "x", data=event[0], chunks=SHAPE[1:], **hdf5plugin.Bitshuffle(nelems=BLOCK // 2, cname="lz4")
        )
        _, written = data.id.read_direct_chunk((0, 0))
    ours = np.frombuffer(pieces(event)[0], np.uint8)
    assert len(written) - 12 == len(ours)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 4096, 8192 * 3 + 17])
def test_without_bitshuffle_the_same_bytes_are_written_and_read(dtype: str, size: int) -> None:
    bitshuffle, kind = pytest.importorskip("bitshuffle"), np.dtype(dtype)
    segment = np.random.default_rng(size).integers(0, 50, (1, size)).astype(kind)
    block = BLOCK // kind.itemsize
    written = _bitshuffle.compress_lz4(segment, block)
    assert np.array_equal(written, bitshuffle.compress_lz4(segment, block))
    assert np.array_equal(_bitshuffle.decompress_lz4(written, segment.shape, kind, block), segment)


def test_without_bitshuffle_frames_come_back_and_damage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    event = np.random.default_rng(2).normal(5, 3, SHAPE).astype(np.float32)
    with_it = Compressor(SHAPE, bound=0.25).of(event).data.copy()
    monkeypatch.setitem(sys.modules, "bitshuffle", None)
    found = Compressor(SHAPE, bound=0.25).of(event)
    assert np.array_equal(found.data, with_it)
    fields = {name: getattr(found, name) for name in Compressor.fields}
    assert np.abs(decompress(**fields) - event).max() <= 0.25
    rng, told = np.random.default_rng(3), 0
    for _ in range(300):
        damaged = found.data.copy()
        damaged[rng.integers(len(damaged), size=4)] = rng.integers(256, size=4)
        try:
            decompress(**fields | {"data": damaged})
        except FexError:
            told += 1
    assert told > 10
