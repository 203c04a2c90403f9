"""Kernels: the droplets of a segment, which put together the charge that a photon left in several pixels. They check nothing.

Pixels above the low threshold are numbered, row by row, and joined with the one before and the one above, where these are too: each then
knows an earlier pixel of its droplet, and in the end the first one, where the droplet's sums are kept. Energies are counted in 65536ths of a
photon, whole numbers, so that a sum does not depend on the order of the pixels.

What is placed greedily, photon by photon on the pixel with most energy left, comes to this: each pixel gets its whole photons, and those that
are then left of the droplet's number go to the pixels with the largest fractions, one each, for they are never more than there are fractions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from calib.detectors._lanes import count_bits, first_bit, within
from calib.detectors.photons import MOST
from drp.fex._photon_kernels import LISTED, PHOTONS, WORD, bits_of, entry

PARTS = 65536
FEW = 64
"""Pixels of a droplet up to which those that get a photon more are found by comparing each with each."""
MOST_PIXELS = 1 << 24
"""Pixels of a segment: what `sums` can count beside the sum of so many fractions."""
NUMBERS, SUMS = 4, 3
"""Scratch arrays of uint32 and of uint64, each as long as a segment has pixels."""
_KEY_BITS = 48
_at = np.uintp
_u32, _u64 = np.uint32, np.uint64
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_FRACTION = np.uint32(PARTS - 1)
_SUM = np.uint64((1 << 40) - 1)
_HALF, _NOBODY = np.uint64(1 << 47), np.uint64(1 << 48)


@within
def parts_of(kev: Any, per_kev: Any) -> Any:
    """Return the energy of a pixel that is above 0 in parts of a photon, uint32; at most MOST photons."""
    return _u32(np.int64(min(kev * per_kev, np.float32(MOST)) * np.float32(PARTS)))


@within
def root_of(joined: Any, at: Any) -> Any:
    """Return the first pixel of a droplet, as far as it is known."""
    while joined[at] != at:
        at = _at(joined[at])
    return at


@within
def join(joined: Any, one: Any, other: Any) -> None:
    """Have the droplets of two pixels be one."""
    one, other = root_of(joined, one), root_of(joined, other)
    joined[max(one, other)] = min(one, other)


@within
def connect(
    kev: Any,
    used: Any,
    per_kev: Any,
    low: Any,
    words: Any,
    before: Any,
    starts: Any,
    cols: Any,
    parts: Any,
    joined: Any,
) -> Any:
    """Number the pixels of at least `low` keV and join neighbours; return how many they are.

    Each row's first number is left in `starts`, each pixel's column in `cols`. `words` and `before` are the bits of a row and how many pixels
    come before each word.
    """
    count = _ZERO
    for row in range(_at(kev.shape[0])):
        starts[row] = count
        last, last_both, first = _ZERO, _ZERO, count
        for word in range(_at(used.shape[1])):
            bits = bits_of(kev, row, word, np.float32(1), np.float32(0), low) & used[row, word]
            above, before_above = (words[word], _u64(before[word])) if row else (_ZERO, _ZERO)
            words[word], before[word] = bits, count
            beside = bits & (bits << _ONE | last)
            last = bits >> _u64(63)
            start, rest = count, bits
            while rest:
                bit = first_bit(rest)
                rest &= rest - _ONE
                first = first if beside >> bit & _ONE else count
                col = word * _at(WORD) + bit
                cols[count] = col
                parts[count] = parts_of(kev[row, col], per_kev)
                joined[count] = first
                count += _ONE
            both = bits & above
            rest = both & ~(both << _ONE | last_both)  # the next ones of a stretch are joined by it
            last_both = both >> _u64(63)
            while rest:
                lower = (rest & (~rest + _ONE)) - _ONE
                rest &= rest - _ONE
                join(joined, start + count_bits(bits & lower), before_above + count_bits(above & lower))
    starts[kev.shape[0]] = count
    return count


@within
def key(parts: Any, at: Any) -> Any:
    """Return by what the pixels that get a photon more are chosen: the largest fraction, of equal ones the first pixel. No two are equal."""
    return _u64(parts[at] & _FRACTION) << _u64(32) | (_u64(0xFFFFFFFF) - at)


@within
def add_up(count: Any, parts: Any, joined: Any, sums: Any, tails: Any, after: Any) -> None:
    """Lead each pixel to the first of its droplet, whose `sums` get the sum of fractions, and how many of them are halves or more.

    The pixels of a droplet become a chain: `after` has the next, `tails` the last.
    """
    for at in range(count):
        sums[at] = 0
        tails[at] = at
    for at in range(count):
        root = _at(joined[joined[at]])
        joined[at] = root
        fraction = _u64(parts[at] & _FRACTION)
        sums[root] += fraction | (fraction >> _u64(15)) << _u64(40)
        after[tails[root]] = at
        tails[root] = at


@numba.njit(nogil=True)
def least_key(first: Any, last: Any, extra: Any, parts: Any, after: Any, keys: Any) -> Any:
    """Return the key that just `extra` of a droplet's pixels reach."""
    size: Any
    size, at = _ONE, _at(first)
    keys[0] = key(parts, at)
    while at != last:
        at = _at(after[at])
        keys[size] = key(parts, at)
        size += _ONE
    for one in range(size if size <= _u64(FEW) else _ZERO):
        reach: Any = _ZERO
        for other in range(size):
            reach += _u64(keys[other] >= keys[one])
        if reach == extra:
            return keys[one]
    least: Any = _ZERO
    for bit in range(_u64(_KEY_BITS)):
        trial = least | _ONE << (_u64(_KEY_BITS - 1) - bit)
        reach = _ZERO
        for one in range(size):
            reach += _u64(keys[one] >= trial)
        least = trial if reach >= extra else least
    return least


