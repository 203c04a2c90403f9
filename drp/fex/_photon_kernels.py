"""Kernels: a segment's pixels, 64 at a time, and how many photons each holds by itself. They know energies and bits, and check nothing.

Most pixels hold nothing, so pixels are looked at as words: a word has a bit for each of 64 pixels that is above a threshold, and only set bits
are visited. Words come as (rows, words); `used` holds the mask so. The list has one entry more than may be used, which takes what there is no
room for.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from calib.detectors._lanes import WIDTH, add, at_least, first_bit, load, mul, splat, within
from calib.detectors.photons import whole

WORD = 64
LISTED, PHOTONS = range(2)
"""What is counted in `found`, uint64: pixels that hold photons (also those beyond the end of the list), and photons."""
_at = np.uintp
_u64 = np.uint64
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@within
def bits_of(kev: Any, row: Any, word: Any, factor: Any, summand: Any, least: Any) -> Any:
    """Return a bit for each of 64 pixels with energy * factor + summand >= least; none for NaN."""
    cols = _at(kev.shape[1])
    first = word * _at(WORD)
    found = _ZERO
    if first + _at(WORD) <= cols:
        start = _at(kev.ctypes.data) + _at(4) * (row * cols + first)
        for part in range(_at(WORD // WIDTH)):
            values = mul(load(start + _at(4 * WIDTH) * part), splat(factor))
            found |= at_least(add(values, splat(summand)), splat(least)) << (_u64(WIDTH) * part)
    else:
        for col in range(first, cols):
            if kev[row, col] * factor + summand >= least:
                found |= _ONE << (col - first)
    return found


@within
def entry(segment: Any, row: Any, col: Any, number: Any) -> Any:
    """Return an entry of the list: segment, row, column, photons, 16 bits each, the first the lowest."""
    return _u64(segment) | row << _u64(16) | col << _u64(32) | _u64(number) << _u64(48)


@numba.njit(cache=True, nogil=True)
def find_single(
    kev: Any, used: Any, per_kev: Any, up: Any, segment: Any, photons: Any, listed: Any, found: Any
) -> None:
    """List the pixels that hold photons, each counted by itself, and set `photons` (rows, cols), or nothing where that has no pixels."""
    count, total, room = found[LISTED], found[PHOTONS], _u64(len(listed) - 1)
    for row in range(_at(kev.shape[0])):
        for col in range(_at(photons.shape[1])):
            photons[row, col] = 0
        for word in range(_at(used.shape[1])):
            bits = bits_of(kev, row, word, per_kev, up, np.float32(1)) & used[row, word]
            while bits:
                col = word * _at(WORD) + first_bit(bits)
                bits &= bits - _ONE
                number = whole(kev[row, col], per_kev, up)
                if photons.size:
                    photons[row, col] = number
                listed[min(count, room)] = entry(segment, row, col, number)
                count += _ONE
                total += _u64(number)
    found[LISTED], found[PHOTONS] = count, total
