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
    """How pixels become an image; all arrays int32, read-only, a bin's number being row * columns + column.

    `source` (rows, cols): the last pixel in each bin, -1 where there is none. `merged_bins` (m,): bins of several pixels, which are
    `merged_pixels[merged_starts[i]:merged_starts[i + 1]]` in rising order. `holes` (h,): empty bins whose neighbours are not, and
    `hole_neighbours` (h, 4), one repeated at the image's border.
    """

    pixels: int
    source: I32
    merged_bins: I32
    merged_starts: I32
    merged_pixels: I32
    holes: I32
    hole_neighbours: I32

    @classmethod
    def of_indexes(cls, rows: I32, cols: I32, shape: tuple[int, int]) -> Self:
        """Make the plan of an image of `shape` from the row and column of each pixel, two arrays of one shape."""
        bins = rows.ravel().astype(np.int64) * shape[1] + cols.ravel()
        entries = np.bincount(bins, minlength=shape[0] * shape[1])
        source = np.full(entries.size, -1, np.int32)
        source[bins] = np.arange(bins.size, dtype=np.int32)
        shared = np.flatnonzero(entries[bins] > 1).astype(np.int32)
        np.maximum.at(source, bins[shared], shared)  # whatever order the assignment above went in
        order = shared[np.argsort(bins[shared], kind="stable")]
        merged, starts = np.unique(bins[order], return_index=True)
        holes = np.flatnonzero(_holes((entries > 0).reshape(shape))).astype(np.int32)
        return cls._checked(
            bins.size,
            source.reshape(shape),
            merged.astype(np.int32),
            np.append(starts, order.size).astype(np.int32),
            order,
            holes,
            _neighbours(holes, shape),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Make a plan from what `arrays` gave, without copying; the memory must outlive the plan.

        Raises GeometryError for arrays that are missing or would lead outside of image or data.
        """
        try:
            return cls._checked(
                int(arrays["pixels"]),
                *(arrays[field.name] for field in fields(cls)[1:]),
            )
        except KeyError as error:
            raise GeometryError(
                f"a plan of images without {error.args[0]!r}", hint="Pass all of arrays()."
            ) from None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that the plan is, by name."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def _checked(cls, pixels: int, *arrays: npt.NDArray[Any]) -> Self:
        """Make the plan, if every index leads inside; the loops that use it do not look."""
        plan = cls(pixels, *map(_read_only, arrays))
        bins = plan.source.size
        ok = (
            plan.source.ndim == 2
            and _within(plan.source, -1, pixels)
            and _within(plan.merged_bins, 0, bins)
            and _within(plan.merged_pixels, 0, pixels)
            and plan.merged_starts.shape == (plan.merged_bins.size + 1,)
            and bool(np.all(np.diff(plan.merged_starts) > 0))
            and int(plan.merged_starts[0]) >= 0
            and int(plan.merged_starts[-1]) <= plan.merged_pixels.size
            and _within(plan.holes, 0, bins)
            and plan.hole_neighbours.shape == (plan.holes.size, 4)
            and _within(plan.hole_neighbours, 0, bins)
        )
        if not ok:
            raise GeometryError(
                "a plan of images that does not fit itself", hint="Make it anew from the geometry."
            )
        return plan

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.source.shape[0], self.source.shape[1]

    def entries(self) -> U16:
        """Return how many pixels fall in each bin (rows, cols)."""
        count = (self.source >= 0).astype(np.uint16)
        count.ravel()[self.merged_bins] = np.diff(self.merged_starts)
        return count

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
        flat = flat_pixels(data, self.pixels)
        image = image_to_fill(out, self.shape)
        _kernels.draw(flat, self.source, np.float32(vbase), image)
        if mapmode != LAST and self.merged_bins.size:
            merged = (self.merged_bins, self.merged_starts, self.merged_pixels)
            _kernels.merge(flat, *merged, mapmode == MEAN, image.ravel())
        if fillholes and self.holes.size:
            _kernels.fill(self.holes, self.hole_neighbours, image.ravel())
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


def _within(array: I32, low: int, end: int) -> bool:
    return not array.size or (int(array.min()) >= low and int(array.max()) < end)


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


def _neighbours(holes: I32, shape: tuple[int, int]) -> I32:
    """Return the bins above, below, left and right of each hole; one of the others stands for what is beyond the border."""
    rows, cols = np.divmod(holes.astype(np.int64), shape[1])
    bins = []
    for up, left in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        row, col = rows + up, cols + left
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        bins.append(np.where(inside, row * shape[1] + col, -1))
    table = np.stack(bins, axis=1)
    return np.where(table < 0, table.max(axis=1, keepdims=True), table).astype(np.int32)
