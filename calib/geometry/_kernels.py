"""The loops that draw an image, compiled by numba; twins in NumPy are in tests/calib.

They trust every index: `ImagePlan` and `InterpolationPlan` check them once, before these loops go over them without bounds. Inputs are
read-only C-contiguous arrays (one signature, whoever owns the memory), `out` is the image. No kernel allocates.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


@numba.njit(cache=True, nogil=True)
def draw(data: F32, bins: I32, vbase: np.float32, out: F32) -> None:
    """Put every pixel of `data` (n,) into its bin of `out`, the later ones over the earlier, and `vbase` where none is.

    In the order of the data: the panels of some detectors stand across the image and have rows of 4096 bytes, and to read those
    down their columns, a bin of the image after the other, takes twice as long.
    """
    out[:] = vbase
    for i in range(len(bins)):
        out[bins[i]] = data[i]


@numba.njit(cache=True, nogil=True)
def merge(data: F32, bins: I32, starts: I32, pixels: I32, mean: bool, out: F32) -> None:
    """Set bins of `out` (n,) that several pixels fall in to the largest of them, or to their mean.

    Pixels of bin `bins[i]` are `pixels[starts[i]:starts[i + 1]]`. The largest is found as Python's max does, beginning with the last.
    """
    for i in range(len(bins)):
        first, end = starts[i], starts[i + 1]
        if mean:
            total = np.float32(0)
            for k in range(first, end):
                total += data[pixels[k]]
            out[bins[i]] = np.float32(total / np.float64(end - first))
        else:
            largest = data[pixels[end - 1]]
            for k in range(first, end - 1):
                value = data[pixels[k]]
                largest = value if value > largest else largest
            out[bins[i]] = largest


@numba.njit(cache=True, nogil=True)
def fill(holes: I32, neighbours: I32, out: F32) -> None:
    """Set each bin of `holes` in `out` (n,) to the least of its `neighbours` (holes, 4); NaN where one of them is."""
    for i in range(len(holes)):
        least = out[neighbours[i, 0]]
        for k in range(1, 4):
            value = out[neighbours[i, k]]
            if value < least or value != value:  # noqa: PLR0124 - true of NaN alone
                least = value
        out[holes[i]] = least


@numba.njit(cache=True, nogil=True)
def interpolate(
    data: F32, corner: I32, down: F32, across: F32, stride: int, vbase: np.float32, out: F32
) -> None:
    """Fill `out` (n,) with what lies between four pixels of `data`: `corner` and those below and right of it.

    `down` and `across` are fractions of the way to the next row and column; `corner` -1 gives `vbase`.
    """
    one = np.float32(1)
    for i in range(len(corner)):
        at = corner[i]
        if at < 0:
            out[i] = vbase
            continue
        v, u = down[i], across[i]
        below = at + stride if v > 0 else at
        step = 1 if u > 0 else 0
        upper = data[at] * (one - u) + data[at + step] * u
        lower = data[below] * (one - u) + data[below + step] * u
        out[i] = upper * (one - v) + lower * v
