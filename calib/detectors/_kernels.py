"""Kernels: raw pixels to calibrated ones in one pass. They know bits and tables, no detector, and check nothing.

A pixel's range bits choose one of the planes of its tables, then calibrated = (data bits - offset) * factor; the factor holds the mask. Gain switches
where the light is, so nearly all of a stretch of pixels are in one range: it is done with vector instructions from that range's plane alone,
whichever it is. Then the few blocks that hold pixels of another range are done again for each range they hold, and only those pixels kept.

Each array comes as (segments, pixels); `offset` and `factor` as (segments, planes, pixels). `planes` has the plane of each range code, -1
for a code that means nothing, whose pixels are 0; code 0 always has one. `bits` are data mask, data shift, range mask and range shift, uint16.

Two things here are for the compiler. Pixels are counted by unsigned numbers (`_at`), which spares it the test for negative indices, and so it
vectorises. And whole arrays are passed with where to begin, for a slice costs more than a short loop over it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

STRETCH = 1024
BLOCK = 128
_at = np.uintp


@numba.njit(cache=True, nogil=True)
def range_bits(raw: Any, s: Any, begin: Any, end: Any, range_mask: Any) -> Any:
    """Return the range bits that any pixel has, and those that every pixel has."""
    some = np.uint16(0)
    every = np.uint16(0xFFFF)
    for i in range(_at(begin), _at(end)):
        some |= raw[s, i]
        every &= raw[s, i]
    return some & range_mask, every & range_mask


@numba.njit(cache=True, nogil=True)
def usual_bits(some: Any, every: Any, planes: Any, range_shift: Any) -> Any:
    """Return the range bits a stretch is done with: those that all its pixels have, if they are of a range or the stretch is of no other."""
    return np.uint16(every if some == every or planes[every >> range_shift] >= 0 else 0)


@numba.njit(cache=True, nogil=True)
def has_other(raw: Any, s: Any, begin: Any, end: Any, range_mask: Any, usual: Any) -> Any:
    """Say whether any pixel has other range bits than the usual."""
    other = np.uint16(0)
    for i in range(_at(begin), _at(end)):
        other |= raw[s, i] ^ usual
    return other & range_mask != 0


@numba.njit(cache=True, nogil=True)
def has_code(raw: Any, s: Any, begin: Any, end: Any, range_mask: Any, wanted: Any) -> Any:
    """Say whether any pixel has the wanted range bits."""
    found = np.uint16(0)
    for i in range(_at(begin), _at(end)):
        found |= np.uint16((raw[s, i] & range_mask) == wanted)
    return found != 0


@numba.njit(cache=True, nogil=True)
def calibrate(
    raw: Any, offset: Any, factor: Any, s: Any, plane: Any, begin: Any, end: Any, bits: Any, out: Any
) -> None:
    """Calibrate pixels of one range."""
    data_mask, data_shift = bits[0], bits[1]
    for i in range(_at(begin), _at(end)):
        data = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift))
        out[s, i] = (data - offset[s, plane, i]) * factor[s, plane, i]


@numba.njit(cache=True, nogil=True)
def calibrate_some(
    raw: Any,
    offset: Any,
    factor: Any,
    s: Any,
    plane: Any,
    wanted: Any,
    begin: Any,
    end: Any,
    bits: Any,
    out: Any,
) -> None:
    """Calibrate the pixels with the wanted range bits and leave the others."""
    data_mask, data_shift, range_mask = bits[0], bits[1], bits[2]
    for i in range(_at(begin), _at(end)):
        data = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift))
        value = (data - offset[s, plane, i]) * factor[s, plane, i]
        out[s, i] = value if raw[s, i] & range_mask == wanted else out[s, i]


@numba.njit(cache=True, nogil=True)
def clear_some(raw: Any, s: Any, wanted: Any, begin: Any, end: Any, bits: Any, out: Any) -> None:
    """Set the pixels with the wanted range bits to 0."""
    range_mask = bits[2]
    for i in range(_at(begin), _at(end)):
        out[s, i] = np.float32(0) if raw[s, i] & range_mask == wanted else out[s, i]


@numba.njit(cache=True, nogil=True)
def apply_ranges(raw: Any, offset: Any, factor: Any, planes: Any, bits: Any, out: Any) -> None:
    """Calibrate uint16 pixels with range bits into float32 `out`."""
    range_mask, range_shift = bits[2], bits[3]
    for s in range(raw.shape[0]):
        for begin in range(0, raw.shape[1], STRETCH):
            end = min(begin + STRETCH, raw.shape[1])
            some, every = range_bits(raw, s, begin, end, range_mask)
            usual = usual_bits(some, every, planes, range_shift)
            plane = planes[usual >> range_shift]
            if plane < 0:
                clear_some(raw, s, usual, begin, end, bits, out)
                continue
            calibrate(raw, offset, factor, s, plane, begin, end, bits, out)
            if some == every:
                continue
            for first in range(begin, end, BLOCK):
                last = min(first + BLOCK, end)
                if not has_other(raw, s, first, last, range_mask, usual):
                    continue
                for code in range(len(planes)):
                    wanted = np.uint16(code << range_shift)
                    if wanted == usual or (
                        len(planes) > 2 and not has_code(raw, s, first, last, range_mask, wanted)
                    ):
                        continue
                    if planes[code] < 0:
                        clear_some(raw, s, wanted, first, last, bits, out)
                    else:
                        calibrate_some(raw, offset, factor, s, planes[code], wanted, first, last, bits, out)


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
