"""Common mode: what all pixels of a bank, of a row in it, or of a column in it have in common in an event is electronics, and is taken away.

The parameters are psana's `cmpars`: (algorithm, mode, largest correction in ADU, fewest pixels). Mode 4 corrects whole banks, 1 rows in banks,
2 columns in banks, in this order, sums of them more than one; each by the median of the pixels that count, which is not applied where it is as
large as the limit or where too few pixels count. Only pixels that count are corrected. psana's UtilsCommonMode is the source.

A group of neighbouring banks is corrected as a tile that stays in the nearer caches: pixels go in less their pedestals, and come out times their
factors, so that the memory is gone through once as without this correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from calib.detectors._medians import INF, lane_medians, one_median
from calib.errors import CalibError

OF_LEVEL = 7
"""The algorithm that counts pixels of high and medium gain only; the others count all."""
LANES = 64
"""Rows that are turned into columns at a time."""
MAX_LANES = 128
"""Columns that are searched at a time."""
TILE_COLS = 256
BLOCK = 64
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
        """Return psana's cmpars as a CommonMode, None where they ask for nothing; CalibError where they are none."""
        try:
            algorithm, mode = int(cmpars[0]), int(cmpars[1])
            limit = float(cmpars[2])
            fewest = int(cmpars[3]) if len(cmpars) > 3 else FEWEST
        except (TypeError, IndexError, ValueError):
            raise CalibError(
                f"cmpars={cmpars!r} are no common mode parameters",
                hint="Give (algorithm, mode, largest correction, fewest pixels), such as (7, 1, 200, 10)",
            ) from None
        return cls(algorithm, mode, limit, fewest) if mode & 7 else None


class Scratch:
    """Room for a group of banks of `rows` x `cols` pixels, `banks` of them side by side, and for the search for their medians."""

    def __init__(self, rows: int, cols: int, banks: int) -> None:
        together = max(
            one for one in range(1, banks + 1) if banks % one == 0 and (one == 1 or one * cols <= TILE_COLS)
        )
        self.bank_cols = cols
        self.tile = np.empty((rows, cols * together), np.float32)
        self.turned = np.empty((cols, LANES), np.float32)
        self.work = np.empty((8, max(LANES, MAX_LANES)), np.float32)
        self.counts = np.empty((5, max(LANES, MAX_LANES)), np.int32)


@numba.njit(cache=True, nogil=True)
def one_range(raw: Any, range_mask: Any, range_shift: Any) -> Any:
    """Return the range code that all pixels have, -1 where there are several, and whether any is not 0."""
    some = np.uint16(0)
    every = np.uint16(0xFFFF)
    for j in range(len(raw)):
        some |= raw[j]
        every &= raw[j]
    code = np.int64((some & range_mask) >> range_shift)
    return (code if (some ^ every) & range_mask == 0 else -1), some & range_mask != 0


@numba.njit(cache=True, nogil=True)
def fill(raw: Any, offset: Any, at: Any, planes: Any, bits: Any, level: Any, tile: Any) -> None:
    """Subtract the pedestals of a row, which begin at `at`; into `tile` go the pixels that count, +inf for the others."""
    data_mask, data_shift, range_mask, range_shift = bits
    code, _ = one_range(raw, range_mask, range_shift)
    plane = planes[max(code, 0)]
    if plane < 0:
        tile[:] = INF
        return
    offsets = offset[plane, at : at + len(raw)]
    wanted = np.uint8(1 << plane)
    for j in range(len(raw)):
        value = np.float32(np.int32((raw[j] & data_mask) >> data_shift)) - offsets[j]
        tile[j] = value if level[j] & wanted else INF
    if code >= 0:
        return
    for begin in range(0, len(raw), BLOCK):
        end = min(begin + BLOCK, len(raw))
        if one_range(raw[begin:end], range_mask, range_shift)[1]:
            for j in range(begin, end):
                code = (raw[j] & range_mask) >> range_shift
                if code:
                    plane = planes[code]
                    tile[j] = INF
                    if plane >= 0 and level[j] >> plane & 1:
                        tile[j] = (
                            np.float32(np.int32((raw[j] & data_mask) >> data_shift)) - offset[plane, at + j]
                        )


