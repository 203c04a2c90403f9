"""Kernels: mean and deviation of the pixels at each radius by iterated sigma clipping, after one pass over all pixels.

Five times over, the pixels between a bin's two thresholds give its next ones: mean -+ min_snr deviations, the upper at least `least`. Few pixels ever
leave or come back. So a guess says, for each bin, between which values (`inner`: above the first, below the second) pixels surely count every time;
`survey` sums those and lists the others, and `clip` iterates over the list alone. It tells the bins one of whose thresholds lay inside of their
guess. A bin whose guess is empty has none: all its pixels are listed.

Pixels are flat, their bins uint16; the last bin is that of the pixels which are not used. Sums are float64. Thresholds are float32, and pixels are
compared as in the reference: above the lower, below the upper; NaN is neither. Pixels are counted by unsigned numbers, which spares the test for
negative ones.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from calib.detectors._lanes import within

FARTHEST = np.float32(1e9)
"""Pixels as far from 0 as this are not counted in the first turn."""
NEARBY = 2
"""How far from a bin a guess looks for a quieter one."""
_at = np.uintp


@numba.njit(cache=True, nogil=True)
def survey(
    frame: Any,
    first: Any,
    shape: Any,
    asic: Any,
    bins: Any,
    inner: Any,
    sums: Any,
    found: Any,
    values: Any,
    n: Any,
) -> Any:
    """Sum the pixels of a segment (which begins at `first` of the frame) and list the others, ASIC by ASIC; return how many are listed so far."""
    n = _at(n)
    unused = _at(len(inner) - 1)
    for top in range(0, shape[0], asic[0]):
        for left in range(0, shape[1], asic[1]):
            for row in range(top, top + asic[0]):
                begin = _at(first + row * shape[1] + left)
                for i in range(begin, begin + _at(asic[1])):
                    b = _at(bins[i])
                    value = frame[i]
                    if value > inner[b, 0] and value < inner[b, 1]:
                        wide = np.float64(value)
                        sums[b, 0] += wide
                        sums[b, 1] += wide * wide
                    elif b != unused:
                        found[n] = i
                        values[n] = value
                        n += _at(1)
    return n


@numba.njit(cache=True, nogil=True)
def gather(frame: Any, index: Any, out: Any) -> None:
    """Take the pixels at `index`."""
    for i in range(_at(len(out))):
        out[i] = frame[index[i]]


@within
def begin_again(size: Any, state: Any) -> None:
    """Forget what was known of all bins."""
    state[:2, :size] = 0
    state[2, :size] = -FARTHEST
    state[3, :size] = FARTHEST


@within
def next_thresholds(b: Any, total: Any, squares: Any, count: Any, snr: Any, least: Any, state: Any) -> None:
    """Compute mean, deviation and thresholds of a bin."""
    mean = total / count
    variance = squares / count - mean * mean
    deviation = np.sqrt(variance if variance > 0 else 0.0)
    state[0, b] = np.float32(mean)
    state[1, b] = np.float32(deviation)
    state[2, b] = np.float32(mean - snr * deviation)
    state[3, b] = np.float32(max(mean + snr * deviation, least))


@numba.njit(cache=True, nogil=True)
def spread(values: Any, places: Any, table: Any) -> None:
    """Put a sample into a table (rows, bins) of its bins; what no pixel is for stays NaN."""
    for i in range(_at(len(values))):
        table[places[i, 0], places[i, 1]] = values[i]


@numba.njit(cache=True, nogil=True)
def clip_table(table: Any, pooled: Any, snr: Any, least: Any, turns: Any, work: Any, state: Any) -> None:
    """Iterate over a sample's `table`, each bin with those of `pooled` bins on either side; `state` (4, bins) becomes mean, deviation, thresholds.

    A single outlier among n pixels is never further than sqrt(n) deviations from their mean, so a bin's own sample may be too small to be clipped.
    """
    size = table.shape[1]
    begin_again(size, state)
    for _ in range(turns):
        work[:] = 0
        for row in range(_at(table.shape[0])):
            for b in range(_at(size)):
                inside = (table[row, b] > state[2, b]) & (table[row, b] < state[3, b])
                wide = np.float64(table[row, b]) if inside else 0.0
                work[0, b] += wide
                work[1, b] += wide * wide
                work[2, b] += 1.0 if inside else 0.0
        for b in range(size):
            first, beyond = max(b - pooled, 0), min(b + pooled + 1, size)
            total = squares = count = 0.0
            for near in range(first, beyond):
                total += work[0, near]
                squares += work[1, near]
                count += work[2, near]
            if count > 0:
                next_thresholds(b, total, squares, count, snr, least, state)


@numba.njit(cache=True, nogil=True)
def bins_of(found: Any, n: Any, bins: Any, counts: Any, out: Any) -> None:
    """Look up the bins of listed pixels, and take these from the counts of all pixels of each bin."""
    for i in range(_at(n)):
        b = bins[found[i]]
        out[i] = b
        counts[b] -= 1


@numba.njit(cache=True, nogil=True)
def clip(
    values: Any,
    of_bin: Any,
    n: Any,
    inner: Any,
    sums: Any,
    counts: Any,
    snr: Any,
    least: Any,
    turns: Any,
    work: Any,
    state: Any,
) -> Any:
    """Iterate over the `n` listed pixels; `sums` and `counts` are those of the others. Return how many bins had a threshold inside of their guess.

    `state` (4, bins) becomes mean, deviation, lower and upper threshold. A bin that no pixel is left in keeps what it had. `work` (bins, 3). The
    guesses that failed become empty.
    """
    size = len(counts)
    begin_again(size, state)
    failed = 0
    for _ in range(turns):
        work[:, 0] = sums[:, 0]
        work[:, 1] = sums[:, 1]
        work[:, 2] = counts
        for i in range(_at(n)):
            at = _at(of_bin[i])
            value = values[i]
            if value > state[2, at] and value < state[3, at]:
                wide = np.float64(value)
                work[at, 0] += wide
                work[at, 1] += wide * wide
                work[at, 2] += 1.0
        for b in range(_at(size)):
            if work[b, 2] > 0:
                next_thresholds(b, work[b, 0], work[b, 1], work[b, 2], snr, least, state)
                guessed = inner[b, 0] < inner[b, 1]
                if guessed and (state[2, b] > inner[b, 0] or state[3, b] < inner[b, 1]):
                    inner[b, 0] = np.float32(np.inf)
                    inner[b, 1] = np.float32(-np.inf)
                    failed += 1
    return failed


@numba.njit(cache=True, nogil=True)
def guess(state: Any, counts: Any, fewest: Any, reach: Any, least: Any, inner: Any) -> None:
    """Guess from a sample's state (`counts` pixels of each bin): `reach` deviations around the mean of the quietest bin nearby; no guess where few
    were looked at.

    A bin has a larger deviation than its neighbours where the sample holds more outliers than clipping can tell from the rest.
    """
    size = len(counts)
    for b in range(size):
        quiet = b
        for near in range(max(b - NEARBY, 0), min(b + NEARBY + 1, size)):
            if counts[near] >= fewest and state[1, near] < state[1, quiet]:
                quiet = near
        away = reach * state[1, quiet]
        low, high = state[0, quiet] - away, max(state[0, quiet] + away, least)
        known = counts[b] >= fewest
        inner[b, 0] = max(low, -FARTHEST) if known else np.float32(np.inf)
        inner[b, 1] = min(high, FARTHEST) if known else np.float32(-np.inf)
