"""Common mode: what all pixels of a bank, of a row in it, or of a column in it have in common in an event is electronics, and is taken away.

The parameters are psana's `cmpars`: (algorithm, mode, largest correction in ADU, fewest pixels). Mode 4 corrects whole banks, 1 rows in banks,
2 columns in banks, in this order, sums of them more than one; each by the median of the pixels that count, which is not applied where it is as
large as the limit or where too few pixels count. Only pixels that count are corrected. psana's UtilsCommonMode is the source.

A bank is corrected as a tile that stays in the nearest caches: pixels go in less their pedestals, and come out times their factors, so
that the memory is gone through once as without this correction.
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
    """Room for one bank of `rows` x `cols` pixels and the search for its medians."""

    def __init__(self, rows: int, cols: int) -> None:
        lanes = max(LANES, cols)
        self.tile = np.empty((rows, cols), np.float32)
        self.turned = np.empty((cols, LANES), np.float32)
        self.work = np.empty((8, lanes), np.float32)
        self.counts = np.empty((5, lanes), np.int32)


@numba.njit(cache=True, nogil=True)
def fill(raw: Any, offset: Any, at: Any, planes: Any, bits: Any, level: Any, tile: Any, out: Any) -> None:
    """Subtract the pedestals of a row, which begin at `at`; into `tile` go the pixels that count (else +inf), into `out` all. -1 is an invalid range."""
    data_mask, data_shift, range_mask, range_shift = bits
    some = np.uint16(0)
    every = np.uint16(0xFFFF)
    for j in range(len(raw)):
        some |= raw[j]
        every &= raw[j]
    if (some ^ every) & range_mask == 0:
        plane = planes[(some & range_mask) >> range_shift]
        if plane < 0:
            tile[:] = INF
            out[:] = np.float32(0)
            return
        offsets = offset[plane, at : at + len(raw)]
        wanted = np.uint8(1 << plane)
        for j in range(len(raw)):
            value = np.float32(np.int32((raw[j] & data_mask) >> data_shift)) - offsets[j]
            out[j] = value
            tile[j] = value if level[j] & wanted else INF
        return
    for j in range(len(raw)):
        plane = planes[(raw[j] & range_mask) >> range_shift]
        tile[j] = INF
        out[j] = np.float32(0)
        if plane >= 0:
            out[j] = np.float32(np.int32((raw[j] & data_mask) >> data_shift)) - offset[plane, at + j]
            if level[j] >> plane & 1:
                tile[j] = out[j]


@numba.njit(cache=True, nogil=True)
def finish(raw: Any, factor: Any, at: Any, planes: Any, bits: Any, tile: Any, out: Any) -> None:
    """Multiply a row by its factors, which begin at `at`, the pixels that count as they are in `tile`."""
    range_mask, range_shift = bits[2], bits[3]
    some = np.uint16(0)
    every = np.uint16(0xFFFF)
    for j in range(len(raw)):
        some |= raw[j]
        every &= raw[j]
    if (some ^ every) & range_mask == 0:
        plane = planes[(some & range_mask) >> range_shift]
        if plane >= 0:
            factors = factor[plane, at : at + len(raw)]
            for j in range(len(raw)):
                value = tile[j] if tile[j] < INF else out[j]
                out[j] = value * factors[j]
        return
    for j in range(len(raw)):
        plane = planes[(raw[j] & range_mask) >> range_shift]
        if plane >= 0:
            value = tile[j] if tile[j] < INF else out[j]
            out[j] = value * factor[plane, at + j]


@numba.njit(cache=True, nogil=True)
def correct_rows(tile: Any, limit: Any, fewest: Any, turned: Any, work: Any, counts: Any) -> None:
    """Take the median of each row away. Rows are turned into columns, a block at a time, for the search."""
    rows, cols = tile.shape
    medians = work[7]
    for begin in range(0, rows, LANES):
        lanes = min(LANES, rows - begin)
        for r in range(lanes):
            row = tile[begin + r, :]
            for j in range(cols):
                turned[j, r] = row[j]
        lane_medians(turned, cols, lanes, limit, work, counts, medians)
        for r in range(lanes):
            if counts[0, r] > fewest and medians[r] < INF:
                row = tile[begin + r, :]
                median = medians[r]
                for j in range(cols):
                    row[j] -= median


@numba.njit(cache=True, nogil=True)
def correct_cols(tile: Any, limit: Any, fewest: Any, work: Any, counts: Any) -> None:
    """Take the median of each column away."""
    rows, cols = tile.shape
    medians = work[7, :cols]
    lane_medians(tile, rows, cols, limit, work, counts, medians)
    for j in range(cols):
        if counts[0, j] <= fewest or medians[j] == INF:
            medians[j] = np.float32(0)
    for r in range(rows):
        row = tile[r, :]
        for j in range(cols):
            row[j] -= medians[j]


@numba.njit(cache=True, nogil=True)
def correct(
    raw: Any,
    offset: Any,
    factor: Any,
    level: Any,
    planes: Any,
    bits: Any,
    shape: Any,
    banks: Any,
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

    `shape` is (rows, cols) of a segment, `banks` how many there are in rows and in columns; `tile` has the size of one.
    """
    rows, cols = tile.shape
    for s in range(raw.shape[0]):
        for bank in range(banks[0] * banks[1]):
            first = bank // banks[1] * rows * shape[1] + bank % banks[1] * cols
            for r in range(rows):
                at = first + r * shape[1]
                to = at + cols
                fill(
                    raw[s, at:to],
                    offset[s],
                    at,
                    planes,
                    bits,
                    level[s, at:to],
                    tile[r, :],
                    out[s, at:to],
                )
            if mode & 4:
                median = one_median(tile, rows, cols, limit, fewest)
                if median < INF:
                    for r in range(rows):
                        row = tile[r, :]
                        for j in range(cols):
                            row[j] -= median
            if mode & 1:
                correct_rows(tile, limit, fewest, turned, work, counts)
            if mode & 2:
                correct_cols(tile, limit, fewest, work, counts)
            for r in range(rows):
                at = first + r * shape[1]
                to = at + cols
                finish(raw[s, at:to], factor[s], at, planes, bits, tile[r, :], out[s, at:to])
