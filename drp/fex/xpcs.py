"""Sparse photon events, as photon correlation wants them: where photons are and how many, in two bytes for most of them.

An event is a list of uint16 words. The low 3 bits of a word are its code, the others a number of pixels without photons that are passed over, in the
flat order of (segments, rows, cols):

    0       they are passed over, and that is all
    1 to 6  the pixel behind them has so many photons
    7       the pixel behind them has as many photons as the next word says

What is read back may come from anywhere: it is checked before it is used.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types

from calib.detectors._lanes import operation, within
from drp.fex._regions import checked_dtype, checked_shape, input_segments
from drp.fex.errors import FexError
from drp.fex.frames import Frame, Shape, read_only

Words = npt.NDArray[np.uint16]
DTYPES = ("uint8", "uint16")
CODE_BITS = 3
MANY = 7
MOST_PASSED = (1 << 16 - CODE_BITS) - 1
MOST_PIXELS = 1 << 32
BLOCK = 32
_at = np.uintp

load_word = operation(
    lambda build, address: build.load(build.inttoptr(address, ir.IntType(64).as_pointer()), align=1),
    types.uint64,
    types.uintp,
)
"""load_word(address): the eight bytes that lie there."""


class SparseEvents:
    """Makes words of photon counts. One instance for each thread."""

    def __init__(self, shape: Shape, dtype: npt.DTypeLike = np.uint8) -> None:
        """Prepare for counts of `shape` (segments, rows, cols) and `dtype` (uint8 or uint16). Raises FexError."""
        self.shape = checked_shape(shape)
        self._dtype = checked_dtype(dtype, DTYPES)
        size = int(np.prod(self.shape))
        self._words = np.empty(2 * size + size // MOST_PASSED + 1, np.uint16)
        self._places = np.empty((2, self.shape[1] * self.shape[2] + 1), np.int64)  # one more: see _encode
        self.of(np.zeros(self.shape, self._dtype))

    def of(self, counts: Frame) -> Words:
        """Return the words of an event, uint16, valid until the next call. FexError where it is not of the shape and dtype given before."""
        n, passed = 0, 0
        for segment in input_segments(counts, self.shape, self._dtype):
            n, passed = _encode(segment.reshape(-1), passed, n, self._places, self._words)
        return self._words[:n]


def decode_events(words: npt.ArrayLike, shape: Shape) -> tuple[npt.NDArray[np.uint32], Words]:
    """Return the pixels with photons (flat in `shape`, rising) and their counts, of the words of an event; FexError where they are none."""
    size = int(np.prod(checked_shape(shape)))
    given = np.ascontiguousarray(words)
    if given.dtype != np.uint16 or given.ndim != 1:
        raise FexError(f"sparse events are uint16 of rank 1, these are {given.dtype} of rank {given.ndim}")
    pixel, count = np.empty(len(given), np.uint32), np.empty(len(given), np.uint16)
    n = _decode(read_only(given), min(size, MOST_PIXELS), pixel, count)
    if n < 0:
        raise FexError(
            f"word {-1 - n} of {len(given)} leads beyond the {size} pixels of {shape}, or has no count",
            "Give the shape that the event was made with; else it is damaged",
        )
    return pixel[:n], count[:n]


def dense_events(words: npt.ArrayLike, shape: Shape) -> Words:
    """Return the photon counts of an event, uint16 of `shape`, from its words; FexError as `decode_events`."""
    counts = np.zeros(checked_shape(shape), np.uint16)
    pixel, count = decode_events(words, shape)
    counts.reshape(-1)[pixel] = count
    return counts


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    for dtype in DTYPES:
        SparseEvents((1, 1, 1), dtype)


@numba.njit(cache=True, nogil=True)
def _encode(counts: Any, passed: Any, n: Any, places: Any, words: Any) -> Any:
    """Write the words of a segment behind the first `n`; return how many there are then, and how many pixels were passed over since the last photon.

    Which blocks and pixels have photons nobody can predict, so each is written down, and kept by being counted, without a branch.
    """
    m, end = 0, len(counts)
    blocks, pixels = places[0], places[1]
    for first in range(0, end, BLOCK):
        blocks[m] = first
        m += first + BLOCK > end or _any(counts, first)
    found = 0
    for k in range(m):
        for i in range(blocks[k], min(blocks[k] + BLOCK, end)):
            pixels[found] = i
            found += counts[i] != 0
    last = 0
    for k in range(found):
        i = pixels[k]
        n = _photons(counts[i], passed + i - last, n, words)
        passed, last = 0, i + 1
    return n, passed + end - last


@within
def _any(counts: Any, begin: Any) -> Any:
    """Say whether there are photons in a whole block."""
    start = _at(counts.ctypes.data) + _at(begin) * _at(counts.itemsize)
    some = np.uint64(0)
    for at in range(start, start + _at(BLOCK) * _at(counts.itemsize), _at(8)):
        some |= load_word(at)
    return some != 0


@within
def _photons(count: Any, gap: Any, n: Any, words: Any) -> Any:
    """Write a pixel that comes after `gap` others; return how many words there are then."""
    while gap > MOST_PASSED:
        words[n] = MOST_PASSED << CODE_BITS
        gap -= MOST_PASSED
        n += 1
    words[n] = gap << CODE_BITS | min(count, MANY)
    n += 1
    if count >= MANY:
        words[n] = count
        n += 1
    return n


@numba.njit(cache=True, nogil=True)
def _decode(words: Any, size: Any, pixel: Any, count: Any) -> Any:
    """Write pixels and counts; return how many, or -1 - the place of a word that cannot be."""
    at, n, k = 0, 0, 0
    while k < len(words):
        code, first = int(words[k]) & MANY, k
        at += int(words[k]) >> CODE_BITS
        k += 1
        if code == 0:
            continue
        if code == MANY:
            code = int(words[k]) if k < len(words) else 0
            k += 1
        if at >= size or code == 0:
            return -1 - first
        pixel[n], count[n] = at, code
        n += 1
        at += 1
    return n
