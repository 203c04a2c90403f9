"""Statistics of a region: number of pixels, sum, mean, standard deviation, least, largest, and centre of mass, of each segment and of the whole.

A stretch of pixels is read from memory once: sums in float32 lanes, then, still in the fastest cache, the squares about its own mean; stretches are
put together in float64 (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983) 242, eq. 1.5).
Pixels that are not finite are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from calib.detectors._lanes import within
from drp.fex._regions import Region, checked_shape, spans_of, used_pixels
from drp.fex.frames import Frame, Shape, segments_of

Floats = npt.NDArray[np.float64]
_at = np.uintp
_f32 = np.float32
_LOWEST, _HIGHEST = np.int32(-0x80000000), np.int32(0x7FFFFFFF)
_N, _SUM, _MEAN, _STD, _MIN, _MAX, _ROW, _COL, _SQUARES = range(9)
_SMALL = 1e-25  # squares of numbers below its root are lost in float32

# Only the order of additions is left to the compiler, which float32 sums of thousands of pixels need to be vectorised.
in_any_order = numba.njit(nogil=True, forceinline=True, fastmath={"reassoc", "nsz", "contract"})


class Whole(NamedTuple):
    """Statistics of all segments of a region. `std` is that of NumPy; NaN where there is no pixel."""

    n: int
    sum: float
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a region in each segment, float64 (segments,), valid until the next call of what made them.

    `row` and `col` are the centre of mass within the segment, weighted by the values. Where a segment has no pixel of the region `n` and `sum` are
    0, the others NaN.
    """

    _whole: Floats
    n: Floats
    sum: Floats
    mean: Floats
    std: Floats
    min: Floats
    max: Floats
    row: Floats
    col: Floats

    @property
    def whole(self) -> Whole:
        """The statistics over all segments."""
        n, *others = self._whole[: _MAX + 1].tolist()
        return Whole(int(n), *others)


class RoiStatistics:
    """Statistics of the same region of every event. One instance for each thread."""

    def __init__(self, shape: Shape, region: Region = None, mask: npt.ArrayLike | None = None) -> None:
        """Prepare for frames of `shape` (segments, rows, cols).

        `region` is a Roi or a tuple of slices (rows, columns) of every segment, or an array of that shape, not 0 inside (see `sector`); None for all.
        `mask` is 1 where a pixel is used. Raises FexError where they do not fit, or no pixel is left.
        """
        self.shape = checked_shape(shape)
        self._spans = spans_of(used_pixels(self.shape, region, mask))
        self._columns = np.arange(self.shape[2], dtype=np.float32)
        self._table = np.zeros((self.shape[0] + 1, _SQUARES + 1))
        self._rows = list(self._table[:-1])
        self._scratch = np.zeros(_SQUARES + 1)
        self._found = Statistics(self._table[-1], *self._table[:-1, :_SQUARES].T)
        self.of(np.zeros(self.shape, np.float32))

    def of(self, frame: Frame) -> Statistics:
        """Return the statistics of a float32 frame."""
        for segment, spans, row in zip(segments_of(frame, self.shape), self._spans, self._rows, strict=True):
            _segment_statistics(segment, self._columns, spans, row, self._scratch)
        _whole_statistics(self._table)
        return self._found


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    RoiStatistics((1, 1, 1))


@in_any_order
def _sums(pixels: Any, keys: Any, columns: Any, row: Any, begin: Any, end: Any) -> Any:
    """Return the sum, the sum weighted by the column, and the least and the largest key of a span."""
    total, weighted, low, high = _f32(0), _f32(0), _HIGHEST, _LOWEST
    for i in range(_at(begin), _at(end)):
        x = pixels[row, i]
        total += x
        weighted += x * columns[i]
        key = _order(keys[row, i])
        low = min(low, key)
        high = max(high, key)
    return total, weighted, low, high


@within
def _order(bits: Any) -> Any:
    """Return whole numbers in the order of the floats with these bits, and back: what a processor finds the least of without asking for NaN."""
    return bits ^ ((bits >> np.int32(31)) & _HIGHEST)


