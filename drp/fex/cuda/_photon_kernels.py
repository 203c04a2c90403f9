"""Kernels: how many photons each pixel of many frames holds, and the pixels that hold any, listed in their order. They check nothing.

A list in order, made by threads that know nothing of each other: a thread counts a run of pixels, which lie in one or two lines of the cache;
a run's first place in the list is the sum of those before it; then a thread lists its run from there on. Sums are of whole numbers, so no order
matters.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import cuda

from calib.detectors.photons import MOST
from drp.fex._photon_kernels import LISTED, PHOTONS, entry
from drp.fex.cuda.device import product, smaller, total

RUN = 64
"""Pixels that one thread counts and lists."""


@cuda.jit(device=True)
def whole(kev: Any, per_kev: Any, up: Any) -> Any:
    """Return how many photons a pixel holds by itself, as the CPU counts them."""
    photons = total(product(kev, per_kev), up)
    photons = photons if photons > np.float32(0) else np.float32(0)
    photons = photons if photons < np.float32(MOST) else np.float32(MOST)
    return np.uint16(np.int32(photons))


@cuda.jit
def count_single(kev: Any, used: Any, per_kev: Any, up: Any, frames: Any, photons: Any) -> None:
    """Count the photons of each pixel by itself; `kev` and `photons` are (frames, pixels), `used` is (pixels)."""
    for pixel in range(cuda.grid(1), kev.shape[1], cuda.gridsize(1)):
        for frame in range(frames):
            photons[frame, pixel] = whole(kev[frame, pixel], per_kev, up) if used[pixel] else np.uint16(0)


@cuda.jit
def tally(photons: Any, frames: Any, starts: Any, sums: Any) -> None:
    """Count the pixels that hold photons, and the photons, of each run, into (frames, runs); `starts` has one more."""
    for work in range(cuda.grid(1), sums.shape[1] * frames, cuda.gridsize(1)):
        frame, run = work // sums.shape[1], work % sums.shape[1]
        pixels, held = np.int32(0), np.int64(0)
        for pixel in range(run * RUN, smaller(run * RUN + RUN, photons.shape[1])):
            number = photons[frame, pixel]
            pixels += np.int32(number > 0)
            held += np.int64(number)
        starts[frame, run] = pixels
        sums[frame, run] = held


@cuda.jit
def sum_up(frames: Any, starts: Any, sums: Any, found: Any) -> None:
    """Turn numbers of pixels into where each run's begin in the list, and sum up both, into `found` int64 (frames, 2).

    Shared memory: two int64 for each thread.
    """
    parts = cuda.shared.array(0, numba.int64)
    me, threads, runs = cuda.threadIdx.x, cuda.blockDim.x, sums.shape[1]
    each = (runs + threads - 1) // threads
    first = smaller(me * each, runs)
    last = smaller(first + each, runs)
    for frame in range(cuda.blockIdx.x, frames, cuda.gridDim.x):
        pixels, photons = np.int64(0), np.int64(0)
        for run in range(first, last):
            pixels += starts[frame, run]
            photons += sums[frame, run]
        parts[me], parts[threads + me] = pixels, photons
        cuda.syncthreads()
        before, photons = np.int64(0), np.int64(0)
        for other in range(me):
            before += parts[other]
            photons += parts[threads + other]
        if me == threads - 1:
            found[frame, LISTED] = starts[frame, runs] = before + pixels
            found[frame, PHOTONS] = photons + parts[threads + me]
        for run in range(first, last):
            pixels = starts[frame, run]
            starts[frame, run] = before
            before += pixels
        cuda.syncthreads()


@cuda.jit
def list_pixels(photons: Any, starts: Any, cols: Any, size: Any, frames: Any, listed: Any) -> None:
    """List the pixels that hold photons, uint64 (frames, room); what there is no room for is left out. Segments are of `size` pixels."""
    runs = starts.shape[1] - 1
    for work in range(cuda.grid(1), runs * frames, cuda.gridsize(1)):
        frame, run = work // runs, work % runs
        place = starts[frame, run]
        last = smaller(starts[frame, run + 1], listed.shape[1])
        pixel = run * RUN
        while place < last:
            number = photons[frame, pixel]
            if number > 0:
                at = pixel % size
                row, col = np.uint64(at // cols), np.uint64(at % cols)
                listed[frame, place] = entry(np.uint64(pixel // size), row, col, number)
                place += 1
            pixel += 1
