"""Thresholding: the pixels of a range of values, as a sparse list of where they are and what they are.

Most blocks of neighbours have none, which is seen at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from calib.detectors._lanes import WIDTH, any_less, load, splat, within
from drp.fex._regions import Region, checked_shape, spans_of, used_pixels
from drp.fex.errors import FexError
from drp.fex.frames import Floats, Frame, Shape, segments_of

BLOCK = WIDTH
_at = np.uintp
_f32 = np.float32
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class SparsePixels:
    """Pixels of an event, in rising order: `index` uint32 in the flat (segments, rows, cols), `value` float32. Valid until the next call."""

    index: npt.NDArray[np.uint32]
    value: Floats

    def __len__(self) -> int:
        return len(self.index)


class Threshold:
    """Finds the pixels that are at least `low` and below `high` in every event. One instance for each thread."""

    def __init__(
        self,
        shape: Shape,
        low: float,
        high: float = np.inf,
        region: Region = None,
        mask: npt.ArrayLike | None = None,
    ) -> None:
        """Prepare for frames of `shape` (segments, rows, cols); limits in the unit of the pixels, compared as float32.

        `region` and `mask` are as in `RoiStatistics`. Pixels that are not finite are never found. Raises FexError.
        """
        self.shape = checked_shape(shape)
        if not low < high:
            raise FexError(f"there are no values from {low} to below {high}", "Give the lower one first")
        with np.errstate(over="ignore"):
            self._limits = (_f32(max(low, -LARGEST)), _f32(high))
        self._spans = spans_of(used_pixels(self.shape, region, mask))
        size = int(np.prod(self.shape))
        if size >= 1 << 32:
            raise FexError(
                f"{size:,} pixels are more than an index of 32 bits can tell apart", "Give fewer segments"
            )
        self._index = np.empty(size + 1, np.uint32)
        self._value = np.empty(size + 1, np.float32)  # one more: see _find
        self._blocks = np.empty(self.shape[2] // BLOCK + 1, np.int64)
        self.of(np.zeros(self.shape, np.float32))

    def of(self, frame: Frame) -> SparsePixels:
        """Return the pixels of a float32 frame that are in the range."""
        n, pixels_before = 0, 0
        for pixels, spans in zip(segments_of(frame, self.shape), self._spans, strict=True):
            n = _find(pixels, spans, *self._limits, pixels_before, n, self._blocks, self._index, self._value)
            pixels_before += pixels.size
        return SparsePixels(self._index[:n], self._value[:n])


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    Threshold((1, 1, 1), 0)


@numba.njit(cache=True, nogil=True)
def _find(
    pixels: Any, spans: Any, low: Any, high: Any, before: Any, n: Any, blocks: Any, index: Any, value: Any
) -> Any:
    """Write the pixels of the range behind the first `n`; return how many there are then.

    Which blocks and pixels these are nobody can predict, so each is written down, and kept by being counted, without a branch.
    """
    below = np.nextafter(low, _f32(-np.inf))
    for k in range(spans.shape[0]):
        row, begin, end = spans[k, 0], spans[k, 1], spans[k, 2]
        m = 0
        for first in range(begin, end, BLOCK):
            blocks[m] = first
            m += first + BLOCK > end or _any(pixels, row, first, below)
        for at in range(m):
            for i in range(blocks[at], min(blocks[at] + BLOCK, end)):
                x = pixels[row, i]
                index[n] = before + row * pixels.shape[1] + i
                value[n] = x
                n += (x >= low) & (x < high)
    return n


@within
def _any(pixels: Any, row: Any, begin: Any, below: Any) -> Any:
    """Say whether any pixel of a whole block is above a limit."""
    start = _at(pixels.ctypes.data) + _at(4) * (_at(row) * _at(pixels.shape[1]) + _at(begin))
    return any_less(splat(below), load(start))
