"""Kernels: raw pixels to calibrated ones in one pass. They know bits and tables, no detector, and check nothing.

A pixel's range bits choose one of the planes of its tables, then calibrated = (data bits - offset) * factor; the factor holds the mask. Gain switches
where the light is, so nearly all of a stretch of pixels are in one range: it is done with vector instructions from that range's plane alone,
whichever it is, and then the pixels of another range, which few of its blocks have, are done again one by one.

Each array comes as (segments, pixels); `offset` and `factor` as (segments, planes, pixels). `planes` has the plane of each range code, -1
for a code that means nothing, whose pixels are 0; code 0 always has one.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

STRETCH = 1024
BLOCK = 64


@numba.njit(cache=True, nogil=True)
def range_bits(raw: Any, range_mask: Any) -> Any:
    """Return the range bits that any pixel has, and those that every pixel has."""
    some = np.uint16(0)
    every = np.uint16(0xFFFF)
    for j in range(len(raw)):
        some |= raw[j]
        every &= raw[j]
    return some & range_mask, every & range_mask


@numba.njit(cache=True, nogil=True)
def has_other(raw: Any, range_mask: Any, usual: Any) -> Any:
    """Say whether any pixel has other range bits than the usual."""
    other = np.uint16(0)
    for j in range(len(raw)):
        other |= raw[j] ^ usual
    return other & range_mask != 0


@numba.njit(cache=True, nogil=True)
def usual_bits(some: Any, every: Any, planes: Any, range_shift: Any) -> Any:
    """Return the range bits a stretch is done with: those that all its pixels have, if they are of a range or the stretch is of no other."""
    return every if some == every or planes[every >> range_shift] >= 0 else np.uint16(0)


@numba.njit(cache=True, nogil=True)
def apply_ranges(
    raw: Any,
    offset: Any,
    factor: Any,
    planes: Any,
    data_mask: Any,
    data_shift: Any,
    range_mask: Any,
    range_shift: Any,
    out: Any,
) -> None:
    """Calibrate uint16 pixels with range bits into float32 `out`."""
    for s in range(raw.shape[0]):
        for begin in range(0, raw.shape[1], STRETCH):
            end = min(begin + STRETCH, raw.shape[1])
            # Slices, not indices: they let the compiler leave out the test for negative indices, and so vectorise.
            pixels = raw[s, begin:end]
            done = out[s, begin:end]
            some, every = range_bits(pixels, range_mask)
            usual = np.uint16(usual_bits(some, every, planes, range_shift))
            plane = planes[usual >> range_shift]
            if plane < 0:
                done[:] = np.float32(0)
                continue
            offsets = offset[s, plane, begin:end]
            factors = factor[s, plane, begin:end]
            for j in range(len(done)):
                data = np.float32(np.int32((pixels[j] & data_mask) >> data_shift))
                done[j] = (data - offsets[j]) * factors[j]
            if some == every:
                continue
            for first in range(begin, end, BLOCK):
                last = min(first + BLOCK, end)
                if has_other(raw[s, first:last], range_mask, usual):
                    for i in range(first, last):
                        bits = raw[s, i] & range_mask
                        if bits != usual:
                            plane = planes[bits >> range_shift]
                            value = np.float32(0)
                            if plane >= 0:
                                data = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift))
                                value = (data - offset[s, plane, i]) * factor[s, plane, i]
                            out[s, i] = value


@numba.njit(cache=True, nogil=True)
def apply_single(raw: Any, offset: Any, factor: Any, out: Any) -> None:
    """Calibrate pixels of any number type and without ranges; plane 0 is used."""
    for s in range(raw.shape[0]):
        pixels = raw[s, :]
        offsets = offset[s, 0, :]
        factors = factor[s, 0, :]
        done = out[s, :]
        for j in range(len(done)):
            done[j] = (np.float32(pixels[j]) - offsets[j]) * factors[j]


@numba.njit(cache=True, nogil=True)
def order_uhr3x2(raw: Any, out: Any) -> None:
    """Lay the 12 bits of six ASICs of 168 x 192 pixels out as one panel; the upper three turned left to right, the lower upside down."""
    panel = out.reshape((336, 576))
    asics = raw.reshape((6, 168, 192))
    for asic in range(3):
        for row in range(168):
            upper = asics[asic, row]
            lower = asics[asic + 3, row]
            above = panel[row, 192 * asic : 192 * asic + 192]
            below = panel[335 - row, 192 * asic : 192 * asic + 192]
            for col in range(192):
                above[191 - col] = upper[col] & np.uint16(0x0FFF)
                below[col] = lower[col] & np.uint16(0x0FFF)


@numba.njit(cache=True, nogil=True)
def unpack_uhr(raw: Any, places: Any, out: Any) -> None:
    """Take packed 12-bit pixels from where they are, the lowest bit moved to the top; `out` is (ASICs, pixels)."""
    size = raw.shape[0] // out.shape[0]
    for asic in range(out.shape[0]):
        packed = raw[asic * size : (asic + 1) * size]
        pixels = out[asic, :]
        for j in range(len(pixels)):
            first = places[j] >> 1
            if places[j] & 1:
                value = (packed[first] >> 4) | (np.uint16(packed[first + 8]) << 4)
            else:
                value = packed[first] | (np.uint16(packed[first + 8] & 15) << 8)
            pixels[j] = np.uint16((value >> 1) | ((value & 1) << 11))
