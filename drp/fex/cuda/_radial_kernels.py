"""Kernels: the radial background of many frames by iterated sigma clipping, to the last bit that of the CPU. They check nothing.

A thread takes a bin of a frame, and its pixels in the order in which the CPU comes to them, so that each sum is made of the same numbers in the same
order. The CPU first sums what lies inside of a guess and then, in each turn, what lies outside; as bins know nothing of each other, one whose guess
fails is done again by itself. `state` is (frames, 4, bins + 1): mean, deviation, lower and upper threshold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from drp.fex._radial_kernels import FARTHEST, NEARBY
from drp.fex.cuda.device import larger, product, smaller, total, wide_product, wide_total

NEVER = np.float32(np.inf)


@cuda.jit(device=True)
def next_thresholds(one: Any, squares: Any, count: Any, snr: Any, least: Any) -> Any:
    """Return mean, deviation and thresholds of a bin from the sums of its pixels."""
    mean = one / count
    variance = wide_total(squares / count, -wide_product(mean, mean))
    deviation = math.sqrt(variance) if variance > 0 else np.float64(0)
    reach = wide_product(snr, deviation)
    upper = wide_total(mean, reach)
    upper = upper if upper > least else least
    return np.float32(mean), np.float32(deviation), np.float32(wide_total(mean, -reach)), np.float32(upper)


@cuda.jit
def clip_sample(
    kev: Any,
    sample: Any,
    pooled: Any,
    snr: Any,
    least: Any,
    turns: Any,
    frames: Any,
    work: Any,
    state: Any,
) -> None:
    """Iterate over a sample of each frame, int32 (rows, bins) indices, -1 for none, each bin with those of `pooled` bins on either side.

    A block takes a frame. `work` is float64 (frames, 3, bins).
    """
    me, threads, bins = cuda.threadIdx.x, cuda.blockDim.x, sample.shape[1]
    for frame in range(cuda.blockIdx.x, frames, cuda.gridDim.x):
        for b in range(me, bins, threads):
            state[frame, 0, b] = 0
            state[frame, 1, b] = 0
            state[frame, 2, b] = -FARTHEST
            state[frame, 3, b] = FARTHEST
        for _ in range(turns):
            for b in range(me, bins, threads):
                one, squares, count = np.float64(0), np.float64(0), np.float64(0)
                for row in range(sample.shape[0]):
                    at = sample[row, b]
                    if at >= 0:
                        value = kev[frame, at]
                        if value > state[frame, 2, b] and value < state[frame, 3, b]:
                            wide = np.float64(value)
                            one = wide_total(one, wide)
                            squares = wide_total(squares, wide_product(wide, wide))
                            count += 1.0
                work[frame, 0, b] = one
                work[frame, 1, b] = squares
                work[frame, 2, b] = count
            cuda.syncthreads()
            for b in range(me, bins, threads):
                one, squares, count = np.float64(0), np.float64(0), np.float64(0)
                for near in range(larger(b - pooled, 0), smaller(b + pooled + 1, bins)):
                    one = wide_total(one, work[frame, 0, near])
                    squares = wide_total(squares, work[frame, 1, near])
                    count += work[frame, 2, near]
                if count > 0:
                    mean, deviation, lower, upper = next_thresholds(one, squares, count, snr, least)
                    state[frame, 0, b] = mean
                    state[frame, 1, b] = deviation
                    state[frame, 2, b] = lower
                    state[frame, 3, b] = upper
            cuda.syncthreads()


@cuda.jit
def guess(state: Any, counts: Any, fewest: Any, reach: Any, least: Any, frames: Any, inner: Any) -> None:
    """Guess between which values pixels surely count, float32 (frames, bins, 2), from a sample of `counts` pixels in each bin."""
    bins = len(counts)
    for work in range(cuda.grid(1), bins * frames, cuda.gridsize(1)):
        frame, b = work // bins, work % bins
        quiet = b
        for near in range(larger(b - NEARBY, 0), smaller(b + NEARBY + 1, bins)):
            if counts[near] >= fewest and state[frame, 1, near] < state[frame, 1, quiet]:
                quiet = near
        away = product(reach, state[frame, 1, quiet])
        low, high = total(state[frame, 0, quiet], -away), total(state[frame, 0, quiet], away)
        high = high if high > least else least
        known = counts[b] >= fewest
        inner[frame, b, 0] = (low if low > -FARTHEST else -FARTHEST) if known else NEVER
        inner[frame, b, 1] = (high if high < FARTHEST else FARTHEST) if known else -NEVER


@cuda.jit(device=True)
def clip_bin(
    kev: Any,
    order: Any,
    begin: Any,
    end: Any,
    low: Any,
    high: Any,
    snr: Any,
    least: Any,
    turns: Any,
) -> Any:
    """Iterate over the pixels `order[begin:end]` of a bin; return whether the guess failed, and mean, deviation and thresholds."""
    sure, sure_squares, sure_count = np.float64(0), np.float64(0), np.float64(0)
    for i in range(begin, end):
        value = kev[order[i]]
        if value > low and value < high:
            wide = np.float64(value)
            sure = wide_total(sure, wide)
            sure_squares = wide_total(sure_squares, wide_product(wide, wide))
            sure_count += 1.0
    mean, deviation, lower, upper = np.float32(0), np.float32(0), -FARTHEST, FARTHEST
    failed = False
    for _ in range(turns):
        one, squares, count = sure, sure_squares, sure_count
        for i in range(begin, end):
            value = kev[order[i]]
            if value > lower and value < upper and not (value > low and value < high):
                wide = np.float64(value)
                one = wide_total(one, wide)
                squares = wide_total(squares, wide_product(wide, wide))
                count += 1.0
        if count > 0:
            mean, deviation, lower, upper = next_thresholds(one, squares, count, snr, least)
            failed = failed or (low < high and (lower > low or upper < high))
    return failed, mean, deviation, lower, upper


@cuda.jit
def clip_all(
    kev: Any,
    order: Any,
    first: Any,
    inner: Any,
    snr: Any,
    least: Any,
    turns: Any,
    frames: Any,
    state: Any,
) -> None:
    """Iterate over all pixels of each bin: those of bin b are `order[first[b]:first[b + 1]]`."""
    bins = len(first) - 1
    for work in range(cuda.grid(1), bins * frames, cuda.gridsize(1)):
        frame, b = work // bins, work % bins
        low, high = inner[frame, b, 0], inner[frame, b, 1]
        pixels = kev[frame]
        failed, mean, deviation, lower, upper = clip_bin(
            pixels, order, first[b], first[b + 1], low, high, snr, least, turns
        )
        if failed:
            failed, mean, deviation, lower, upper = clip_bin(
                pixels, order, first[b], first[b + 1], NEVER, -NEVER, snr, least, turns
            )
        state[frame, 0, b] = mean
        state[frame, 1, b] = deviation
        state[frame, 2, b] = lower
        state[frame, 3, b] = upper
