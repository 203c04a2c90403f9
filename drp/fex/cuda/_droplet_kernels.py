"""Kernels: the droplets of many frames, and their photons as the CPU places them. They check nothing.

Neighbours join their droplets in whatever order threads come to them: a droplet is in the end known by its first pixel, and its sums are of whole
numbers, so that results are those of the CPU. A droplet's pixels become a chain, whose order is chance; it is gone through only to count.

Arrays are (frames, pixels). `joined` int32 has an earlier pixel of the droplet or the pixel itself, -1 for a pixel of none; `heads` and `after`
int32 are the chains, -1 at the end; `sums` uint64 as in `drp.fex._droplet_kernels`, `totals` uint64 the energy of a droplet in parts of a photon.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from calib.detectors.photons import MOST
from drp.fex._droplet_kernels import PARTS
from drp.fex.cuda.device import product

KEY_BITS = 48
_u64 = np.uint64
_ZERO, _ONE, _WHOLE = _u64(0), _u64(1), _u64(16)
_FRACTION = _u64(PARTS - 1)
_SUM, _HALVES = _u64((1 << 40) - 1), _u64(40)
_HALF, _NOBODY = _u64(1 << 47), _u64(1 << KEY_BITS)


@cuda.jit(device=True)
def parts_of(kev: Any, per_kev: Any) -> Any:
    """Return the energy of a pixel that is above 0 in parts of a photon; at most MOST photons."""
    photons = product(kev, per_kev)
    photons = photons if photons < np.float32(MOST) else np.float32(MOST)
    return _u64(np.int64(product(photons, np.float32(PARTS))))


@cuda.jit(device=True)
def key(parts: Any, pixel: Any) -> Any:
    """Return by what the pixels that get a photon more are chosen: the largest fraction, of equal ones the first pixel. No two are equal."""
    return (parts & _FRACTION) << _u64(32) | (_u64(0xFFFFFFFF) - _u64(pixel))


@cuda.jit
def begin(
    kev: Any, used: Any, low: Any, frames: Any, joined: Any, heads: Any, sums: Any, totals: Any, spectrum: Any
) -> None:
    """Make each pixel of at least `low` keV a droplet of its own, and forget all sums. `totals` and `spectrum` may have no pixels and no bins."""
    for pixel in range(cuda.grid(1), kev.shape[1], cuda.gridsize(1)):
        for frame in range(frames):
            if used[pixel] and kev[frame, pixel] >= low:
                joined[frame, pixel] = pixel
                heads[frame, pixel] = -1
                sums[frame, pixel] = 0
                if totals.shape[1]:
                    totals[frame, pixel] = 0
            else:
                joined[frame, pixel] = -1
    for place in range(cuda.grid(1), spectrum.shape[1], cuda.gridsize(1)):
        for frame in range(frames):
            spectrum[frame, place] = 0


@cuda.jit(device=True)
def root_of(joined: Any, frame: Any, pixel: Any) -> Any:
    """Return the first pixel of a droplet, as far as it is known."""
    before = joined[frame, pixel]
    while before != pixel:
        pixel = before
        before = joined[frame, pixel]
    return pixel


@cuda.jit(device=True)
def unite(joined: Any, frame: Any, one: Any, other: Any) -> None:
    """Have the droplets of two pixels be one, whatever other threads do meanwhile: where a root no longer was one, what it had become goes on."""
    one, other = root_of(joined, frame, one), root_of(joined, frame, other)
    while one != other:
        later, earlier = (one, other) if one > other else (other, one)
        was = cuda.atomic.min(joined, (frame, later), earlier)
        if was == later:
            return
        one, other = root_of(joined, frame, earlier), root_of(joined, frame, was)


@cuda.jit
def connect(rows: Any, cols: Any, frames: Any, joined: Any) -> None:
    """Join the droplets of neighbours within segments of so many rows and columns."""
    pixels = joined.shape[1]
    for work in range(cuda.grid(1), pixels * frames, cuda.gridsize(1)):
        frame, pixel = work // pixels, np.int32(work % pixels)
        if joined[frame, pixel] >= 0:
            if pixel % cols and joined[frame, pixel - 1] >= 0:
                unite(joined, frame, pixel, np.int32(pixel - 1))
            if pixel % (rows * cols) >= cols and joined[frame, pixel - cols] >= 0:
                unite(joined, frame, pixel, np.int32(pixel - cols))


@cuda.jit
def add_up(
    kev: Any, per_kev: Any, frames: Any, joined: Any, heads: Any, after: Any, sums: Any, totals: Any
) -> None:
    """Lead each pixel to the first of its droplet, add its fraction to the sums there, and put it into the chain."""
    pixels = joined.shape[1]
    for work in range(cuda.grid(1), pixels * frames, cuda.gridsize(1)):
        frame, pixel = work // pixels, np.int32(work % pixels)
        if joined[frame, pixel] >= 0:
            root = root_of(joined, frame, pixel)
            joined[frame, pixel] = root
            parts = parts_of(kev[frame, pixel], per_kev)
            fraction = parts & _FRACTION
            cuda.atomic.add(sums, (frame, root), fraction | (fraction >> _u64(15)) << _HALVES)
            after[frame, pixel] = cuda.atomic.exch(heads, (frame, root), pixel)
            if totals.shape[1]:
                cuda.atomic.add(totals, (frame, root), parts)


@cuda.jit(device=True)
def least_key(kev: Any, per_kev: Any, frame: Any, head: Any, extra: Any, after: Any) -> Any:
    """Return the key that just `extra` pixels of a chain reach, bit by bit."""
    if extra == _ZERO:
        return _NOBODY
    least = _ZERO
    for bit in range(KEY_BITS):
        trial = least | _ONE << _u64(KEY_BITS - 1 - bit)
        reach = _ZERO
        pixel = head
        while pixel >= 0:
            if key(parts_of(kev[frame, pixel], per_kev), pixel) >= trial:
                reach += _ONE
            pixel = after[frame, pixel]
        if reach >= extra:
            least = trial
    return least


@cuda.jit
def choose(
    kev: Any, per_kev: Any, up: Any, frames: Any, joined: Any, heads: Any, after: Any, totals: Any, width: Any, sums: Any, spectrum: Any
) -> None:  # fmt: skip
    """Replace a droplet's sum by the key from which on its pixels get a photon more, and count the droplet in `spectrum` uint32 (frames, bins)."""
    pixels = joined.shape[1]
    for work in range(cuda.grid(1), pixels * frames, cuda.gridsize(1)):
        frame, pixel = work // pixels, work % pixels
        if joined[frame, pixel] == pixel:
            held = sums[frame, pixel]
            extra = ((held & _SUM) + up) >> _WHOLE
            sums[frame, pixel] = _HALF
            if extra != held >> _HALVES:
                sums[frame, pixel] = least_key(kev, per_kev, frame, heads[frame, pixel], extra, after)
            if totals.shape[1]:
                place = np.float64(totals[frame, pixel]) / width
                if place < spectrum.shape[1]:
                    cuda.atomic.add(spectrum, (frame, np.int64(place)), np.uint32(1))


@cuda.jit
def place(kev: Any, per_kev: Any, frames: Any, joined: Any, sums: Any, photons: Any) -> None:
    """Place the photons of the droplets."""
    pixels = joined.shape[1]
    for work in range(cuda.grid(1), pixels * frames, cuda.gridsize(1)):
        frame, pixel = work // pixels, work % pixels
        number = _ZERO
        root = joined[frame, pixel]
        if root >= 0:
            parts = parts_of(kev[frame, pixel], per_kev)
            number = parts >> _WHOLE
            if key(parts, pixel) >= sums[frame, root]:
                number += _ONE
        photons[frame, pixel] = number
