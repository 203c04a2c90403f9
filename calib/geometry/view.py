"""View: how the plane of an image is laid over a detector, and Scale: where a point of the plane is in the image.

Names and defaults of the options are psana's. The order of operations is psana's too, so that pixels fall in the same bins to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, TypedDict

import numpy as np
import numpy.typing as npt

from calib.errors import GeometryError

F64 = npt.NDArray[np.float64]

MOST_IMAGE_BINS = 1 << 27
"""Half a gigabyte of image: panels further apart are taken for a mistake."""


class ViewOptions(TypedDict, total=False):
    """Options of an image's plane.

    `pix_scale_size_um`: size of a bin, None (the default) for that of a pixel. `xy0_off_pix`: bins before the first pixel, down and
    across, if positive. `do_tilt` (True): with the tilts of metrology. `cframe` (0): 0 psana's frame, 1 the laboratory's.
    """

    pix_scale_size_um: float | None
    xy0_off_pix: tuple[float, float] | None
    do_tilt: bool
    cframe: int


@dataclass(frozen=True, slots=True)
class View:
    """The options, made comparable: bins of `size_um`, `offset` of at least 0."""

    size_um: float
    offset: tuple[float, float]
    do_tilt: bool
    lab: bool

    @classmethod
    def of(
        cls,
        ordinary_um: float,
        *,
        pix_scale_size_um: float | None = None,
        xy0_off_pix: tuple[float, float] | None = None,
        do_tilt: bool = True,
        cframe: int = 0,
    ) -> Self:
        """Read the options for a detector whose ordinary pixels are `ordinary_um` large. Raises GeometryError."""
        size = ordinary_um if pix_scale_size_um is None else float(pix_scale_size_um)
        x, y = (0.0, 0.0) if xy0_off_pix is None else (float(xy0_off_pix[0]), float(xy0_off_pix[1]))
        if not (math.isfinite(size) and size > 0 and math.isfinite(x) and math.isfinite(y)):
            raise GeometryError(
                f"bins of {size} um, moved by {x}, {y}",
                hint="pix_scale_size_um has to be more than 0, xy0_off_pix numbers.",
            )
        return cls(size, (max(x, 0.0), max(y, 0.0)), bool(do_tilt), cframe > 0)


class Scale:
    """From um in a view's frame to rows and columns of the image of a whole detector, and that image's shape."""

    def __init__(self, view: View, x: F64, y: F64, *, where: str = "") -> None:
        """Make it from the coordinates of all pixels; `where` names the geometry. Raises GeometryError for too large an image."""
        down, across = view.offset
        size = view.size_um
        self.size_um = size
        self.lab = view.lab
        self.x0 = x.min() - down * size - size / 2
        self.y0 = y.max() + across * size + size / 2 if self.lab else y.min() - across * size - size / 2
        ends = self.bins(np.array([x.min(), x.max()]), np.array([y.min(), y.max()]))
        rows, cols = (int(end.max()) + 1 for end in ends)
        if rows * cols > MOST_IMAGE_BINS:
            hint = f"At most {MOST_IMAGE_BINS} are drawn: look for a panel that is misplaced, or make bins larger."
            raise GeometryError(f"an image of {rows} x {cols} bins", where=where, hint=hint)
        self.shape = (rows, cols)

    def bins(self, x: F64, y: F64) -> tuple[F64, F64]:
        """Return rows and columns of points, in bins and parts of them."""
        if self.lab:
            return (self.y0 - y) / self.size_um, (x - self.x0) / self.size_um
        return (x - self.x0) / self.size_um, (y - self.y0) / self.size_um
