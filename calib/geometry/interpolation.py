"""Interpolated images: each bin's value from the four pixels around its middle (mapmode 4).

Panels are flat, so the way from a panel's frame to the image is affine: it is inverted for every bin, and the bin's place among the
panel's rows and columns gives the weights. The formula of four nodes is f00 + (f10 - f00) x + (f01 - f00) y + (f11 + f00 - f10 - f01) xy.
Nothing is extrapolated: a bin beyond the outer edge of a panel's pixels is empty, one between the edge and the outermost centres takes
the outermost value. Where panels overlap, the last wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from calib.errors import GeometryError
from calib.geometry.image import F32, I32, flat_pixels, image_to_fill
from calib.geometry.segments import Segment

F64 = npt.NDArray[np.float64]

_FLATTEST = 1e-6
"""A panel seen so much from the side that its image has no area."""


@dataclass(frozen=True, slots=True, eq=False)
class InterpolationPlan:
    """Which four pixels each bin lies between: `corner` int32 (rows, cols), -1 for none, and the fractions of the way to the next row
    (`down`) and column (`across`), float32; `stride` is the number of columns of a panel.
    """

    pixels: int
    stride: int
    corner: I32
    down: F32
    across: F32

    @classmethod
    def of_panels(cls, segments: Sequence[Segment], frames: Sequence[F64], shape: tuple[int, int]) -> Self:
        """Make the plan of an image of `shape`.

        `frames` are the panels' affine ways to the image, float64 (2, 3) each: image row and column, in bins, as
        `frame[:, 0] + frame[:, 1] * u + frame[:, 2] * v`, u along the panel's columns and v along its rows in um. A bin's middle
        is at its number + 1/2.
        """
        corner = np.full(shape, -1, np.int32)
        down, across = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        rows, cols = segments[0].shape
        for number, (segment, frame) in enumerate(zip(segments, frames, strict=True)):
            box = _bounds(segment, frame, shape)
            u, v = _on_panel(frame, box)
            row, row_part, in_rows = _between(segment.rows_um, segment.row_sizes_um, v)
            col, col_part, in_cols = _between(segment.cols_um, segment.col_sizes_um, u)
            inside = in_rows & in_cols
            first = number * rows * cols
            corner[box][inside] = (first + row * cols + col)[inside]
            down[box][inside] = row_part[inside]
            across[box][inside] = col_part[inside]
        return cls._checked(len(segments) * rows * cols, cols, corner, down, across)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Make a plan from what `arrays` gave, without copying; raises GeometryError where that leads outside of the data."""
        try:
            return cls._checked(
                int(arrays["pixels"]),
                int(arrays["stride"]),
                *(arrays[field.name] for field in fields(cls)[2:]),
            )
        except KeyError as error:
            raise GeometryError(
                f"a plan of images without {error.args[0]!r}", hint="Pass all of arrays()."
            ) from None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that the plan is, by name."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def _checked(cls, pixels: int, stride: int, *arrays: npt.NDArray[Any]) -> Self:
        """Make the plan, if every index leads inside; the loop that uses it does not look."""
        corner = np.ascontiguousarray(arrays[0], np.int32).view()
        down, across = (np.ascontiguousarray(array, np.float32).view() for array in arrays[1:])
        for array in (corner, down, across):
            array.flags.writeable = False
        fits = corner.ndim == 2 and corner.shape == down.shape == across.shape and stride > 0
        if fits and corner.size:
            furthest = corner.astype(np.int64) + np.where(down > 0, stride, 0) + np.where(across > 0, 1, 0)
            fits = int(corner.min()) >= -1 and int(furthest[corner >= 0].max(initial=-1)) < pixels
        if not fits:
            raise GeometryError(
                "a plan of images that does not fit itself", hint="Make it anew from the geometry."
            )
        return cls(pixels, stride, corner, down, across)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.corner.shape[0], self.corner.shape[1]

    def apply(self, data: npt.NDArray[Any], *, vbase: float = 0.0, out: F32 | None = None) -> F32:
        """Return the image of `data`, float32 (rows, cols), in `out` if that is given; as `ImagePlan.apply`."""
        from calib.geometry import _kernels  # noqa: PLC0415 - numba takes a second: only for who draws

        flat = flat_pixels(data, self.pixels)
        image = image_to_fill(out, self.shape)
        _kernels.interpolate(
            flat,
            self.corner.reshape(-1),
            self.down.reshape(-1),
            self.across.reshape(-1),
            self.stride,
            np.float32(vbase),
            image.reshape(-1),
        )
        return image


def _bounds(segment: Segment, frame: F64, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the box of bins that a panel can reach."""
    sides = [
        (axis.min() - sizes.max() / 2, axis.max() + sizes.max() / 2)
        for axis, sizes in ((segment.cols_um, segment.col_sizes_um), (segment.rows_um, segment.row_sizes_um))
    ]
    corners = np.array([frame @ (1.0, u, v) for u in sides[0] for v in sides[1]])
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)) + 1, shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _on_panel(frame: F64, box: tuple[slice, slice]) -> tuple[F64, F64]:
    """Return u and v of the middles of a box's bins, in um in the panel's frame."""
    (a, b), (c, d) = frame[:, 1:]
    area = a * d - b * c
    if abs(area) < _FLATTEST * max(a * a + c * c, b * b + d * d):
        raise GeometryError(
            "a panel is seen from its side", hint="It has no image to interpolate: use another mapmode."
        )
    row = (np.arange(box[0].start, box[0].stop) + 0.5 - frame[0, 0])[:, None]
    col = (np.arange(box[1].start, box[1].stop) + 0.5 - frame[1, 0])[None, :]
    return (d * row - b * col) / area, (a * col - c * row) / area


def _between(axis: F64, sizes: F64, places: F64) -> tuple[npt.NDArray[np.int64], F64, npt.NDArray[np.bool_]]:
    """Return the pixel before each place on an axis, the fraction of the way to the next, and whether the place is on the panel."""
    if len(axis) == 1:
        inside = np.abs(places - axis[0]) <= sizes[0] / 2
        return np.zeros(places.shape, np.int64), np.zeros(places.shape), inside
    if axis[0] > axis[-1]:
        axis, places = -axis, -places
    reached = np.maximum.accumulate(axis)  # EPIXHR1X4:V1 has two rows that fall back
    before = np.clip(np.searchsorted(reached, places, side="right") - 1, 0, len(axis) - 2)
    part = np.clip((places - axis[before]) / (axis[before + 1] - axis[before]), 0.0, 1.0)
    inside = (places >= axis[0] - sizes[0] / 2) & (places <= axis[-1] + sizes[-1] / 2)
    return before, part, inside
