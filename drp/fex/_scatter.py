"""The kernel that adds pixels to bins, each split over up to four neighbouring ones. It knows numbers, no geometry, and checks nothing.

`sums` has four numbers for each bin: pixels are added to those of their *first* bin, sums[first, lane] += value * weight[lane], so that a pixel
costs one addition of four numbers, whichever bins it is in, and what a bin holds is sums[bin, 0] + sums[bin - 1, 1] + ... (`Sums.fold`). An
addition that begins before the one to the same bin is done waits for it, and neighbouring pixels are often in one bin: so four streams, quarters of
the pixels that lie far from each other, are gone through together; where bins are few, each stream has sums of its own. Sums are float64. The
compiler does not find additions of four by itself; they are made here.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from calib.detectors._lanes import within

LANES = 4
WHOLE = 0xFFFF
"""The weight of a pixel that is in one bin only."""
BLOCK = 256
STREAMS = 4
_at = np.uintp
_DOUBLE = ir.VectorType(ir.DoubleType(), LANES)
_WORD = ir.VectorType(ir.IntType(32), LANES)
_HALF = ir.VectorType(ir.IntType(16), LANES)


def _generate_add(power: int, builder: Any, sums: Any, weights: Any, value: Any) -> None:
    def pointer(address: Any, kind: Any) -> Any:
        return builder.inttoptr(address, kind.as_pointer())

    halves = builder.load(pointer(weights, _HALF), align=2)
    weight = builder.sitofp(builder.zext(halves, _WORD), _DOUBLE)
    first = builder.insert_element(ir.Constant(_DOUBLE, ir.Undefined), value, ir.IntType(32)(0))
    share = builder.shuffle_vector(first, first, ir.Constant(_WORD, [0] * LANES))
    for _ in range(power):
        share = builder.fmul(share, weight)
    place = pointer(sums, _DOUBLE)
    builder.store(builder.fadd(builder.load(place, align=8), share), place, align=8)


def _operation(power: int) -> Any:
    def lower(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        _generate_add(power, builder, *values)
        return context.get_dummy_value()

    arguments = types.uintp, types.uintp, types.float64
    return intrinsic(lambda _typing, sums, weights, value: (types.void(*arguments), lower))  # noqa: ARG005


add = _operation(1)
"""add(address of four sums, address of four weights, value): add value * weight to each."""
add_squared = _operation(2)
"""The same with the square of each weight."""


@within
def add_one(values: Any, first: Any, weights: Any, squared: Any, sums: Any, p: Any) -> None:
    """Add one pixel to the sums that begin at the address `sums`."""
    place = sums + _at(first[p]) * _at(8 * LANES)
    weight = _at(weights.ctypes.data) + p * _at(2 * LANES)
    if squared:
        add_squared(place, weight, np.float64(values[p]))
    else:
        add(place, weight, np.float64(values[p]))


@numba.njit(cache=True, nogil=True)
def scatter(values: Any, first: Any, weights: Any, squared: bool, sums: Any) -> None:
    """Add `values` (pixels,), float32 or float64, to `sums`, float64, times `weights` (pixels, LANES), uint16, or their squares.

    `sums` are (STREAMS, bins, LANES), or (1, bins, LANES) for all.
    """
    quarter = _at(values.shape[0] // STREAMS)
    begin = _at(sums.ctypes.data)
    apart = _at(sums.strides[0] if sums.shape[0] > 1 else 0)
    for i in range(_at(0), quarter):
        for stream in range(_at(0), _at(STREAMS)):
            add_one(values, first, weights, squared, begin + stream * apart, i + stream * quarter)
    for last in range(_at(STREAMS) * quarter, _at(values.shape[0])):
        add_one(values, first, weights, squared, begin, last)


@numba.njit(cache=True, nogil=True)
def scatter_rest(values: Any, pixels: Any, bins: Any, weights: Any, squared: bool, sums: Any) -> None:
    """Add single shares: `values[pixels]` times `weights`, float32, or their squares, to `sums[bins]`."""
    for i in range(_at(0), _at(pixels.shape[0])):
        weight = np.float64(weights[i])
        sums[_at(bins[i])] += np.float64(values[_at(pixels[i])]) * (weight * weight if squared else weight)


@numba.njit(cache=True, nogil=True)
def multiply(one: Any, other: Any, out: Any) -> None:
    """Multiply float32 into float64, which is exact."""
    for i in range(_at(out.shape[0])):
        out[i] = np.float64(one[i]) * np.float64(other[i])


@numba.njit(cache=True, nogil=True)
def find_invalid(values: Any, dummy: Any, delta: Any, out: Any) -> Any:
    """Put the indices of pixels that are not finite, or not farther than `delta` from `dummy`, into `out`, and return how many they are."""
    found = 0
    for begin in range(0, values.shape[0], BLOCK):
        end = min(begin + BLOCK, values.shape[0])
        bad = np.uint32(0)
        for i in range(_at(begin), _at(end)):
            bad += np.uint32((not abs(values[i]) < np.float32(np.inf)) | (abs(values[i] - dummy) <= delta))
        for i in range(begin, end if bad else begin):
            if not abs(values[i]) < np.float32(np.inf) or abs(values[i] - dummy) <= delta:
                out[found] = i
                found += 1
    return found
