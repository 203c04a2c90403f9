"""Rebinning: blocks of rows x columns become one pixel, by their sum or their mean, of calibrated frames or of photon counts.

Blocks are added up as if all pixels were used, row by row; those with masked pixels, which are few and known beforehand, are then done again.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numba
import numpy as np
import numpy.typing as npt

from drp.fex._regions import checked_dtype, checked_shape, input_segments, used_pixels
from drp.fex.errors import FexError
from drp.fex.frames import Array, Frame, Shape

How = Literal["sum", "mean"]
DTYPES = ("float32", "uint8", "uint16")
MOST_PIXELS = 1 << 16
"""Pixels of a block; as many of uint16 still fit uint32."""
_at = np.uintp


class Rebin:
    """Rebins every event by the same factors. One instance for each thread.

    The result is float32; the sum of photon counts (uint8 or uint16) is uint32.
    """

    def __init__(
        self,
        shape: Shape,
        factors: tuple[int, int],
        how: How = "sum",
        mask: npt.ArrayLike | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        """Prepare for events of `shape` (segments, rows, cols) and `dtype` (float32, uint8 or uint16).

        `factors`: (rows, columns) of a block, which must divide those of a segment. `mask` is 1 where a pixel is used; others add nothing and do not
        count in the mean; a block without any is 0. Raises FexError where something does not fit.
        """
        self.shape = checked_shape(shape)
        self._dtype = checked_dtype(dtype, DTYPES)
        segments, rows, cols = self.shape
        down, across = factors
        if down < 1 or across < 1 or rows % down or cols % across or down * across > MOST_PIXELS:
            raise FexError(
                f"{rows} x {cols} pixels are no blocks of {down} x {across}",
                f"Take factors that divide them, at most {MOST_PIXELS} pixels together",
            )
        if how not in get_args(How):
            raise FexError(f"blocks have no {how!r}", f"Take one of {', '.join(get_args(How))}")
        self.factors = (down, across)
        kind = np.uint32 if self._dtype.kind == "u" else np.float32
        self._out = np.zeros((segments, rows // down, cols // across), kind)
        self._parts = list(self._out)
        self._row = np.zeros(cols, kind)
        self._used = used_pixels(self.shape, mask=mask)
        blocks = self._used.reshape(segments, rows // down, down, cols // across, across)
        n = blocks.sum(axis=(2, 4))
        self._masked = [np.argwhere(segment < down * across).astype(np.int32) for segment in n]
        self._share = (
            np.divide(1, n, out=np.zeros(n.shape, np.float32), where=n > 0) if how == "mean" else None
        )
        self._means = np.zeros(n.shape, np.float32) if how == "mean" else self._out
        self.of(np.zeros(self.shape, self._dtype))

    @property
    def result_shape(self) -> Shape:
        """(segments, rows, cols) of the result."""
        segments, rows, cols = self._out.shape
        return segments, rows, cols

    def of(self, event: Frame) -> Array:
        """Return the rebinned event, valid until the next call. FexError where it is not of the shape and dtype given before."""
        segments = input_segments(event, self.shape, self._dtype)
        for pixels, used, masked, out in zip(segments, self._used, self._masked, self._parts, strict=True):
            _rebin(pixels, *self.factors, self._row, out)
            if len(masked):
                _rebin_masked(pixels, used, masked, *self.factors, out)
        if self._share is not None:
            np.multiply(self._out, self._share, out=self._means, dtype=np.float32, casting="unsafe")
        return self._means


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    for dtype in DTYPES:
        Rebin((1, 2, 1), (1, 1), mask=[[[1], [0]]], dtype=dtype)


@numba.njit(cache=True, nogil=True)
def _rebin(pixels: Any, down: Any, across: Any, row: Any, out: Any) -> None:
    """Add the rows of blocks up, then their columns."""
    kind = row.dtype.type
    cols = _at(len(row))
    for r in range(out.shape[0]):
        first = r * down
        for i in range(cols):
            row[i] = kind(pixels[first, i])
        for other in range(first + 1, first + down):
            for i in range(cols):
                row[i] += kind(pixels[other, i])
        _fold(row, _at(across), out, r)


@numba.njit(nogil=True, forceinline=True)
def _fold(row: Any, across: Any, out: Any, r: Any) -> None:
    """Add neighbours up; the usual factors by themselves, for which the compiler knows how far apart they are."""
    n = _at(out.shape[1])
    if across == 2:
        for i in range(n):
            out[r, i] = row[_at(2) * i] + row[_at(2) * i + _at(1)]
    elif across == 4:
        for i in range(n):
            j = _at(4) * i
            out[r, i] = (row[j] + row[j + _at(1)]) + (row[j + _at(2)] + row[j + _at(3)])
    else:
        for i in range(n):
            total = row[i * across]
            for k in range(_at(1), across):
                total += row[i * across + k]
            out[r, i] = total


@numba.njit(cache=True, nogil=True)
def _rebin_masked(pixels: Any, used: Any, blocks: Any, down: Any, across: Any, out: Any) -> None:
    """Do the blocks with masked pixels again."""
    kind = out.dtype.type
    for k in range(blocks.shape[0]):
        row, col = blocks[k, 0] * down, blocks[k, 1] * across
        total = kind(0)
        for i in range(row, row + down):
            for j in range(col, col + across):
                if used[i, j]:
                    total += kind(pixels[i, j])
        out[blocks[k, 0], blocks[k, 1]] = total
