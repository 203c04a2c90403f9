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
        used = used_pixels(self.shape, mask=mask)
        blocks = used.reshape(segments, rows // down, down, cols // across, across)
        n = blocks.sum(axis=(2, 4))
        self._masked = [_masked_blocks(segment, down, across) for segment in used]
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
        for number, pixels in enumerate(segments):
            out, masked = self._parts[number], self._masked[number]
            _rebin(pixels, *self.factors, self._row, out)
            if len(masked[0]):
                _rebin_masked(pixels.reshape(-1), *masked, out.reshape(-1))
            if self._share is not None:
                np.multiply(
                    out, self._share[number], out=self._means[number], dtype=np.float32, casting="unsafe"
                )
        return self._means


def _masked_blocks(used: npt.NDArray[np.bool_], down: int, across: int) -> tuple[Array, Array, Array]:
    """Return the blocks of a segment that have masked pixels: where they are in the result, where the used pixels of each begin and end in the
    third, and which these are; flat indices.
    """
    rows, cols = used.shape
    number = np.arange(rows)[:, None] // down * (cols // across) + np.arange(cols) // across
    n = np.bincount(number[used], minlength=rows * cols // (down * across))
    masked = n < down * across
    inside = np.flatnonzero(used & masked[number])
    pixels = inside[np.argsort(number.reshape(-1)[inside], kind="stable")]
    ends = np.concatenate([[0], np.cumsum(n[masked])])
    return np.flatnonzero(masked).astype(np.int32), ends.astype(np.int32), pixels.astype(np.int32)


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
def _rebin_masked(pixels: Any, blocks: Any, ends: Any, used: Any, out: Any) -> None:
    """Do the blocks with masked pixels again."""
    kind = out.dtype.type
    for k in range(len(blocks)):
        total = kind(0)
        for j in range(ends[k], ends[k + 1]):
            total += kind(pixels[used[j]])
        out[blocks[k]] = total