@within
def choose(
    count: Any, up: Any, parts: Any, joined: Any, sums: Any, tails: Any, after: Any, least: Any, keys: Any
) -> None:
    """Leave for each droplet the key from which on its pixels get a photon more: that of a half, if just so many are, which is usual."""
    for root in range(count):
        if joined[root] == root:
            extra = ((sums[root] & _SUM) + up) >> _u64(16)
            least[root] = _HALF
            if extra != sums[root] >> _u64(40):
                least[root] = least_key(root, tails[root], extra, parts, after, keys) if extra else _NOBODY


@numba.njit(cache=True, nogil=True)
def find_droplets(
    kev: Any,
    used: Any,
    per_kev: Any,
    low: Any,
    up: Any,
    words: Any,
    rows: Any,
    cols: Any,
    numbers: Any,
    sums: Any,
    segment: Any,
    photons: Any,
    listed: Any,
    found: Any,
) -> None:
    """Place the photons of each droplet into `photons` (rows, cols), and list the pixels that hold any.

    `low` in keV, `up` in parts. Room: `words` uint64 (words of a row), `rows` uint32 (words of a row + rows + 1), `cols` uint16 (pixels), `numbers`
    uint32 (NUMBERS, pixels), `sums` uint64 (SUMS, pixels).
    """
    starts, before = rows[used.shape[1] :], rows[: used.shape[1]]
    parts, joined, tails, after = numbers[0], numbers[1], numbers[2], numbers[3]
    sums, least, keys = sums[0], sums[1], sums[2]
    count = connect(kev, used, per_kev, low, words, before, starts, cols, parts, joined)
    add_up(count, parts, joined, sums, tails, after)
    choose(count, up, parts, joined, sums, tails, after, least, keys)
    entries, total, room = found[LISTED], found[PHOTONS], _u64(len(listed) - 1)
    for row in range(_at(kev.shape[0])):
        for col in range(_at(kev.shape[1])):
            photons[row, col] = 0
        for at in range(_at(starts[row]), _at(starts[row + _ONE])):
            number = _u64(parts[at] >> _u32(16)) + _u64(key(parts, at) >= least[joined[at]])
            place = _at(cols[at])
            photons[row, place] = number
            listed[min(entries, room)] = entry(segment, row, place, number)
            entries += _u64(number > _ZERO)
            total += number
    found[LISTED], found[PHOTONS] = entries, total
