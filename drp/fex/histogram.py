"""Histograms: how many pixels lie in each of equal bins, below, above, and nowhere; the same counts as NumPy's to the last one.

The bin of a float32 pixel is computed in float32, many at once. Where rounding could put one into its neighbour, the block it is in is done again by
comparing with the edges. Whole numbers of at most 16 bits have a table of the bin of each value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from calib.detectors._lanes import within
from drp.fex._regions import (
    FLOAT32,
    Region,
    checked_dtype,
    checked_shape,
    input_segments,
    spans_of,
    used_pixels,
)
from drp.fex.errors import FexError
from drp.fex.frames import Frame, Shape

DTYPES = ("float32", "uint8", "uint16", "int16")
MOST_BINS = 65_000
LANES = 8
BLOCK = 128
LARGE = 1e30  # within it nothing that counts leaves the range of float32
LARGEST = float(np.finfo(np.float32).max)
EPSILON = float(np.finfo(np.float32).eps)
_at = np.uintp
_f32 = np.float32
_BESIDE = 3  # below, above, NaN


@dataclass(frozen=True, slots=True)
class Counts:
    """A histogram: `counts` int64 (bins,) and how many pixels are outside; valid until the next call of what made it."""

    counts: npt.NDArray[np.int64]
    _slots: npt.NDArray[np.int64]

    @property
    def below(self) -> int:
        """Pixels below the first edge."""
        return int(self._slots[0])

    @property
    def above(self) -> int:
        """Pixels above the last edge."""
        return int(self._slots[-2])

    @property
    def nan(self) -> int:
        """Pixels that are no numbers."""
        return int(self._slots[-1])


class Histogram:
    """Histogram of every event over the same bins; `edges` float64 (bins + 1,). One instance for each thread.

    A bin holds its lower edge, the last one its upper edge too, as in `numpy.histogram`.
    """

    def __init__(
        self,
        shape: Shape,
        bins: int,
        limits: tuple[float, float],
        region: Region = None,
        mask: npt.ArrayLike | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        """Prepare for events of `shape` (segments, rows, cols) and `dtype` (float32, uint8, uint16 or int16).

        `bins` of equal width between `limits`, in the unit of the pixels. `region` and `mask` are as in `RoiStatistics`. Raises FexError.
        """
        self.shape = checked_shape(shape)
        self._dtype = checked_dtype(dtype, DTYPES)
        low, high = (float(one) for one in limits)
        if not 1 <= bins <= MOST_BINS or not -LARGEST <= low < high <= LARGEST:
            raise FexError(
                f"{bins} bins between {low:g} and {high:g} are no histogram",
                f"Give 1 to {MOST_BINS}, and (least, largest)",
            )
        self.edges = np.linspace(low, high, bins + 1)
        if not (np.diff(self.edges) > 0).all():
            raise FexError(
                f"{bins} bins between {low!r} and {high!r} are narrower than numbers can tell", "Take fewer"
            )
        self._spans = spans_of(used_pixels(self.shape, region, mask))
        self._lanes = np.zeros((LANES, bins + _BESIDE), np.uint32)
        slots = np.zeros(bins + _BESIDE, np.int64)
        self._found = Counts(slots[1:-2], slots)
        self._places = np.zeros((2, BLOCK), np.int32)
        scale = bins / (high - low)
        # What float32 can be wrong by: the difference, its factor and their product are rounded, and so is `low`.
        doubt = EPSILON * (2.5 * (bins + 2) + abs(low) * scale)
        fits = max(-low, high) < LARGE and 1 / LARGE < scale < LARGE
        self._law = (low, scale, doubt if fits else 1.0)
        self._table = least_float32(self.edges) if self._dtype == FLOAT32 else self._place_of_each()
        self.of(np.zeros(self.shape, self._dtype))

    def _place_of_each(self) -> npt.NDArray[np.uint16]:
        """Return the slot of each value, in the order of the bits."""
        bits = np.arange(1 << 8 * self._dtype.itemsize, dtype=f"u{self._dtype.itemsize}")
        values = bits.view(self._dtype)
        place = np.searchsorted(self.edges, values, side="right")
        place[values == self.edges[-1]] -= 1
        return place.astype(np.uint16)

    def of(self, event: Frame) -> Counts:
        """Return the histogram of an event. FexError where it is not of the shape and dtype given before."""
        segments = input_segments(event, self.shape, self._dtype)
        self._lanes[...] = 0
        for pixels, spans in zip(segments, self._spans, strict=True):
            if self._dtype == FLOAT32:
                _count_floats(pixels, spans, self._table, self._law, self._places, self._lanes)
            else:
                _count_table(pixels.view(f"u{self._dtype.itemsize}"), spans, self._table, self._lanes)
        np.sum(self._lanes, axis=0, out=self._found._slots)
        return self._found


def least_float32(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the least float32 at or above each edge, but for the last: the largest at or below it."""
    with np.errstate(over="ignore"):
        near = edges.astype(np.float32)
    near = np.where(near < edges, np.nextafter(near, _f32(np.inf)), near)
    last = _f32(edges[-1])
    near[-1] = np.nextafter(last, _f32(-np.inf)) if last > edges[-1] else last
    return near


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    for dtype in DTYPES:
        Histogram((1, 1, 1), 1, (0, 1), dtype=dtype)


