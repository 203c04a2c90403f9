"""peakfinder8 written plainly, pixel by pixel, for the kernels to be held against. Nothing of drp is used.

The frame is one array of ASICs side by side, as in the reference. What is strange about it is the reference's: `stray`, and the deviation of 0.01 where a peak has no
surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NEIGHBOURS = [(0, 0), *((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))]
F32 = np.float32
LARGEST = F32(1e30)


@dataclass
class Parameters:
    """As those of PeakFinder8."""

    asic: tuple[int, int]
    min_snr: float = 5.0
    adc_thresh: float = 0.0
    min_pix_count: int = 2
    max_pix_count: int = 200
    local_bg_radius: int = 3
    stray: bool = True


def radial(frame: Array, bins: Array, used: Array, min_snr: float, adc_thresh: float) -> Array:
    """Mean, deviation, lower and upper threshold of each bin, (4, bins)."""
    n = int(bins.max()) + 1
    state = np.zeros((4, n), F32)
    state[2], state[3] = -1e9, 1e9
    for _ in range(5):
        inside = used & (frame > state[2][bins]) & (frame < state[3][bins])
        for one in range(n):
            pixels = frame[inside & (bins == one)].astype(float)
            if len(pixels):
                mean = pixels.sum() / len(pixels)
                deviation = np.sqrt(max((pixels**2).sum() / len(pixels) - mean * mean, 0))
                upper = max(mean + min_snr * deviation, adc_thresh, np.finfo(F32).tiny)
                state[:, one] = mean, deviation, mean - min_snr * deviation, upper
    return state


def find(
    frame: Array, bins: Array, mask: Array, given: Parameters, state: Array | None = None
) -> list[tuple[float, ...]]:
    """Return (x, y, intensity, maximum, sigma, snr, pixels) of each peak, with what `radial` gives, or another `state`."""
    used = mask != 0
    if state is None:
        state = radial(frame, bins, used, given.min_snr, given.adc_thresh)
    hot = used & (frame <= LARGEST) & (frame > state[3][bins])
    rows, cols = given.asic
    left = [(0, 0)] * (
        rows * cols + 1
    )  # places in an ASIC, of the peak at hand and behind it of those before
    taken = np.zeros(frame.shape, bool)
    peaks = []
    for top in range(0, frame.shape[0], rows):
        for first in range(0, frame.shape[1], cols):
            asic = slice(top, top + rows), slice(first, first + cols)
            for row, col in np.argwhere(hot[asic]).tolist():
                if taken[asic][row, col] or row in (0, rows - 1) or col in (0, cols - 1):
                    continue
                members = connected(row, col, hot[asic], taken[asic], left, given.stray)
                peak = measured(frame, bins, used & ~hot, state, members, (top, first), given)
                if peak:
                    peaks.append(peak)
    return peaks


def connected(row: int, col: int, hot: Array, taken: Array, left: Any, stray: bool) -> list[tuple[int, int]]:
    """Return the hot pixels connected with one."""
    left[0] = row, col
    size, before = 0, -1
    while size != before:
        before = size
        p = 0
        while p < max(size + stray, 1):
            for dy, dx in NEIGHBOURS:
                y, x = left[p][0] + dy, left[p][1] + dx
                if 0 <= y < hot.shape[0] and 0 <= x < hot.shape[1] and hot[y, x] and not taken[y, x]:
                    taken[y, x] = True
                    left[size] = y, x
                    size += 1
            p += 1
    return list(left[:size])


def measured(
    frame: Array, bins: Array, cold: Array, state: Array, members: Any, corner: Any, given: Parameters
) -> tuple[float, ...] | None:
    """Return what is known of a peak, or None where it is none."""
    if not given.min_pix_count <= len(members) <= given.max_pix_count:
        return None
    pixels = [(row + corner[0], col + corner[1]) for row, col in members]
    values = np.array([frame[at] for at in pixels], F32)
    above = values - np.array([state[0][bins[at]] for at in pixels])
    if abs(summed(above)) < 1e-10 or abs(summed(values)) < 1e-10:
        return None
    axes = np.array(pixels, F32).T
    y, x = (round(float(summed(above * axis) / summed(above))) for axis in axes)
    reach = 2 * given.local_bg_radius
    around = [
        frame[row, col]
        for row in range(max(y - reach, corner[0]), min(y + reach, corner[0] + given.asic[0]))
        for col in range(max(x - reach, corner[1]), min(x + reach, corner[1] + given.asic[1]))
        if (row - y) ** 2 + (col - x) ** 2 <= reach**2
        and cold[row, col]
        and -LARGEST <= frame[row, col] < state[3][bins[row, col]]
    ]
    offset, sigma = state[0][bins[y, x]], F32(0.01)
    if around:
        offset = summed(around) / F32(len(around))
        squares = summed(np.square(around)) / F32(len(around))
        sigma = np.sqrt(max(squares - offset * offset, F32(0)))
    intensity, maximum = summed(values - offset), max(values - offset)
    if not sigma or intensity / sigma < given.min_snr or maximum < max([0, *around]) - offset:
        return None
    centre = (summed(values * axis) / summed(values) for axis in axes[::-1])
    return (*centre, intensity, maximum, sigma, intensity / sigma, len(members))


def summed(values: Any) -> np.float32:
    """Return a sum as the reference makes it, one after the other in float32: centres are rounded, and a few pixels have a deviation of nothing but rounding."""
    total = F32(0)
    for one in values:
        total += one
    return total
