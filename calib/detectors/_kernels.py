"""Kernels: raw pixels to calibrated ones in one pass. They know bits and tables, no detector, and check nothing.

A pixel's range bits choose one of the planes of its tables, then calibrated = (data bits - offset) * factor; the factor holds the mask. Gain switches
where the light is, so nearly all of a stretch of pixels are in one range: it is done with vector instructions from that range's plane alone,
whichever it is. Then the pixels of other ranges are done again, one by one. Their planes lie far away in memory, so they are asked
for when a pixel is found, and come while the stretch is done.

Pixels come as (segments, pixels); `tables` as (segments, planes, 2 * pixels), offset and factor of a pixel beside each other, so that a pixel of
another range costs one access to far memory, not two. `planes` has the plane of each range code, -1 for a code that means nothing, whose
pixels are 0; code 0 always has one. `bits` are data mask, range mask and range shift, uint16.

Three things here are for the compiler. Pixels are counted by unsigned numbers (`_at`), which spares it the test for negative indices, and so it
vectorises. Whole arrays are passed with where to begin, for a slice costs more than a short loop over it. And what is called for a few
pixels is inlined (`within`).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from calib.detectors._lanes import prefetch, within

STRETCH = 1024
BLOCK = 64
CHUNK = 16
"""Pixels that are looked at at once; a stretch has as many chunks as a uint64 has bits."""
MANY = 16
"""Mixed chunks of a stretch from which on another range may be the usual one."""
AHEAD = 16
"""How many pixels ahead of one what single pixels need is asked for."""
_at = np.uintp


@within
def range_bits(raw: Any, s: Any, begin: Any, end: Any, range_mask: Any) -> Any:
    """Return the range bits that any pixel has, and those that every pixel has."""
    some = np.uint16(0)
    every = np.uint16(0xFFFF)
    for i in range(_at(begin), _at(end)):
        some |= raw[s, i]
        every &= raw[s, i]
    return some & range_mask, every & range_mask


@within
def usual_bits(some: Any, every: Any, planes: Any, range_shift: Any) -> Any:
    """Return the range bits a stretch is done with: those that all its pixels have, if they are of a range or the stretch is of no other."""
    return np.uint16(every if some == every or planes[every >> range_shift] >= 0 else 0)


@within
def has_other(raw: Any, s: Any, begin: Any, end: Any, range_mask: Any, usual: Any) -> Any:
    """Say whether any pixel has other range bits than the usual."""
    other = np.uint16(0)
    for i in range(_at(begin), _at(end)):
        other |= raw[s, i] ^ usual
    return other & range_mask != 0


@within
def prefetch_chunk(raw: Any, tables: Any, s: Any, planes: Any, begin: Any, end: Any, bits: Any) -> None:
    """Have what the tables hold for a chunk fetched, of the one range other than 0 that pixels of a chunk usually have."""
    code = np.uint16(0)
    for i in range(_at(begin), _at(end)):
        code |= raw[s, i]
    plane = _at(max(planes[_at((code & bits[1]) >> bits[2])], 0))
    start = _at(tables.ctypes.data) + _at(s) * _at(tables.strides[0]) + plane * _at(tables.strides[1])
    for at in range(start + _at(8 * begin), start + _at(8 * end), _at(64)):
        prefetch(at)
    prefetch(start + _at(8 * end - 1))


@within
def is_mixed(mixed: Any, chunk: Any) -> Any:
    """Say whether a chunk has pixels of unusual ranges."""
    return mixed >> np.uint64(chunk) & np.uint64(1) != 0


@within
def prefetch_mixed(
    raw: Any, tables: Any, s: Any, planes: Any, begin: Any, end: Any, mixed: Any, bits: Any
) -> None:
    """Have what the tables hold for the mixed chunks of a stretch fetched."""
    for first in range(begin, end if mixed else begin, CHUNK):
        if is_mixed(mixed, (first - begin) // CHUNK):
            prefetch_chunk(raw, tables, s, planes, first, min(first + CHUNK, end), bits)


@within
def mixed_chunks(raw: Any, s: Any, begin: Any, end: Any, range_mask: Any, usual: Any) -> Any:
    """Return which chunks of a stretch have pixels of other range bits than the usual, a bit for each, the lowest for the first; and how many."""
    mixed = np.uint64(0)
    count = 0
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        if has_other(raw, s, first, last, range_mask, usual):
            for i in range(first, last, CHUNK):
                if has_other(raw, s, i, min(i + CHUNK, last), range_mask, usual):
                    mixed |= np.uint64(1) << np.uint64((i - begin) // CHUNK)
                    count += 1
    return mixed, count


@within
def look(raw: Any, s: Any, planes: Any, begin: Any, end: Any, bits: Any, before: Any) -> Any:
    """Return the usual range bits of a stretch and which of its chunks are mixed. Those of the stretch before are tried first."""
    range_mask, range_shift = bits[1], bits[2]
    usual = np.uint16(before if planes[before >> range_shift] >= 0 else 0)
    mixed, count = mixed_chunks(raw, s, begin, end, range_mask, usual)
    if count > MANY:
        some, every = range_bits(raw, s, begin, end, range_mask)
        better = usual_bits(some, every, planes, range_shift)
        if better != usual:
            usual = better
            mixed, count = mixed_chunks(raw, s, begin, end, range_mask, usual)
    return usual, mixed


@within
def data_of(word: Any, data_mask: Any) -> Any:
    """Return the data of a raw pixel."""
    return np.float32(np.int32(word & data_mask))


@within
def calibrate(raw: Any, tables: Any, s: Any, plane: Any, begin: Any, end: Any, bits: Any, out: Any) -> None:
    """Calibrate pixels of one range."""
    for i in range(_at(begin), _at(end)):
        offset, factor = tables[s, plane, _at(2) * i], tables[s, plane, _at(2) * i + _at(1)]
        out[s, i] = (data_of(raw[s, i], bits[0]) - offset) * factor


@within
def calibrate_others(
    raw: Any, tables: Any, s: Any, planes: Any, usual: Any, begin: Any, end: Any, bits: Any, out: Any
) -> None:
    """Calibrate the pixels of other ranges than the usual, each of its own, and leave those."""
    for i in range(_at(begin), _at(end)):
        code = raw[s, i] & bits[1]
        if code != usual:
            plane = planes[_at(code >> bits[2])]
            p = _at(max(plane, 0))
            offset, factor = tables[s, p, _at(2) * i], tables[s, p, _at(2) * i + _at(1)]
            value = (data_of(raw[s, i], bits[0]) - offset) * factor
            out[s, i] = value if plane >= 0 else np.float32(0)


@within
def clear(s: Any, begin: Any, end: Any, out: Any) -> None:
    """Set pixels to 0."""
    for i in range(_at(begin), _at(end)):
        out[s, i] = np.float32(0)


@numba.njit(cache=True, nogil=True)
def apply_ranges(raw: Any, tables: Any, planes: Any, bits: Any, out: Any) -> None:
    """Calibrate uint16 pixels with range bits into float32 `out`."""
    usual = np.uint16(0)
    for s in range(raw.shape[0]):
        for begin in range(0, raw.shape[1], STRETCH):
            end = min(begin + STRETCH, raw.shape[1])
            usual, mixed = look(raw, s, planes, begin, end, bits, usual)
            prefetch_mixed(raw, tables, s, planes, begin, end, mixed, bits)
            plane = planes[usual >> bits[2]]
            if plane < 0:
                clear(s, begin, end, out)
                continue
            calibrate(raw, tables, s, plane, begin, end, bits, out)
            for first in range(begin, end if mixed else begin, CHUNK):
                if is_mixed(mixed, (first - begin) // CHUNK):
                    last = min(first + CHUNK, end)
                    calibrate_others(raw, tables, s, planes, usual, first, last, bits, out)


@numba.njit(cache=True, nogil=True)
def apply_single(raw: Any, tables: Any, out: Any) -> None:
    """Calibrate pixels of any number type and without ranges; plane 0 is used."""
    for s in range(raw.shape[0]):
        for i in range(_at(0), _at(raw.shape[1])):
            out[s, i] = (np.float32(raw[s, i]) - tables[s, 0, _at(2) * i]) * tables[s, 0, _at(2) * i + _at(1)]


@within
def prefetch_pixel(raw: Any, tables: Any, s: Any, planes: Any, i: Any, bits: Any) -> None:
    """Have what the tables hold for a pixel fetched."""
    plane = _at(max(planes[_at((raw[s, i] & bits[1]) >> bits[2])], 0))
    start = _at(tables.ctypes.data) + _at(s) * _at(tables.strides[0]) + plane * _at(tables.strides[1])
    prefetch(start + _at(8) * i)


@within
def segment_of(at: Any, s: Any, size: Any) -> Any:
    """Return the segment of a pixel, which is seldom before `s`; a division for each pixel takes longer."""
    if at < s * size:
        return at // size
    while at >= (s + _at(1)) * size:
        s += _at(1)
    return s


@numba.njit(cache=True, nogil=True)
def pick_ranges(raw: Any, tables: Any, planes: Any, bits: Any, index: Any, start: Any, out: Any) -> Any:
    """Calibrate as `apply_ranges` does the pixels at `index`, flat over all segments, less `start`; `out` is flat. False at a pixel that is none.

    They lie apart, so raw data are asked for 2 * AHEAD pixels before they are used, and tables, whose plane raw data tell, AHEAD pixels before.
    """
    size = _at(raw.shape[1])
    n = _at(len(index))
    s = ahead = _at(0)
    for j in range(n + _at(AHEAD)):
        if j + _at(AHEAD) < n:
            prefetch(_at(raw.ctypes.data) + _at(raw.itemsize) * _at(index[j + _at(AHEAD)] - start))
        if j < n:
            at = _at(index[j] - start)
            if at >= _at(raw.size):
                return False
            ahead = segment_of(at, ahead, size)
            prefetch_pixel(raw, tables, ahead, planes, at - ahead * size, bits)
        if j >= _at(AHEAD):
            at = _at(index[j - _at(AHEAD)] - start)
            s = segment_of(at, s, size)
            i = at - s * size
            word = raw[s, i]
            plane = planes[_at((word & bits[1]) >> bits[2])]
            p = _at(max(plane, 0))
            value = (data_of(word, bits[0]) - tables[s, p, _at(2) * i]) * tables[s, p, _at(2) * i + _at(1)]
            out[j - _at(AHEAD)] = value if plane >= 0 else np.float32(0)
    return True


@numba.njit(cache=True, nogil=True)
def pick_single(raw: Any, tables: Any, index: Any, start: Any, out: Any) -> Any:
    """Do this as `apply_single` does."""
    size = _at(raw.shape[1])
    for j in range(_at(len(index))):
        at = _at(index[j] - start)
        if at >= _at(raw.size):
            return False
        s, i = at // size, at % size
        out[j] = (np.float32(raw[s, i]) - tables[s, 0, _at(2) * i]) * tables[s, 0, _at(2) * i + _at(1)]
    return True


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
