"""The codec `quantized`: float32 within an absolute error, as whole numbers of steps, which bitshuffle and LZ4 then make small.

A piece begins with a header, little-endian:

    0   uint32    n, how many pixels are kept as they are; 0xFFFFFFFF: all of them, as bslz4 of float32, and that is all
    4   float32   the step
    8   uint32    n flat indices of pixels, rising
        float32   n values of them
        bslz4 of int16, every pixel in steps

The step is a little less than twice the bound, so that rounding in float32 stays within it; that it does is checked for each pixel. What does not,
NaN and what int16 cannot hold among it, is kept as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from calib.detectors._lanes import within
from drp.fex import _bslz4
from drp.fex.errors import FexError
from drp.fex.frames import read_only

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
HEADER = np.dtype([("kept", "<u4"), ("step", "<f4")])
ALL = 0xFFFFFFFF
STEP_OF_BOUND = 2 * (1 - 2**-7)
MOST_KEPT = 1 / 16
"""Of the pixels; with more it is better to keep all of them."""
LARGEST = 32_000
SMALLEST = 1e-30
"""Of the step; its inverse, and so many steps, are far from what float32 cannot hold."""
ROUND = np.float32(1.5 * 2**23)
"""Added to a smaller number it leaves no room for a fraction, so that it rounds it; taken away again, the whole number is left."""
BLOCK = 256
_at = np.uintp
_f32 = np.float32


def encoder(shape: tuple[int, int], dtype: np.dtype[Any], bound: float) -> Callable[[Array], Bytes]:
    """Return what encodes a segment; FexError for what is not float32, or a bound that float32 cannot hold."""
    limit = _below(bound)
    step = _f32(float(limit) * STEP_OF_BOUND) if limit < 1 / SMALLEST else _f32(0)
    if dtype != np.float32:
        raise FexError(
            f"{dtype} cannot be quantized", "Give calibrated frames, float32; bslz4 takes the others"
        )
    if not SMALLEST < step < 1 / SMALLEST:
        raise FexError(
            f"an absolute error of {bound} is nothing that float32 can keep to", "Give one above 0"
        )
    size = math.prod(shape)
    encode_all = _bslz4.encoder(shape, dtype, 0)
    encode_steps = _bslz4.encoder(shape, np.dtype(np.int16), 0)
    steps, most = np.zeros(shape, np.int16), int(size * MOST_KEPT)
    index, value = np.zeros(most + BLOCK, np.uint32), np.zeros(most + BLOCK, np.float32)
    header = np.zeros(1, HEADER)

    def encode(segment: Array) -> Bytes:
        kept = quantize(segment.reshape(-1), step, limit, steps.reshape(-1), index, value)
        if kept > most:
            header[0] = ALL, 0
            return np.concatenate([header.view(np.uint8), encode_all(segment)])
        header[0] = kept, step
        parts = (header, index[:kept], value[:kept], encode_steps(steps))
        return np.concatenate([part.view(np.uint8) for part in parts])

    return encode


def decode(piece: Bytes, shape: tuple[int, int], dtype: np.dtype[Any], bound: float) -> Array:
    """Return the segment of a piece; FexError where it is damaged."""
    size = math.prod(shape)
    if dtype != np.float32 or len(piece) < HEADER.itemsize:
        raise FexError(f"the bytes are damaged: {len(piece)} of them, said to be {dtype} in steps")
    kept, step = (one.item() for one in piece[: HEADER.itemsize].view(HEADER)[0])
    rest = piece[HEADER.itemsize :]
    if kept == ALL:
        return _bslz4.decode(rest, shape, dtype, 0)
    if kept > size * MOST_KEPT or kept * 8 > len(rest) or not 0 < step <= 2 * bound:
        raise FexError(
            f"the bytes are damaged: {kept} of {size} pixels kept as they are, steps of {step} for a bound of {bound}"
        )
    index, value = rest[: 4 * kept].view("<u4"), rest[4 * kept : 8 * kept].view("<f4")
    if kept and (index[-1] >= size or (np.diff(index.astype(np.int64)) <= 0).any()):
        raise FexError(f"the bytes are damaged: pixels kept as they are are no rising indices below {size}")
    steps = _bslz4.decode(rest[8 * kept :], shape, np.dtype(np.int16), 0)
    with np.errstate(over="ignore"):
        segment = np.multiply(steps, _f32(step), dtype=np.float32)
    segment.reshape(-1)[index] = value
    return segment


def _below(bound: float) -> np.float32:
    """Return the largest float32 that is no more than the bound."""
    with np.errstate(over="ignore"):
        near = _f32(bound)
    return near if near <= bound else np.nextafter(near, _f32(0))


def warm_up() -> None:
    """Compile the kernels for what workers pass; the library need not be there."""
    pixels, one = read_only(np.zeros(1, np.float32)), _f32(1)
    quantize(pixels, one, one, np.zeros(1, np.int16), np.zeros(BLOCK, np.uint32), np.zeros(BLOCK, np.float32))


@numba.njit(cache=True, nogil=True)
def quantize(pixels: Any, step: Any, bound: Any, steps: Any, index: Any, value: Any) -> Any:
    """Write the pixels in steps; list those that are not within the bound then, and return how many. It ends when the list is full."""
    n = 0
    for begin in range(0, len(pixels), BLOCK):
        end = min(begin + BLOCK, len(pixels))
        if n + BLOCK > len(index):
            return len(index)
        if not _all_within(pixels, begin, end, step, bound, steps):
            for i in range(begin, end):
                if not np.abs(_f32(steps[i]) * step - pixels[i]) <= bound:
                    index[n], value[n] = i, pixels[i]
                    steps[i] = 0
                    n += 1
    return n


@within
def _all_within(pixels: Any, begin: Any, end: Any, step: Any, bound: Any, steps: Any) -> Any:
    """Write a block in steps; say whether each pixel is within the bound then."""
    inverse, largest = _f32(1) / step, _f32(LARGEST)
    wrong = np.int32(0)
    for i in range(_at(begin), _at(end)):
        x = pixels[i]
        at = x * inverse
        at = min(max(at, -largest), largest) if at == at else _f32(0)  # noqa: PLR0124 - NaN is not itself
        whole = (at + ROUND) - ROUND
        steps[i] = np.int16(whole)
        wrong |= np.int32(not np.abs(whole * step - x) <= bound)
    return wrong == 0
