"""Kernels: peaks among the pixels of many frames above their radius's threshold, to the last bit those of the CPU. They check nothing.

Pixels of a peak are marked as used in the order in which they are found, so a thread searches a segment by itself, or a whole frame where what one
segment leaves behind counts in the next (`stray`, see `drp.fex._peak_kernels`). Sums are float32 and in the order of the CPU.

`hot` and `candidates` have a line for each segment of each frame. `every_bin` and `bins` are (segments, pixels).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from drp.fex import _peak_kernels as of
from drp.fex.cuda._lists import RUN
from drp.fex.cuda.device import larger, nearest, of_cpu, product, smaller, total

LARGEST, NO_SIGMA, NO_SIGNAL = of.LARGEST, of.NO_SIGMA, of.NO_SIGNAL
NUMBERS, PLACES = 6, 4
"""Columns of what is told of a peak, float32 and int32."""
grow = of_cpu(of.grow)
_f = np.float32


@cuda.jit
def mark(kev: Any, bins: Any, state: Any, frames: Any, hot: Any) -> None:
    """Mark the pixels above their thresholds with 1, the others with 0; all are (frames, pixels), `bins` (pixels)."""
    unused = state.shape[2] - 1
    for pixel in range(cuda.grid(1), kev.shape[1], cuda.gridsize(1)):
        b = np.int64(bins[pixel])
        for frame in range(frames):
            value = kev[frame, pixel]
            above = b != unused and value > state[frame, 3, b] and value <= LARGEST
            hot[frame, pixel] = 1 if above else 0


@cuda.jit(device=True)
def place_of(number: Any, cols: Any, asic: Any) -> Any:
    """Return the pixel of a segment that comes after so many others, ASIC by ASIC."""
    size, across = asic[0] * asic[1], cols // asic[1]
    whole, inside = number // size, number % size
    row = whole // across * asic[0] + inside // asic[1]
    return row * cols + whole % across * asic[1] + inside % asic[1]


@cuda.jit
def tally(hot: Any, segments: Any, cols: Any, asic: Any, starts: Any) -> None:
    """Count the marked pixels of each run, int64 (segments of all frames, runs)."""
    runs, pixels = starts.shape[1], hot.shape[1]
    for work in range(cuda.grid(1), runs * segments, cuda.gridsize(1)):
        segment, run = work // runs, work % runs
        count = np.int64(0)
        for number in range(run * RUN, smaller(run * RUN + RUN, pixels)):
            count += np.int64(hot[segment, place_of(number, cols, asic)])
        starts[segment, run] = count


@cuda.jit
def list_marked(hot: Any, segments: Any, cols: Any, asic: Any, starts: Any, candidates: Any) -> None:
    """List the marked pixels of each segment, in the order of `place_of`."""
    runs, pixels = starts.shape[1], hot.shape[1]
    for work in range(cuda.grid(1), runs * segments, cuda.gridsize(1)):
        segment, run = work // runs, work % runs
        place = starts[segment, run]
        for number in range(run * RUN, smaller(run * RUN + RUN, pixels)):
            at = place_of(number, cols, asic)
            if hot[segment, at]:
                candidates[segment, place] = at
                place += 1


@cuda.jit(device=True)
def sums_of(
    pixels: Any, bins: Any, mean: Any, corner: Any, top: Any, cols: Any, members: Any, size: Any
) -> Any:
    """Return a peak's sums as `sums_of` of the CPU does."""
    above, above_x, above_y = _f(0), _f(0), _f(0)
    plain, plain_x, plain_y = _f(0), _f(0), _f(0)
    for p in range(size):
        row, col = corner[0] + members[p, 0], corner[1] + members[p, 1]
        at = row * cols + col
        value = pixels[at]
        more = total(value, -mean[bins[at]])
        x, y = _f(col), _f(top + row)
        above = total(above, more)
        above_x = total(above_x, product(more, x))
        above_y = total(above_y, product(more, y))
        plain = total(plain, value)
        plain_x = total(plain_x, product(value, x))
        plain_y = total(plain_y, product(value, y))
    return above, above_x, above_y, plain, plain_x, plain_y


@cuda.jit(device=True)
def surroundings(
    pixels: Any, bins: Any, upper: Any, hot: Any, corner: Any, asic: Any, cols: Any, centre: Any, reach: Any
) -> Any:
    """Return how many pixels there are around a centre that are not hot, their sum, sum of squares, and the largest."""
    one, squares, largest = _f(0), _f(0), _f(0)
    count = 0
    for dy in range(-reach, reach):
        for dx in range(-reach, reach):
            row, col = centre[0] + dy, centre[1] + dx
            if dy * dy + dx * dx <= reach * reach and 0 <= row < asic[0] and 0 <= col < asic[1]:
                at = (corner[0] + row) * cols + corner[1] + col
                value = pixels[at]
                if hot[at] == 0 and value < upper[bins[at]] and value >= -LARGEST:
                    one = total(one, value)
                    squares = total(squares, product(value, value))
                    largest = value if value > largest else largest
                    count += 1
    return count, one, squares, largest


@cuda.jit(device=True)
def local_background(count: Any, one: Any, squares: Any, otherwise: Any) -> Any:
    """Return mean and deviation of a peak's surroundings."""
    if count == 0:
        return otherwise, NO_SIGMA
    mean = one / _f(count)
    variance = total(squares / _f(count), -product(mean, mean))
    return mean, _f(math.sqrt(variance)) if variance > _f(0) else _f(0)


