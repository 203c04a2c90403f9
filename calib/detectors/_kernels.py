"""Kernels: raw pixels to calibrated ones in one pass. They know bits and tables, no detector, and check nothing.

A pixel's range bits choose one of the planes of its tables, then calibrated = (data bits - offset) * factor; the factor holds the mask. Pixels
go by blocks of 64, because gain switches where the light is: a block whose pixels are all in one range, whichever, is done with vector
instructions from that range's plane alone, and only a mixed block looks at each pixel.

Each array comes as (segments, pixels); `offset` and `factor` as (segments, planes, pixels). `planes` has the plane of each range code, -1
for a code that means nothing, whose pixels are 0.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

BLOCK = 64


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
        for begin in range(0, raw.shape[1], BLOCK):
            end = min(begin + BLOCK, raw.shape[1])
            # Slices, not indices: they let the compiler leave out the test for negative indices, and so vectorise.
            pixels = raw[s, begin:end]
            done = out[s, begin:end]
            some = np.uint16(0)
            every = np.uint16(0xFFFF)
            for j in range(len(pixels)):
                some |= pixels[j]
                every &= pixels[j]
            if (some ^ every) & range_mask == 0:
                plane = planes[(some & range_mask) >> range_shift]
                if plane < 0:
                    done[:] = np.float32(0)
                    continue
                offsets = offset[s, plane, begin:end]
                factors = factor[s, plane, begin:end]
                for j in range(len(done)):
                    data = np.float32(np.int32((pixels[j] & data_mask) >> data_shift))
                    done[j] = (data - offsets[j]) * factors[j]
            else:
                for j in range(len(done)):
                    plane = planes[(pixels[j] & range_mask) >> range_shift]
                    if plane < 0:
                        done[j] = np.float32(0)
                    else:
                        data = np.float32(np.int32((pixels[j] & data_mask) >> data_shift))
                        done[j] = (data - offset[s, plane, begin + j]) * factor[s, plane, begin + j]


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
