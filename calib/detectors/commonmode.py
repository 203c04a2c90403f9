"""Common mode: what all pixels of a bank, of a row in it, or of a column in it have in common in an event is electronics, and is taken away.

The parameters are psana's `cmpars`: (algorithm, mode, largest correction in ADU, fewest pixels). Mode 4 corrects whole banks, 1 rows in banks,
2 columns in banks, in this order, sums of them more than one; each by the median of the pixels that count, which is not applied where it is as
large as the limit or where too few pixels count. Only pixels that count are corrected. psana's UtilsCommonMode is the source.

Banks side by side are corrected as one tile that stays in the core's own cache: pixels go in less their pedestals, and come out times their factors,
so that the memory is gone through once as without this correction. They are as many as the cache holds, because the longer the runs of
memory that are gone through are, the less is waited for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from calib.detectors._kernels import (
    CHUNK,
    STRETCH,
    clear,
    data_of,
    is_mixed,
    look,
    prefetch_mixed,
)
from calib.detectors._lanes import WIDTH, choose, load, splat, store, sub, turn, within
from calib.detectors._medians import INF, column_medians, table_median
from calib.detectors.arrays import Floats
from calib.errors import CalibError

OF_LEVEL = 7
"""The algorithm that counts pixels of high and medium gain only; the others count all."""
TILE_BYTES = 1 << 20
"""The largest tile: what a core's own cache holds."""
FEWEST = 10
MOST = 1e6
"""More than any pixel holds, and than any bank has: a larger limit is none."""
_at = np.uintp


@dataclass(frozen=True, slots=True)
class CommonMode:
    """What to correct; `limit` in ADU."""

    algorithm: int
    mode: int
    limit: float
    fewest: int

    @classmethod
    def of(cls, cmpars: Sequence[float], called: str = "") -> CommonMode | None:
        """Return psana's cmpars as a CommonMode, None where they ask for nothing; CalibError where they are none, by what they are `called`.

        Numbers that mean nothing are none: a mode beyond 7, a limit that nothing can be below, a fraction of a pixel. A fifth number and more
        are not looked at.
        """
        try:
            given = [float(one) for one in cmpars][:4]
        except (TypeError, ValueError):
            given = []
        if len(given) < 3 or not all(one.is_integer() for one in (*given[:2], *given[3:])):
            raise _no_cmpars(
                called or f"cmpars={cmpars!r:.80}",
                "they are no three or four numbers, whole but for the limit",
            )
        algorithm, mode, limit, fewest = *given[:3], given[3] if len(given) > 3 else FEWEST
        if not 0 <= mode <= 7:
            raise _no_cmpars(
                called or f"cmpars={cmpars!r:.80}",
                "the mode is no sum of 1 (rows), 2 (columns) and 4 (banks)",
            )
        if algorithm < 0 or fewest < 0 or not (limit > 0 or mode == 0):
            raise _no_cmpars(called or f"cmpars={cmpars!r:.80}", "the limit is above 0, and none is negative")
        return cls(int(algorithm), int(mode), min(limit, MOST), int(min(fewest, MOST))) if mode else None


def _no_cmpars(called: str, why: str) -> CalibError:
    return CalibError(
        f"{called} are no parameters of common mode: {why}",
        hint="Give (algorithm, mode, largest correction, fewest pixels), such as (7, 1, 200, 10).",
    )


