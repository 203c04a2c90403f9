"""The two functions of bitshuffle that we use, by imagecodecs: for Pythons that bitshuffle has no wheel for. The bytes are the same; it is slower.

What is decoded must have been checked: the lengths before the blocks are believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
WHOLE = 8
LENGTH_BYTES = 4


def compress_lz4(array: Array, block: int) -> Bytes:
    """Return an array in C order compressed, in blocks of so many elements."""
    flat, parts = array.reshape(-1), []
    whole = flat.size - flat.size % WHOLE
    for begin, end in _blocks(whole, block):
        shuffled: Any = imagecodecs.bitshuffle_encode(flat[begin:end], blocksize=end - begin)
        packed = imagecodecs.lz4_encode(shuffled)
        parts += [len(packed).to_bytes(LENGTH_BYTES, "big"), bytes(packed)]
    return np.frombuffer(b"".join([*parts, flat[whole:].tobytes()]), np.uint8)


def decompress_lz4(packed: Bytes, shape: tuple[int, ...], dtype: np.dtype[Any], block: int) -> Array:
    """Return the array of `shape` and `dtype`; RuntimeError where a block is damaged."""
    size, at, raw, flat = math.prod(shape), 0, packed.tobytes(), np.empty(math.prod(shape), dtype)
    whole = size - size % WHOLE
    for begin, end in _blocks(whole, block):
        first = at + LENGTH_BYTES
        at = first + int.from_bytes(raw[at:first], "big")
        wanted = (end - begin) * dtype.itemsize
        shuffled = bytes(imagecodecs.lz4_decode(raw[first:at], out=wanted))
        if len(shuffled) != wanted:
            raise RuntimeError(f"a block has {len(shuffled)} bytes in place of {wanted}")
        plain = imagecodecs.bitshuffle_decode(shuffled, itemsize=dtype.itemsize, blocksize=end - begin)
        flat[begin:end] = np.frombuffer(plain, dtype)
    flat[whole:] = np.frombuffer(raw[at:], dtype)
    return flat.reshape(shape)


def _blocks(whole: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield where blocks begin and end."""
    for begin in range(0, whole, block):
        yield begin, min(begin + block, whole)