@numba.njit(cache=True, nogil=True)
def finish(raw: Any, offset: Any, factor: Any, at: Any, planes: Any, bits: Any, tile: Any, out: Any) -> None:
    """Multiply a row by its factors, which begin at `at`, the pixels that count as they are in `tile`."""
    data_mask, data_shift, range_mask, range_shift = bits
    code, _ = one_range(raw, range_mask, range_shift)
    plane = planes[max(code, 0)]
    if plane < 0:
        out[:] = np.float32(0)
        return
    offsets = offset[plane, at : at + len(raw)]
    factors = factor[plane, at : at + len(raw)]
    for j in range(len(raw)):
        value = np.float32(np.int32((raw[j] & data_mask) >> data_shift)) - offsets[j]
        out[j] = (tile[j] if tile[j] < INF else value) * factors[j]
    if code >= 0:
        return
    for begin in range(0, len(raw), BLOCK):
        end = min(begin + BLOCK, len(raw))
        if one_range(raw[begin:end], range_mask, range_shift)[1]:
            for j in range(begin, end):
                code = (raw[j] & range_mask) >> range_shift
                if code:
                    plane = planes[code]
                    out[j] = np.float32(0)
                    if plane >= 0:
                        value = (
                            np.float32(np.int32((raw[j] & data_mask) >> data_shift)) - offset[plane, at + j]
                        )
                        out[j] = (tile[j] if tile[j] < INF else value) * factor[plane, at + j]


@numba.njit(cache=True, nogil=True)
def correct_bank(tile: Any, first: Any, cols: Any, limit: Any, fewest: Any) -> None:
    """Take the median of a bank, the columns from `first` on, away."""
    median = one_median(tile, tile.shape[0], first, cols, limit, fewest)
    if median < INF:
        for r in range(tile.shape[0]):
            row = tile[r, first : first + cols]
            for j in range(cols):
                row[j] -= median


@numba.njit(cache=True, nogil=True)
def correct_rows(tile: Any, first: Any, limit: Any, fewest: Any, turned: Any, work: Any, counts: Any) -> None:
    """Take the median of each row of a bank away. Rows are turned into columns, a block at a time, for the search."""
    rows = tile.shape[0]
    cols = turned.shape[0]
    medians = work[7]
    for begin in range(0, rows, LANES):
        lanes = min(LANES, rows - begin)
        for r in range(lanes):
            row = tile[begin + r, first : first + cols]
            for j in range(cols):
                turned[j, r] = row[j]
        lane_medians(turned, cols, 0, lanes, limit, work, counts, medians)
        for r in range(lanes):
            if counts[0, r] > fewest and medians[r] < INF:
                row = tile[begin + r, first : first + cols]
                median = medians[r]
                for j in range(cols):
                    row[j] -= median


@numba.njit(cache=True, nogil=True)
def correct_cols(tile: Any, limit: Any, fewest: Any, work: Any, counts: Any) -> None:
    """Take the median of each column away."""
    rows = tile.shape[0]
    for first in range(0, tile.shape[1], MAX_LANES):
        lanes = min(MAX_LANES, tile.shape[1] - first)
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
    planes: Any,
    bits: Any,
    row_pixels: Any,
    mode: Any,
    limit: Any,
    fewest: Any,
    tile: Any,
    turned: Any,
    work: Any,
    counts: Any,
    out: Any,
) -> None:
    """Calibrate uint16 pixels with common mode; arrays as those of `apply_ranges`, `level` uint8 (segments, pixels) has a bit for each plane.

    A row of a segment has `row_pixels`; `tile` has the size of a group of banks, and `turned` is as deep as one bank is wide.
    """
    rows, cols = tile.shape
    bank_cols = turned.shape[0]
    across = row_pixels // cols
    for s in range(raw.shape[0]):
        for part in range(raw.shape[1] // (rows * cols)):
            first = part // across * rows * row_pixels + part % across * cols
            for r in range(rows):
                at = first + r * row_pixels
                to = at + cols
                fill(raw[s, at:to], offset[s], at, planes, bits, level[s, at:to], tile[r, :])
            for bank in range(0, cols, bank_cols):
                if mode & 4:
                    correct_bank(tile, bank, bank_cols, limit, fewest)
                if mode & 1:
                    correct_rows(tile, bank, limit, fewest, turned, work, counts)
            if mode & 2:
                correct_cols(tile, limit, fewest, work, counts)
            for r in range(rows):
                at = first + r * row_pixels
                to = at + cols
                finish(raw[s, at:to], offset[s], factor[s], at, planes, bits, tile[r, :], out[s, at:to])