@in_any_order
def _squares(pixels: Any, row: Any, begin: Any, end: Any, about: Any) -> Any:
    """Return the sum of the squares about a number."""
    total = _f32(0)
    for i in range(_at(begin), _at(end)):
        apart = pixels[row, i] - about
        total += apart * apart
    return total


@within
def _float_of(key: Any) -> Any:
    """Return the float32 of a key."""
    return np.float64(np.int32(_order(key)).view(np.float32))


@numba.njit(cache=True, nogil=True)
def _carefully(pixels: Any, columns: Any, row: Any, begin: Any, end: Any, out: Any) -> None:
    """Write n, sum, mean, sum of squares, least, largest and weighted sum of the finite pixels of a span, in float64."""
    n, total, weighted, squares, low, high = 0.0, 0.0, 0.0, 0.0, np.inf, -np.inf
    for i in range(begin, end):
        x = np.float64(pixels[row, i])
        if np.isfinite(x):
            n += 1
            total += x
            weighted += x * columns[i]
            low = min(low, x)
            high = max(high, x)
    mean = total / n if n else 0.0
    for i in range(begin, end):
        x = np.float64(pixels[row, i])
        if np.isfinite(x):
            squares += (x - mean) ** 2
    out[_N], out[_SUM], out[_MEAN], out[_SQUARES] = n, total, mean, squares
    out[_MIN], out[_MAX], out[_COL] = low, high, weighted


@within
def _join(out: Any, n: Any, mean: Any, squares: Any) -> None:
    """Add the mean and squares of `n` pixels to those that are there."""
    both = out[_N] + n
    if n > 0:
        apart = mean - out[_MEAN]
        out[_SQUARES] += squares + apart * apart * (out[_N] * n / both)
        out[_MEAN] += apart * (n / both)
        out[_N] = both


@within
def _close(out: Any) -> None:
    """Make the deviation of the squares, and NaN of what no pixel has."""
    if out[_N] > 0:
        out[_STD] = np.sqrt(out[_SQUARES] / out[_N])
    else:
        out[_MEAN : _COL + 1] = np.nan


@numba.njit(cache=True, nogil=True)
def _segment_statistics(pixels: Any, columns: Any, spans: Any, out: Any, scratch: Any) -> None:
    """Write the statistics of the spans of one segment."""
    keys = pixels.view(np.int32)
    out[:] = 0.0
    low, high = np.inf, -np.inf
    for k in range(spans.shape[0]):
        row, begin, end = spans[k, 0], spans[k, 1], spans[k, 2]
        n = np.float64(end - begin)
        total, weighted, least, largest = _sums(pixels, keys, columns, row, begin, end)
        mean = np.float64(total) / n
        squares = np.float64(_squares(pixels, row, begin, end, _f32(mean)))
        if np.isfinite(weighted) and np.isfinite(squares) and (squares > _SMALL or least == largest):
            low, high = min(low, _float_of(least)), max(high, _float_of(largest))
            out[_SUM] += total
            out[_ROW] += np.float64(total) * row
            out[_COL] += weighted
            _join(out, n, mean, squares)
        else:
            _carefully(pixels, columns, row, begin, end, scratch)
            low, high = min(low, scratch[_MIN]), max(high, scratch[_MAX])
            out[_SUM] += scratch[_SUM]
            out[_ROW] += scratch[_SUM] * row
            out[_COL] += scratch[_COL]
            _join(out, scratch[_N], scratch[_MEAN], scratch[_SQUARES])
    out[_MIN], out[_MAX] = low, high
    out[_ROW] = out[_ROW] / out[_SUM] if out[_SUM] != 0 else np.nan
    out[_COL] = out[_COL] / out[_SUM] if out[_SUM] != 0 else np.nan
    _close(out)


@numba.njit(cache=True, nogil=True)
def _whole_statistics(table: Any) -> None:
    """Write into the last row what the others come to together."""
    whole = table[-1]
    whole[:] = 0.0
    low, high = np.inf, -np.inf
    for s in range(table.shape[0] - 1):
        if table[s, _N] > 0:
            _join(whole, table[s, _N], table[s, _MEAN], table[s, _SQUARES])
            whole[_SUM] += table[s, _SUM]
            low, high = min(low, table[s, _MIN]), max(high, table[s, _MAX])
    whole[_MIN], whole[_MAX] = low, high
    _close(whole)