@numba.njit(cache=True, nogil=True)
def _count_floats(pixels: Any, spans: Any, least: Any, law: Any, places: Any, lanes: Any) -> None:
    """Count the pixels of the spans; slot 0 is below, then come the bins, above, and NaN."""
    bins = np.int32(lanes.shape[1] - _BESIDE)
    for k in range(spans.shape[0]):
        row, beyond = spans[k, 0], spans[k, 2]
        for begin in range(spans[k, 1], beyond, BLOCK):
            n = min(BLOCK, beyond - begin)
            if _place(pixels, row, begin, n, law, bins, places):
                for i in range(n):
                    if places[0, i] != places[1, i]:
                        places[0, i] = _place_surely(pixels[row, begin + i], law, bins, least)
            _count(places, n, lanes)


@within
def _place(pixels: Any, row: Any, begin: Any, n: Any, law: Any, bins: Any, places: Any) -> Any:
    """Write the slots of a block, the lowest and the highest that rounding leaves open; say whether they differ anywhere."""
    low, scale, doubt = _f32(law[0]), _f32(law[1]), _f32(law[2])
    top = _f32(bins) + _f32(0.5)
    differ = np.int32(0)
    for i in range(_at(n)):
        at = (pixels[row, _at(begin) + i] - low) * scale
        inside = min(max(at, _f32(-0.5)), top) + _f32(1)
        lowest, highest = np.int32(inside - doubt), np.int32(inside + doubt)
        highest = highest if at == at else np.int32(-1)  # noqa: PLR0124 - NaN is not itself
        differ |= lowest ^ highest
        places[0, i], places[1, i] = lowest, highest
    return differ != 0


@within
def _place_surely(x: Any, law: Any, bins: Any, least: Any) -> Any:
    """Return the slot of a pixel, by comparing it with the edges."""
    if not x >= least[0]:
        return np.int32(0) if x == x else bins + np.int32(2)  # noqa: PLR0124 - NaN is not itself
    if x > least[bins]:
        return bins + np.int32(1)
    place = min(max(np.int32((np.float64(x) - law[0]) * law[1]), np.int32(0)), bins - np.int32(1))
    while x < least[place]:
        place -= np.int32(1)
    while place < bins - np.int32(1) and x >= least[place + np.int32(1)]:
        place += np.int32(1)
    return place + np.int32(1)


@within
def _count(places: Any, n: Any, lanes: Any) -> None:
    """Count slots, neighbours in lanes of their own, since they are often the same and one would wait for the other."""
    eights = _at(n) // _at(LANES) * _at(LANES)
    for i in range(_at(0), eights, _at(LANES)):
        for lane in range(_at(LANES)):
            lanes[lane, _at(places[0, i + lane])] += np.uint32(1)
    for i in range(eights, _at(n)):
        lanes[0, _at(places[0, i])] += np.uint32(1)


@numba.njit(cache=True, nogil=True)
def _count_table(bits: Any, spans: Any, table: Any, lanes: Any) -> None:
    """Count pixels of whole numbers, whose slots are in a table."""
    for k in range(spans.shape[0]):
        row, begin, end = spans[k, 0], _at(spans[k, 1]), _at(spans[k, 2])
        eights = begin + (end - begin) // _at(LANES) * _at(LANES)
        for i in range(begin, eights, _at(LANES)):
            for lane in range(_at(LANES)):
                lanes[lane, table[bits[row, i + lane]]] += np.uint32(1)
        for i in range(eights, end):
            lanes[0, table[bits[row, i]]] += np.uint32(1)
