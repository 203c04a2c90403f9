"""Kernels: how many photons each pixel of many frames holds, and the pixels that hold any, listed in their order. They check nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from calib.detectors.photons import MOST
from drp.fex._photon_kernels import entry
from drp.fex.cuda._lists import RUN
from drp.fex.cuda.device import product, smaller, total


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
    """Count the pixels that hold photons, and the photons, of each run, into (frames, runs)."""
    runs = starts.shape[1]
    for work in range(cuda.grid(1), runs * frames, cuda.gridsize(1)):
        frame, run = work // runs, work % runs
        pixels, held = np.int64(0), np.int64(0)
        for pixel in range(run * RUN, smaller(run * RUN + RUN, photons.shape[1])):
            number = photons[frame, pixel]
            pixels += np.int64(number > 0)
            held += np.int64(number)
        starts[frame, run] = pixels
        sums[frame, run] = held


@cuda.jit
def list_pixels(photons: Any, starts: Any, cols: Any, size: Any, frames: Any, listed: Any) -> None:
    """List the pixels that hold photons, uint64 (frames, room); what there is no room for is left out. Segments are of `size` pixels."""
    runs = starts.shape[1]
    for work in range(cuda.grid(1), runs * frames, cuda.gridsize(1)):
        frame, run = work // runs, work % runs
        place = starts[frame, run]
        for pixel in range(run * RUN, smaller(run * RUN + RUN, photons.shape[1])):
            number = photons[frame, pixel]
            if number > 0 and place < listed.shape[1]:
                at = pixel % size
                row, col = np.uint64(at // cols), np.uint64(at % cols)
                listed[frame, place] = entry(np.uint64(pixel // size), row, col, number)
            place += np.int64(number > 0)