@cuda.jit(device=True)
def signal(pixels: Any, corner: Any, cols: Any, members: Any, size: Any, offset: Any) -> Any:
    """Return a peak's sum and its largest pixel above the local background."""
    one, largest = _f(0), _f(0)
    for p in range(size):
        value = total(pixels[(corner[0] + members[p, 0]) * cols + corner[1] + members[p, 1]], -offset)
        one = total(one, value)
        largest = value if value > largest else largest
    return one, largest


@cuda.jit(device=True)
def search_segment(
    pixels: Any, segment: Any, shape: Any, asic: Any, bins: Any, every_bin: Any, mean: Any, upper: Any, hot: Any, candidates: Any, n: Any,
    limits: Any, snr: Any, stray: Any, members: Any, most: Any, numbers: Any, places: Any, found: Any,
) -> Any:  # fmt: skip
    """Search a segment from its `n` candidates on, as `search` of the CPU does; return how many peaks there are now, and members ever used."""
    cols = shape[1]
    top = segment * shape[0]
    for c in range(n):
        first = np.int64(candidates[c])
        row, col = first // cols, first % cols
        corner = row - row % asic[0], col - col % asic[1]
        row, col = row - corner[0], col - corner[1]
        if hot[first] != 1 or row == 0 or col == 0 or row == asic[0] - 1 or col == asic[1] - 1:
            continue
        size = grow(row, col, hot, corner, asic, cols, stray, members)
        most = larger(most, size)
        if size < limits[0] or size > limits[1]:
            continue
        above, above_x, above_y, plain, plain_x, plain_y = sums_of(
            pixels, bins, mean, corner, top, cols, members, size
        )
        if abs(above) < NO_SIGNAL or abs(plain) < NO_SIGNAL:
            continue
        y = smaller(larger(np.int64(nearest(above_y / above)) - top, 0), shape[0] - 1)
        x = smaller(larger(np.int64(nearest(above_x / above)), 0), cols - 1)
        centre = y - corner[0], x - corner[1]
        around, one, squares, largest = surroundings(
            pixels, bins, upper, hot, corner, asic, cols, centre, limits[2]
        )
        offset, sigma = local_background(around, one, squares, mean[every_bin[y * cols + x]])
        intensity, peak = signal(pixels, corner, cols, members, size, offset)
        if not (sigma > 0 and intensity / sigma >= snr and peak >= total(largest, -offset)):
            continue
        if found < len(numbers):
            mean_x, mean_y = plain_x / plain, plain_y / plain
            numbers[found, 0] = mean_x
            numbers[found, 1] = mean_y
            numbers[found, 2] = intensity
            numbers[found, 3] = peak
            numbers[found, 4] = sigma
            numbers[found, 5] = intensity / sigma
            places[found, 0] = segment
            places[found, 1] = smaller(larger(np.int64(nearest(mean_y)) - top, 0), shape[0] - 1)
            places[found, 2] = smaller(larger(np.int64(nearest(mean_x)), 0), cols - 1)
            places[found, 3] = size
        found += 1
    return found, most


@cuda.jit
def search(
    kev: Any, frames: Any, segments: Any, together: Any, shape: Any, asic: Any, bins: Any, every_bin: Any, state: Any, hot: Any, candidates: Any,
    listed: Any, limits: Any, snr: Any, stray: Any, members: Any, used: Any, numbers: Any, places: Any, found: Any,
) -> None:  # fmt: skip
    """Search frames of so many segments; a thread takes as many `together` as share what they leave behind.

    For each of these parts there is a line in `members`, int32 (parts, pixels of an ASIC + 1, 2), of which the first `used` hold what the last batch
    left, in `numbers` (parts, peaks, 6), `places` (parts, peaks, 4) and `found`.
    """
    size, parts = shape[0] * shape[1], segments // together
    for part in range(cuda.grid(1), parts * frames, cuda.gridsize(1)):
        frame, first = part // parts, part % parts * together
        for p in range(used[part] + 1):
            members[part, p, 0] = 0
            members[part, p, 1] = 0
        peaks, most = np.int64(0), np.int64(0)
        for segment in range(first, first + together):
            line = frame * segments + segment
            peaks, most = search_segment(
                kev[frame, segment * size : segment * size + size], segment, shape, asic, bins[segment], every_bin[segment], state[frame, 0],
                state[frame, 3], hot[line], candidates[line], listed[line], limits, snr, stray, members[part], most, numbers[part], places[part],
                peaks,
            )  # fmt: skip
        used[part] = most
        found[part] = peaks


@cuda.jit
def join(
    numbers: Any,
    places: Any,
    found: Any,
    parts: Any,
    frames: Any,
    all_numbers: Any,
    all_places: Any,
    totals: Any,
) -> None:
    """Put the peaks of a frame's parts one after the other, as far as there is room."""
    room = all_numbers.shape[1]
    for part in range(cuda.grid(1), parts * frames, cuda.gridsize(1)):
        frame = part // parts
        place = np.int64(0)
        for other in range(frame * parts, part):
            place += found[other]
        if part % parts == parts - 1:
            totals[frame] = place + found[part]
        for peak in range(smaller(found[part], room - place)):
            for column in range(NUMBERS):
                all_numbers[frame, place + peak, column] = numbers[part, peak, column]
            for column in range(PLACES):
                all_places[frame, place + peak, column] = places[part, peak, column]
