"""Plans of images: which pixel goes to which bin, computed once, and images drawn by them.

A plan is a handful of arrays: it can be made in one process, put into shared memory and used in another (`arrays`, `from_arrays`). It
knows nothing of panels and positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from calib.errors import GeometryError

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U16 = npt.NDArray[np.uint16]

ENTRIES, LAST, LARGEST, MEAN, INTERPOLATED = range(5)
"""What an image shows where several pixels fall in one bin (`mapmode`)."""


@dataclass(frozen=True, slots=True, eq=False)
class ImagePlan:
    """How pixels become an image of `rows` x `cols`; all arrays int32, read-only, a bin's number being row * cols + column.

    `bins` (pixels,): the bin of each pixel. `merged_bins` (m,): those that several pixels fall in, which are
    `merged_pixels[merged_starts[i]:merged_starts[i + 1]]` in rising order. `holes` (h,): empty bins whose neighbours are not, and
    `hole_neighbours` (h, 4), one repeated at the image's border.
    """

    rows: int
    cols: int
    bins: I32
    merged_bins: I32
    merged_starts: I32
    merged_pixels: I32
    holes: I32
    hole_neighbours: I32

    @classmethod
    def of_indexes(cls, rows: I32, cols: I32, shape: tuple[int, int]) -> Self:
        """Make the plan of an image of `shape` from the row and column of each pixel, two arrays of one shape."""
        bins = rows.ravel() * np.int32(shape[1]) + cols.ravel()
        entries = np.bincount(bins, minlength=shape[0] * shape[1])
        shared = np.flatnonzero(entries[bins] > 1)
        order = shared[np.argsort(bins[shared], kind="stable")]
        merged, starts = np.unique(bins[order], return_index=True)
        holes = np.flatnonzero(_holes((entries > 0).reshape(shape)))
        return cls._checked(
            *shape, bins, merged, np.append(starts, order.size), order, holes, _neighbours(holes, shape)
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Make a plan from what `arrays` gave, without copying; the memory must outlive the plan.

        Raises GeometryError for arrays that are missing or would lead outside of image or data.
        """
        try:
            rows, cols, *rest = (arrays[field.name] for field in fields(cls))
        except KeyError as error:
            raise GeometryError(
                f"a plan of images without {error.args[0]!r}", hint="Pass all of arrays()."
            ) from None
        return cls._checked(int(rows), int(cols), *rest)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that the plan is, by name."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def _checked(cls, rows: int, cols: int, *arrays: npt.NDArray[Any]) -> Self:
        """Make the plan, if every index leads inside; the loops that use it do not look."""
        plan = cls(rows, cols, *map(_read_only, arrays))
        size = rows * cols
        starts = plan.merged_starts
        fits = (
            min(rows, cols) > 0
            and all(
                _within(at, size) for at in (plan.bins, plan.merged_bins, plan.holes, plan.hole_neighbours)
            )
            and _within(plan.merged_pixels, plan.bins.size)
            and starts.shape == (plan.merged_bins.size + 1,)
            and _within(starts, plan.merged_pixels.size + 1)
            and bool(np.all(np.diff(starts) > 0))
            and plan.hole_neighbours.shape == (plan.holes.size, 4)
        )
        if not fits:
            raise GeometryError(
                "a plan of images that does not fit itself", hint="Make it anew from the geometry."
            )
        return plan

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.rows, self.cols

    def entries(self) -> U16:
        """Return how many pixels fall in each bin (rows, cols)."""
        return np.bincount(self.bins, minlength=self.rows * self.cols).reshape(self.shape).astype(np.uint16)

    def apply(
        self,
        data: npt.NDArray[Any],
        *,
        mapmode: int = LAST,
        fillholes: bool = True,
        vbase: float = 0.0,
        out: F32 | None = None,
    ) -> F32:
        """Return the image of `data`, float32 (rows, cols), in `out` if that is given.

        `data` has as many numbers as the plan has pixels, in any shape and any real dtype; float32 and C-contiguous is not copied.
        `mapmode` is 1 (last), 2 (largest) or 3 (mean) of the pixels in a bin. Holes get the least of their four neighbours if
        `fillholes`, and what no pixel falls in gets `vbase`. Raises GeometryError for data or `out` that do not fit.
        """
        from calib.geometry import _kernels  # noqa: PLC0415 - numba takes a second: only for who draws

        if mapmode not in (LAST, LARGEST, MEAN):
            raise GeometryError(
                f"there is no mapmode {mapmode!r} of a plan", hint="1: last, 2: largest, 3: mean."
            )
        flat = flat_pixels(data, self.bins.size)
        image = image_to_fill(out, self.shape)
        drawn = image.reshape(-1)
        _kernels.draw(flat, self.bins, np.float32(vbase), drawn)
        if mapmode != LAST:
            merged = (self.merged_bins, self.merged_starts, self.merged_pixels)
            _kernels.merge(flat, *merged, mapmode == MEAN, drawn)
        if fillholes:
            _kernels.fill(self.holes, self.hole_neighbours, drawn)
        return image


def flat_pixels(data: npt.NDArray[Any], pixels: int) -> F32:
    """Return data as the kernels take them: float32, flat, read-only; not copied where that is not needed."""
    flat = np.ascontiguousarray(data, np.float32).reshape(-1)
    if flat.size != pixels:
        raise GeometryError(
            f"data of shape {np.shape(data)} are no {pixels} pixels",
            hint="Pass data of the segments that were named.",
        )
    view = flat.view()
    view.flags.writeable = False
    return view


def image_to_fill(out: F32 | None, shape: tuple[int, int]) -> F32:
    """Return `out`, if an image fits it, or a new array."""
    if out is None:
        return np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise GeometryError(
            f"an image cannot be drawn in out, {out.dtype} {out.shape}",
            hint=f"It has to be a writeable C-contiguous float32 of {shape}.",
        )
    return out


def _read_only(array: npt.NDArray[Any]) -> I32:
    view = np.ascontiguousarray(array, np.int32).view()
    view.flags.writeable = False
    return view


def _within(array: I32, end: int) -> bool:
    return not array.size or (int(array.min()) >= 0 and int(array.max()) < end)


def _holes(busy: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Say of which bins all neighbours, but not they themselves, have pixels; at the border there are fewer neighbours."""
    holes = ~busy
    if busy.size == 1:
        return np.zeros_like(busy)
    holes[:-1] &= busy[1:]
    holes[1:] &= busy[:-1]
    holes[:, :-1] &= busy[:, 1:]
    holes[:, 1:] &= busy[:, :-1]
    return holes


def _neighbours(holes: npt.NDArray[np.intp], shape: tuple[int, int]) -> I32:
    """Return the bins above, below, left and right of each hole; one of the others stands for what is beyond the border."""
    rows, cols = np.divmod(holes, shape[1])
    bins = []
    for up, left in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        row, col = rows + up, cols + left
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        bins.append(np.where(inside, row * shape[1] + col, -1))
    table = np.stack(bins, axis=1)
    return np.where(table < 0, table.max(axis=1, keepdims=True), table).astype(np.int32)
