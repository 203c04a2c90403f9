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

from calib.detectors._kernels import BLOCK, clear_some, has_code, has_other, range_bits, usual_bits
from calib.detectors._medians import INF, lane_medians, one_median
from calib.errors import CalibError

OF_LEVEL = 7
"""The algorithm that counts pixels of high and medium gain only; the others count all."""
LANES = 64
"""Rows of banks that are turned into columns at a time: a multiple of what vector instructions take at once."""
MAX_LANES = 256
"""Columns that are searched at a time."""
TILE_BYTES = 1 << 20
"""The largest tile: what a core's own cache holds."""
PADDING = 16
"""Unused columns of a tile, so that its rows do not all fall into the same places of the cache."""
FEWEST = 10


@dataclass(frozen=True, slots=True)
class CommonMode:
    """What to correct; `limit` in ADU."""

    algorithm: int
    mode: int
    limit: float
    fewest: int

    @classmethod
    def of(cls, cmpars: Sequence[float]) -> CommonMode | None:
        """Return psana's cmpars as a CommonMode, None where they ask for nothing; CalibError where they are none.

        Numbers that mean nothing are none: a mode beyond 7, a limit that nothing can be below, a fraction of a pixel. A fifth number and more
        are not looked at.
        """
        try:
            given = [float(one) for one in cmpars][:4]
        except (TypeError, ValueError):
            given = []
        if len(given) < 3 or not all(one.is_integer() for one in (*given[:2], *given[3:])):
            raise _no_cmpars(cmpars, "they are no three or four numbers, whole but for the limit")
        algorithm, mode, limit, fewest = *given[:3], given[3] if len(given) > 3 else FEWEST
        if not 0 <= mode <= 7:
            raise _no_cmpars(cmpars, "the mode is no sum of 1 (rows), 2 (columns) and 4 (banks)")
        if algorithm < 0 or fewest < 0 or not (limit > 0 or mode == 0):
            raise _no_cmpars(cmpars, "the limit is above 0, and none is negative")
        return cls(int(algorithm), int(mode), limit, int(fewest)) if mode else None


def _no_cmpars(cmpars: object, why: str) -> CalibError:
    return CalibError(
        f"cmpars={cmpars!r:.80} are no parameters of common mode: {why}",
        hint="Give (algorithm, mode, largest correction, fewest pixels), such as (7, 1, 200, 10).",
    )


class Scratch:
    """Room for a group of banks of `rows` x `cols` pixels, `banks` of them side by side, and for the search for their medians."""

    def __init__(self, rows: int, cols: int, banks: int) -> None:
        fitting = (
            one for one in range(1, banks + 1) if banks % one == 0 and 4 * rows * cols * one <= TILE_BYTES
        )
        self.cols = cols * max(fitting, default=1)
        self.tile = np.empty((rows, self.cols + PADDING), np.float32)
        self.turned = np.empty((cols, LANES), np.float32)
        self.work = np.empty((8, MAX_LANES), np.float32)
        self.counts = np.empty((5, MAX_LANES), np.int32)
        self.usual = np.empty((2, rows), np.uint16)


@numba.njit(cache=True, nogil=True)
def fill(
    raw: Any,
    offset: Any,
    level: Any,
    s: Any,
    plane: Any,
    wanted: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
) -> None:
    """Subtract the pedestals of the pixels with the wanted range bits; those that count go into a row of `tile`, +inf for the others."""
    data_mask, data_shift, range_mask, _ = bits
    counting = np.uint8(1 << plane) if plane >= 0 else np.uint8(0)
    plane = max(plane, 0)
    first = np.uintp(begin)
    for i in range(first, np.uintp(end)):
        value = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift)) - offset[s, plane, i]
        counts = (level[s, i] & counting != 0) & (raw[s, i] & range_mask == wanted)
        tile[row, i - first] = value if counts else INF


