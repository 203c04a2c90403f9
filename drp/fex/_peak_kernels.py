"""Kernels: peaks among the pixels above their radius's threshold, by connected search and a local background. They know one segment and check
nothing.

`hot` holds one byte for each pixel of the segment: 0, or 1 above the threshold, or 2 as well and part of a peak that was looked at. It is 0
everywhere between two events. Peaks do not cross ASICs, and begin inside of an ASIC's outermost pixels, though they may have some.

Where the reference computes in float32 and in a certain order, so does this, since a peak's centre is rounded and its signal compared.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from calib.detectors._lanes import WIDTH, any_less, load, splat, within

NO_SIGMA = np.float32(0.01)
"""The reference's deviation where no pixel of the local background is left."""
NO_SIGNAL = np.float32(1e-10)
LARGEST = np.float32(1e30)
"""What is further from 0 is no pixel: its sums would not be numbers, nor a place in the frame."""
_at = np.uintp
_f = np.float32


@numba.njit(cache=True, nogil=True)
def mark(
    found: Any,
    values: Any,
    of_bin: Any,
    begin: Any,
    end: Any,
    first: Any,
    upper: Any,
    hot: Any,
    candidates: Any,
) -> Any:
    """Mark listed pixels above their thresholds; put them into `candidates`, in their order, counted from the segment's `first`; return how many."""
    n = _at(0)
    for i in range(_at(begin), _at(end)):
        if values[i] > upper[of_bin[i]] and values[i] <= LARGEST:
            at = found[i] - np.uint32(first)
            hot[at] = 1
            candidates[n] = at
            n += _at(1)
    return n


@numba.njit(cache=True, nogil=True)
def lowest(upper: Any, floors: Any) -> None:
    """Compute the lowest threshold of each bin and the WIDTH next, then what pixels that are not used have, then the lowest of all."""
    size = len(upper) - 1
    floors[size] = np.inf
    floors[size + 1] = np.inf
    for b in range(size):
        floor = upper[b]
        for near in range(b + 1, min(b + WIDTH + 1, size)):
            floor = min(floor, upper[near])
        floors[b] = floor
        floors[size + 1] = min(floors[size + 1], floor)