class Scratch:
    """Room for a group of banks of `rows` x `cols` pixels, `banks` of them side by side, and for the search for their medians."""

    def __init__(self, rows: int, cols: int, banks: int) -> None:
        if cols % WIDTH:
            raise ValueError(f"banks of {cols} columns; they must be a multiple of {WIDTH}")
        fitting = (
            one
            for one in range(1, banks + 1)
            if banks % one == 0 and 4 * rows * cols * one <= TILE_BYTES and cols * one <= STRETCH
        )
        self.rows = rows
        self.cols = cols * max(fitting, default=1)
        # Sixteen rows are searched at a time, whether there are so many or not.
        self.tile = aligned(-(-rows // WIDTH) * WIDTH, self.cols + WIDTH)
        self.tile[:] = np.inf
        self.turned = aligned(cols, WIDTH)
        self.medians = np.empty(WIDTH, np.float32)
        self.usual = np.empty(rows, np.uint16)
        self.others = np.empty(rows, np.uint64)


def aligned(rows: int, cols: int) -> Floats:
    """Return float32 (rows, cols), each row of a multiple of sixteen in whole lines of the cache."""
    room = np.empty(rows * cols + WIDTH, np.float32)
    first = -room.ctypes.data % (4 * WIDTH) // 4
    return room[first : first + rows * cols].reshape(rows, cols)


@within
def fill(
    raw: Any,
    tables: Any,
    level: Any,
    s: Any,
    plane: Any,
    usual: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
) -> None:
    """Put the pixels of the usual range that count, which have a gain, into a row of `tile`, less their pedestals, and +inf for all others."""
    counting = np.uint8(1 << plane)
    for j in range(_at(end - begin)):
        i = _at(begin) + j
        offset, factor = tables[s, plane, _at(2) * i], tables[s, plane, _at(2) * i + _at(1)]
        value = data_of(raw[s, i], bits[0]) - offset
        # A table of pairs is gone through fast only if both of a pair are used.
        counts = (level[s, i] & counting != 0) & (raw[s, i] & bits[1] == usual) & (factor == factor)  # noqa: PLR0124 - not so where it is NaN
        tile[row, j] = value if counts else INF


@within
def fill_others(
    raw: Any,
    tables: Any,
    level: Any,
    s: Any,
    planes: Any,
    counting: Any,
    usual: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
    col: Any,
) -> None:
    """Put the pixels of other ranges than the usual into `tile`, from `col` on, and leave those."""
    shift = _at(begin) - _at(col)
    for i in range(_at(begin), _at(end)):
        code = raw[s, i] & bits[1]
        if code != usual:
            plane = planes[_at(code >> bits[2])]
            p = _at(max(plane, 0))
            value = INF
            if plane >= 0 and counting >> p & 1 and level[s, i] >> p & 1:
                offset, factor = tables[s, p, _at(2) * i], tables[s, p, _at(2) * i + _at(1)]
                value = data_of(raw[s, i], bits[0]) - offset if factor == factor else INF  # noqa: PLR0124
            tile[row, i - shift] = value


@within
def finish(
    raw: Any, tables: Any, s: Any, plane: Any, begin: Any, end: Any, bits: Any, tile: Any, row: Any, out: Any
) -> None:
    """Multiply the pixels of a row of `tile`, all as of one range, by their factors; those that do not count have no value there."""
    for j in range(_at(end - begin)):
        i = _at(begin) + j
        offset, factor = tables[s, plane, _at(2) * i], tables[s, plane, _at(2) * i + _at(1)]
        value = data_of(raw[s, i], bits[0]) - offset
        corrected = tile[row, j]
        out[s, i] = (corrected if corrected != INF else value) * factor


@within
def finish_others(
    raw: Any,
    tables: Any,
    s: Any,
    planes: Any,
    usual: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
    col: Any,
    out: Any,
) -> None:
    """Do this for the pixels of other ranges than the usual, which lie in `tile` from `col` on, and leave those."""
    shift = _at(begin) - _at(col)
    for i in range(_at(begin), _at(end)):
        code = raw[s, i] & bits[1]
        if code != usual:
            plane = planes[_at(code >> bits[2])]
            p = _at(max(plane, 0))
            value = tile[row, i - shift]
            if value == INF:
                value = data_of(raw[s, i], bits[0]) - tables[s, p, _at(2) * i]
            value *= tables[s, p, _at(2) * i + _at(1)]
            out[s, i] = value if plane >= 0 else np.float32(0)


@within
def take_away(row: Any, cols: Any, value: Any) -> None:
    """Subtract a value from what lies in memory from an address on."""
    every = splat(value)
    for col in range(_at(0), _at(4 * cols), _at(4 * WIDTH)):
        store(row + col, sub(load(row + col), every))


@numba.njit(cache=True, nogil=True)
def correct_bank(tile: Any, rows: Any, first: Any, cols: Any, limit: Any, fewest: Any) -> None:
    """Take the median of a bank, the columns from `first` on, away."""
    table = _at(tile.ctypes.data) + _at(4 * first)
    stride = _at(tile.strides[0])
    median = table_median(table, stride, rows, cols // WIDTH, limit, fewest)
    if median < INF:
        for r in range(_at(rows)):
            take_away(table + r * stride, cols, median)


@numba.njit(cache=True, nogil=True)
def correct_rows(tile: Any, rows: Any, cols: Any, limit: Any, fewest: Any, turned: Any, medians: Any) -> None:
    """Take the median of each row of each bank away. Sixteen rows at a time are turned into columns for the search."""
    bank_cols = turned.shape[0]
    stride, turned_stride = _at(tile.strides[0]), _at(turned.strides[0])
    enough = splat(np.float32(fewest))
    for first in range(0, cols, bank_cols):
        for begin in range(0, rows, WIDTH):
            corner = _at(tile.ctypes.data) + _at(begin) * stride + _at(4 * first)
            for col in range(0, bank_cols, WIDTH):
                turn(
                    corner + _at(4 * col),
                    stride,
                    _at(turned.ctypes.data) + _at(col) * turned_stride,
                    turned_stride,
                )
            found, n = column_medians(_at(turned.ctypes.data), turned_stride, bank_cols, limit)
            store(_at(medians.ctypes.data), choose(enough, n, found, splat(INF)))
            for lane in range(WIDTH):
                if medians[lane] < INF:
                    take_away(corner + _at(lane) * stride, bank_cols, medians[lane])


@numba.njit(cache=True, nogil=True)
def correct_cols(tile: Any, rows: Any, cols: Any, limit: Any, fewest: Any) -> None:
    """Take the median of each column away."""
    stride = _at(tile.strides[0])
    enough, none, zero = splat(np.float32(fewest)), splat(INF), splat(np.float32(0))
    for first in range(0, cols, WIDTH):
        top = _at(tile.ctypes.data) + _at(4 * first)
        found, n = column_medians(top, stride, rows, limit)
        found = choose(enough, n, choose(found, none, found, zero), zero)
        for r in range(_at(rows)):
            store(top + r * stride, sub(load(top + r * stride), found))


@numba.njit(cache=True, nogil=True)
def correct(
    raw: Any,
    tables: Any,
    level: Any,
    counting: Any,
    planes: Any,
    bits: Any,
    row_pixels: Any,
    rows: Any,
    cols: Any,
    mode: Any,
    limit: Any,
    fewest: Any,
    tile: Any,
    turned: Any,
    medians: Any,
    usual: Any,
    others: Any,
    out: Any,
) -> None:
    """Calibrate uint16 pixels with common mode; arrays as those of `apply_ranges`, `level` uint8 (segments, pixels) has a bit for each plane whose
    pixels count, and `counting` those that any has.

    A row of a segment has `row_pixels`; `tile` has room for `rows` of a group of banks, `cols` columns in all, and `turned` is as deep as one bank
    is wide; `usual` uint16 and `others` uint64 (rows,) are for each row's usual range bits and which of its chunks have others.
    """
    bank_cols = turned.shape[0]
    across = row_pixels // cols
    code = np.uint16(0)
    for s in range(raw.shape[0]):
        for part in range(raw.shape[1] // (rows * cols)):
            corner = part // across * rows * row_pixels + part % across * cols
            for r in range(rows):
                at = corner + r * row_pixels
                to = at + cols
                code, mixed = look(raw, s, planes, at, to, bits, code)
                usual[r] = code
                others[r] = mixed
                plane = planes[code >> bits[2]]
                # Most detectors have one plane whose pixels count: those of other ranges are none.
                others_count = counting & ~(1 << plane) if plane >= 0 else counting
                if plane >= 0 and counting >> plane & 1:
                    fill(raw, tables, level, s, plane, code, at, to, bits, tile, r)
                else:
                    tile[r, :cols] = INF
                for col in range(0, cols if mixed and others_count else 0, CHUNK):
                    if is_mixed(mixed, col // CHUNK):
                        first, last = at + col, min(at + col + CHUNK, to)
                        fill_others(
                            raw, tables, level, s, planes, counting, code, first, last, bits, tile, r, col
                        )
            if mode & 4:
                for bank in range(0, cols, bank_cols):
                    correct_bank(tile, rows, bank, bank_cols, limit, fewest)
            if mode & 1:
                correct_rows(tile, rows, cols, limit, fewest, turned, medians)
            if mode & 2:
                correct_cols(tile, rows, cols, limit, fewest)
            for r in range(rows):
                at = corner + r * row_pixels
                to = at + cols
                code, mixed = usual[r], others[r]
                if r + 1 < rows:
                    next_at = at + row_pixels
                    prefetch_mixed(raw, tables, s, planes, next_at, next_at + cols, others[r + 1], bits)
                plane = planes[code >> bits[2]]
                if plane < 0:
                    clear(s, at, to, out)
                else:
                    finish(raw, tables, s, plane, at, to, bits, tile, r, out)
                for col in range(0, cols if mixed else 0, CHUNK):
                    if is_mixed(mixed, col // CHUNK):
                        first, last = at + col, min(at + col + CHUNK, to)
                        finish_others(raw, tables, s, planes, code, first, last, bits, tile, r, col, out)