@numba.njit(cache=True, nogil=True)
def fill_some(
    raw: Any,
    offset: Any,
    level: Any,
    s: Any,
    plane: Any,
    wanted: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
    col: Any,
) -> None:
    """Put the pixels with the wanted range bits that count into a row of `tile`, from `col` on, and leave the others."""
    data_mask, data_shift, range_mask, _ = bits
    counting = np.uint8(1 << plane)
    shift = np.uintp(begin) - np.uintp(col)
    for i in range(np.uintp(begin), np.uintp(end)):
        value = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift)) - offset[s, plane, i]
        counts = (level[s, i] & counting != 0) & (raw[s, i] & range_mask == wanted)
        tile[row, i - shift] = value if counts else tile[row, i - shift]


@numba.njit(cache=True, nogil=True)
def finish(
    raw: Any,
    offset: Any,
    factor: Any,
    s: Any,
    plane: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
    out: Any,
) -> None:
    """Multiply the pixels of a row of `tile`, all as of one range, by their factors; those that do not count have no value there."""
    data_mask, data_shift = bits[0], bits[1]
    first = np.uintp(begin)
    if plane < 0:
        for i in range(first, np.uintp(end)):
            out[s, i] = np.float32(0)
        return
    for i in range(first, np.uintp(end)):
        value = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift)) - offset[s, plane, i]
        out[s, i] = (tile[row, i - first] if tile[row, i - first] < INF else value) * factor[s, plane, i]


@numba.njit(cache=True, nogil=True)
def finish_some(
    raw: Any,
    offset: Any,
    factor: Any,
    s: Any,
    plane: Any,
    wanted: Any,
    begin: Any,
    end: Any,
    bits: Any,
    tile: Any,
    row: Any,
    col: Any,
    out: Any,
) -> None:
    """Do this for the pixels with the wanted range bits, which lie in `tile` from `col` on, and leave the others."""
    data_mask, data_shift, range_mask, _ = bits
    shift = np.uintp(begin) - np.uintp(col)
    for i in range(np.uintp(begin), np.uintp(end)):
        value = np.float32(np.int32((raw[s, i] & data_mask) >> data_shift)) - offset[s, plane, i]
        value = (tile[row, i - shift] if tile[row, i - shift] < INF else value) * factor[s, plane, i]
        out[s, i] = value if raw[s, i] & range_mask == wanted else out[s, i]


@numba.njit(cache=True, nogil=True)
def correct_bank(tile: Any, first: Any, cols: Any, limit: Any, fewest: Any, work: Any, counts: Any) -> None:
    """Take the median of a bank, the columns from `first` on, away."""
    median = one_median(tile, tile.shape[0], first, cols, limit, fewest, work, counts)
    if median < INF:
        for r in range(tile.shape[0]):
            row = tile[r, first : first + cols]
            for j in range(cols):
                row[j] -= median


