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
MOST_PIXELS = (1 << 24) - 1
"""Pixels of a segment: what `sums` can count beside the sum of so many fractions."""
NUMBERS, SUMS = 4, 2
"""Scratch arrays of uint32 and of uint64, each as long as a segment has pixels."""
FEW = 4
"""How many pixels more or less than those of a half are found one by one."""
_KEY_BITS = 48
_at = np.uintp
_u32, _u64 = np.uint32, np.uint64
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_FRACTION = np.uint32(PARTS - 1)
_SUM, _HALVES = np.uint64((1 << 40) - 1), np.uint64(40)
_HALF, _NOBODY = np.uint64(1 << 47), np.uint64(1 << 48)


@within
def parts_of(kev: Any, per_kev: Any) -> Any:
    """Return the energy of a pixel that is above 0 in parts of a photon, uint32; at most MOST photons."""
    return _u32(np.int64(min(kev * per_kev, np.float32(MOST)) * np.float32(PARTS)))


@within
def root_of(joined: Any, at: Any) -> Any:
    """Return the first pixel of a droplet, as far as it is known; it is usually that of the first of the pixel's row."""
    at = _at(joined[joined[at]])
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
        last, first = _ZERO, count
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
            rest = both & ~(both << _ONE)  # the others of a stretch are joined by its first
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
def add_up(count: Any, parts: Any, joined: Any, after: Any, roots: Any, sums: Any) -> Any:
    """Lead each pixel to the first of its droplet, whose `sums` get the sum of fractions, and how many of them are halves or more.

    The pixels of a droplet become a ring: `after` has the next. `roots` are the first pixels; return how many these are.
    """
    droplets = _ZERO
    for at in range(count):
        sums[at] = 0
        after[at] = at
    for at in range(count):
        root = _at(joined[joined[at]])
        joined[at] = root
        fraction = _u64(parts[at] & _FRACTION)
        sums[root] += fraction | (fraction >> _u64(15)) << _HALVES
        after[at], after[root] = after[root], at
        roots[droplets] = at
        droplets += _u64(root == at)
    return droplets


@within
def bisected(root: Any, extra: Any, parts: Any, after: Any, keys: Any) -> Any:
    """Return the key that just `extra` of a droplet's pixels reach, bit by bit; each time only the keys that agree so far are kept."""
    size: Any = _ZERO
    at = root
    while size == _ZERO or at != root:
        keys[size] = key(parts, at)
        size += _ONE
        at = _at(after[at])
    least: Any = _ZERO
    bit = _u64(_KEY_BITS)
    while extra < size:
        bit -= _ONE
        trial = least | _ONE << bit
        reach = _ZERO
        for one in range(size):
            reach += _u64(keys[one] >= trial)
        reached = reach >= extra
        least = trial if reached else least
        extra -= _ZERO if reached else reach
        kept = _ZERO
        for one in range(size):
            value = keys[one]
            keys[kept] = value
            kept += _u64((value >= trial) == reached)
        size = kept
    return least


@numba.njit(nogil=True)
def least_key(root: Any, halves: Any, extra: Any, parts: Any, after: Any, keys: Any) -> Any:
    """Return the key that just `extra` of a droplet's pixels reach, of whom so many reach a half."""
    least: Any = _HALF
    if max(halves, extra) - min(halves, extra) > _u64(FEW):
        return bisected(root, extra, parts, after, keys)
    for _ in range(halves, extra):
        below, at = _ZERO, root
        while True:
            one = key(parts, at)
            below = max(below, one if one < least else _ZERO)
            at = _at(after[at])
            if at == root:
                break
        least = below
    for _ in range(extra, halves):
        lowest, at = _NOBODY, root
        while True:
            one = key(parts, at)
            lowest = min(lowest, one if one >= least else _NOBODY)
            at = _at(after[at])
            if at == root:
                break
        least = lowest + _ONE
    return least


@within
def choose(droplets: Any, up: Any, parts: Any, after: Any, roots: Any, sums: Any, keys: Any) -> None:
    """Replace a droplet's sum by the key from which on its pixels get a photon more: that of a half, if just so many are, which is usual."""
    for droplet in range(droplets):
        root = _at(roots[droplet])
        extra = ((sums[root] & _SUM) + up) >> _u64(16)
        halves = sums[root] >> _HALVES
        sums[root] = _HALF if extra == halves else least_key(root, halves, extra, parts, after, keys)


@within
def count_energies(
    count: Any, droplets: Any, parts: Any, joined: Any, roots: Any, totals: Any, width: Any, spectrum: Any
) -> None:
    """Count the droplets by their energies in `spectrum`, whose bins are `width` parts wide; those beyond it are left out."""
    for droplet in range(droplets):
        totals[roots[droplet]] = 0
    for at in range(count):
        totals[joined[at]] += _u64(parts[at])
    for droplet in range(droplets):
        place = np.float64(totals[roots[droplet]]) / width
        if place < len(spectrum):
            spectrum[_at(place)] += _u32(1)


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
    width: Any,
    spectrum: Any,
    segment: Any,
    photons: Any,
    listed: Any,
    found: Any,
) -> None:
    """List the pixels on which the photons of droplets are placed, and set `photons` (rows, cols), or nothing where that has no pixels.

    `low` in keV, `up` in parts. Room: `words` uint64 (words of a row), `rows` uint32 (words of a row + rows + 1), `cols` uint16 (pixels), `numbers`
    uint32 (NUMBERS, pixels), `sums` uint64 (SUMS, pixels). `spectrum` uint32 may have no bins.
    """
    starts, before = rows[used.shape[1] :], rows[: used.shape[1]]
    parts, joined, after, roots = numbers[0], numbers[1], numbers[2], numbers[3]
    sums, keys = sums[0], sums[1]
    count = connect(kev, used, per_kev, low, words, before, starts, cols, parts, joined)
    droplets = add_up(count, parts, joined, after, roots, sums)
    if len(spectrum):
        count_energies(count, droplets, parts, joined, roots, keys, width, spectrum)
    choose(droplets, up, parts, after, roots, sums, keys)
    entries, total, room = found[LISTED], found[PHOTONS], _u64(len(listed) - 1)
    for row in range(_at(kev.shape[0])):
        for col in range(_at(photons.shape[1])):
            photons[row, col] = 0
        for at in range(_at(starts[row]), _at(starts[row + _ONE])):
            number = _u64(parts[at] >> _u32(16)) + _u64(key(parts, at) >= sums[joined[at]])
            place = _at(cols[at])
            if photons.size:
                photons[row, place] = number
            listed[min(entries, room)] = entry(segment, row, place, number)
            entries += _u64(number > _ZERO)
            total += number
    found[LISTED], found[PHOTONS] = entries, total