@numba.njit(cache=True, nogil=True)
def above(frame: Any, bins: Any, kinds: Any, floors: Any, upper: Any, hot: Any, candidates: Any) -> Any:
    """Mark the pixels of a segment that are above their thresholds; put them into `candidates`, return how many.

    WIDTH pixels are compared at once with the lowest threshold that they may have, which is that of their `kinds` in `floors`.
    """
    n = _at(0)
    unused = _at(len(upper) - 1)
    address = _at(frame.ctypes.data)
    whole = _at(len(frame)) - _at(len(frame)) % _at(WIDTH)
    for first in range(_at(0), _at(len(frame)), _at(WIDTH)):
        if first < whole and not any_less(
            splat(floors[kinds[first // _at(WIDTH)]]), load(address + _at(4) * first)
        ):
            continue
        for at in range(first, min(first + _at(WIDTH), _at(len(frame)))):
            b = _at(bins[at])
            if frame[at] > upper[b] and frame[at] <= LARGEST and b != unused:
                hot[at] = 1
                candidates[n] = at
                n += _at(1)
    return n


@within
def add_neighbours(p: Any, size: Any, hot: Any, corner: Any, asic: Any, cols: Any, members: Any) -> Any:
    """Add the hot neighbours of a peak's pixel p, itself first; return the new size."""
    for k in range(9):
        # The reference reads p's place each time, and an addition may have written there.
        step = 4 if k == 0 else (k - 1 if k <= 4 else k)
        row = members[p, 0] + step // 3 - 1
        col = members[p, 1] + step % 3 - 1
        if 0 <= row < asic[0] and 0 <= col < asic[1]:
            at = _at((corner[0] + row) * cols + corner[1] + col)
            if hot[at] == 1:
                hot[at] = 2
                members[size, 0] = row
                members[size, 1] = col
                size += 1
    return size


@within
def grow(row: Any, col: Any, hot: Any, corner: Any, asic: Any, cols: Any, stray: Any, members: Any) -> Any:
    """Collect the hot pixels connected with one, rows and columns in their ASIC into `members`; return how many.

    With `stray` 1 the place behind the last member is looked at too, as the reference does. What lies there is left from an earlier peak, of another
    ASIC perhaps, and hot pixels near that place then join.
    """
    members[0, 0] = row
    members[0, 1] = col
    size, before = 0, -1
    while size != before:
        before = size
        p = 0
        while p < size + stray or p < 1:
            size = add_neighbours(p, size, hot, corner, asic, cols, members)
            p += 1
    return size


@within
def sums_of(
    frame: Any, bins: Any, mean: Any, corner: Any, top: Any, cols: Any, members: Any, size: Any
) -> Any:
    """Return a peak's sums of its pixels and of these by column and row, those above the radial mean and those as they are."""
    above = above_x = above_y = _f(0)
    plain = plain_x = plain_y = _f(0)
    for p in range(size):
        row, col = corner[0] + members[p, 0], corner[1] + members[p, 1]
        at = _at(row * cols + col)
        value = frame[at]
        more = _f(value - mean[bins[at]])
        x, y = _f(col), _f(top + row)
        above += more
        above_x += more * x
        above_y += more * y
        plain += value
        plain_x += value * x
        plain_y += value * y
    return above, above_x, above_y, plain, plain_x, plain_y


@within
def surroundings(
    frame: Any,
    bins: Any,
    upper: Any,
    hot: Any,
    corner: Any,
    asic: Any,
    cols: Any,
    centre: Any,
    reach: Any,
) -> Any:
    """Return how many pixels there are around a centre that are not hot, their sum, sum of squares, and the largest."""
    total = squares = largest = _f(0)
    n = 0
    for dy in range(-reach, reach):
        for dx in range(-reach, reach):
            row, col = centre[0] + dy, centre[1] + dx
            if dy * dy + dx * dx <= reach * reach and 0 <= row < asic[0] and 0 <= col < asic[1]:
                at = _at((corner[0] + row) * cols + corner[1] + col)
                value = frame[at]
                if hot[at] == 0 and value < upper[bins[at]] and value >= -LARGEST:
                    total += value
                    squares += value * value
                    largest = max(largest, value)
                    n += 1
    return n, total, squares, largest


@within
def local_background(n: Any, total: Any, squares: Any, otherwise: Any) -> Any:
    """Return mean and deviation of a peak's surroundings."""
    if n == 0:
        return otherwise, NO_SIGMA
    mean = total / _f(n)
    variance = squares / _f(n) - mean * mean
    return mean, np.sqrt(max(variance, _f(0)))


@within
def signal(frame: Any, corner: Any, cols: Any, members: Any, size: Any, offset: Any) -> Any:
    """Return a peak's sum and its largest pixel above the local background."""
    total = largest = _f(0)
    for p in range(size):
        value = frame[_at((corner[0] + members[p, 0]) * cols + corner[1] + members[p, 1])] - offset
        total += value
        largest = max(largest, value)
    return total, largest


@numba.njit(cache=True, nogil=True)
def search(
    frame: Any, segment: Any, shape: Any, asic: Any, bins: Any, every_bin: Any, state: Any, hot: Any, candidates: Any, n: Any,
    limits: Any, snr: Any, stray: Any, members: Any, most: Any, numbers: Any, places: Any, found: Any,
) -> Any:  # fmt: skip
    """Search a segment from its `n` candidates on, and unmark those; return how many peaks there are so far, and how many `members` were ever used.

    `every_bin` has the bins of pixels that are not used too. `limits`: fewest and most pixels, reach of the local background. `numbers` (6, peaks)
    become column, row (in the frame's segments one below the other), sum, largest, deviation, SNR; `places` (4, peaks) segment, row, column,
    pixels; from `found` on, as far as there is room.
    """
    cols = shape[1]
    mean, upper = state[0], state[3]
    top = segment * shape[0]
    for c in range(n):
        row, col = np.int64(candidates[c]) // cols, np.int64(candidates[c]) % cols
        corner = row - row % asic[0], col - col % asic[1]
        row, col = row - corner[0], col - corner[1]
        if hot[candidates[c]] != 1 or row == 0 or col == 0 or row == asic[0] - 1 or col == asic[1] - 1:
            continue
        size = grow(row, col, hot, corner, asic, cols, stray, members)
        most = max(most, size)
        if size < limits[0] or size > limits[1]:
            continue
        above, above_x, above_y, plain, plain_x, plain_y = sums_of(
            frame, bins, mean, corner, top, cols, members, size
        )
        if abs(above) < NO_SIGNAL or abs(plain) < NO_SIGNAL:
            continue
        y = min(max(np.int64(np.rint(above_y / above)) - top, 0), shape[0] - 1)
        x = min(max(np.int64(np.rint(above_x / above)), 0), cols - 1)
        centre = y - corner[0], x - corner[1]
        around, total, squares, largest = surroundings(
            frame, bins, upper, hot, corner, asic, cols, centre, limits[2]
        )
        offset, sigma = local_background(around, total, squares, mean[every_bin[_at(y * cols + x)]])
        intensity, peak = signal(frame, corner, cols, members, size, offset)
        if not (sigma > 0 and intensity / sigma >= snr and peak >= largest - offset):
            continue
        if found < numbers.shape[1]:
            numbers[0, found] = plain_x / plain
            numbers[1, found] = plain_y / plain
            numbers[2, found] = intensity
            numbers[3, found] = peak
            numbers[4, found] = sigma
            numbers[5, found] = intensity / sigma
            places[0, found] = segment
            places[1, found] = min(max(np.int64(np.rint(plain_y / plain)) - top, 0), shape[0] - 1)
            places[2, found] = min(max(np.int64(np.rint(plain_x / plain)), 0), cols - 1)
            places[3, found] = size
        found += 1
    for c in range(n):
        hot[candidates[c]] = 0
    return found, most