@numba.njit(cache=True, nogil=True)
def correct_rows(tile: Any, cols: Any, limit: Any, fewest: Any, turned: Any, work: Any, counts: Any) -> None:
    """Take the median of each row of each bank away. The rows are turned into columns, as many at a time as there is room, for the search."""
    rows = tile.shape[0]
    bank_cols = turned.shape[0]
    medians = work[7]
    everything = rows * (cols // bank_cols)
    for begin in range(0, everything, LANES):
        lanes = min(LANES, everything - begin)
        for lane in range(lanes):
            first = (begin + lane) // rows * bank_cols
            row = tile[(begin + lane) % rows, first : first + bank_cols]
            for j in range(bank_cols):
                turned[j, lane] = row[j]
        lane_medians(turned, bank_cols, 0, lanes, limit, work, counts, medians)
        for lane in range(lanes):
            if counts[0, lane] > fewest and medians[lane] < INF:
                first = (begin + lane) // rows * bank_cols
                row = tile[(begin + lane) % rows, first : first + bank_cols]
                median = medians[lane]
                for j in range(bank_cols):
                    row[j] -= median


@numba.njit(cache=True, nogil=True)
def correct_cols(tile: Any, cols: Any, limit: Any, fewest: Any, work: Any, counts: Any) -> None:
    """Take the median of each column away."""
    rows = tile.shape[0]
    for first in range(0, cols, MAX_LANES):
        lanes = min(MAX_LANES, cols - first)
        medians = work[7, :lanes]
        lane_medians(tile, rows, first, lanes, limit, work, counts, medians)
        for j in range(lanes):
            if counts[0, j] <= fewest or medians[j] == INF:
                medians[j] = np.float32(0)
        for r in range(rows):
            row = tile[r, first : first + lanes]
            for j in range(lanes):
                row[j] -= medians[j]


@numba.njit(cache=True, nogil=True)
def correct(
    raw: Any,
    offset: Any,
    factor: Any,
    level: Any,
    counting: Any,
    planes: Any,
    bits: Any,
    row_pixels: Any,
    cols: Any,
    mode: Any,
    limit: Any,
    fewest: Any,
    tile: Any,
    turned: Any,
    work: Any,
    counts: Any,
    usual: Any,
    out: Any,
) -> None:
    """Calibrate uint16 pixels with common mode; arrays as those of `apply_ranges`, `level` uint8 (segments, pixels) has a bit for each plane whose
    pixels count, and `counting` those that any has.

    A row of a segment has `row_pixels`; `tile` has room for a group of banks, `cols` columns in all, and `turned` is as deep as one bank is
    wide; `usual` uint16 (2, rows) is for each row's usual range and whether it has others.
    """
    rows = tile.shape[0]
    bank_cols = turned.shape[0]
    across = row_pixels // cols
    range_mask, range_shift = bits[2], bits[3]
    for s in range(raw.shape[0]):
        for part in range(raw.shape[1] // (rows * cols)):
            corner = part // across * rows * row_pixels + part % across * cols
            for r in range(rows):
                at = corner + r * row_pixels
                to = at + cols
                some, every = range_bits(raw, s, at, to, range_mask)
                code = usual_bits(some, every, planes, range_shift)
                usual[0, r] = code
                usual[1, r] = some != every
                fill(raw, offset, level, s, planes[code >> range_shift], code, at, to, bits, tile, r)
                for other in range(len(planes) if some != every else 0):
                    # Most detectors have no second plane whose pixels count.
                    plane = planes[other]
                    wanted = np.uint16(other << range_shift)
                    if wanted != code and plane >= 0 and counting >> plane & 1:
                        for first in range(at, to, BLOCK):
                            last = min(first + BLOCK, to)
                            if has_code(raw, s, first, last, range_mask, wanted):
                                col = first - at
                                fill_some(
                                    raw, offset, level, s, plane, wanted, first, last, bits, tile, r, col
                                )
            if mode & 4:
                for bank in range(0, cols, bank_cols):
                    correct_bank(tile, bank, bank_cols, limit, fewest, work, counts)
            if mode & 1:
                correct_rows(tile, cols, limit, fewest, turned, work, counts)
            if mode & 2:
                correct_cols(tile, cols, limit, fewest, work, counts)
            for r in range(rows):
                at = corner + r * row_pixels
                to = at + cols
                code = usual[0, r]
                finish(raw, offset, factor, s, planes[code >> range_shift], at, to, bits, tile, r, out)
                for first in range(at, to if usual[1, r] else at, BLOCK):
                    last = min(first + BLOCK, to)
                    if not has_other(raw, s, first, last, range_mask, code):
                        continue
                    for other in range(len(planes)):
                        plane = planes[other]
                        wanted = np.uint16(other << range_shift)
                        if wanted == code or not has_code(raw, s, first, last, range_mask, wanted):
                            continue
                        if plane < 0:
                            clear_some(raw, s, wanted, first, last, bits, out)
                        else:
                            col = first - at
                            finish_some(
                                raw, offset, factor, s, plane, wanted, first, last, bits, tile, r, col, out
                            )
