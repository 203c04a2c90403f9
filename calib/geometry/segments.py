"""Segment: where the pixels of one panel are in the panel's own frame, and the panel classes that we know by name.

A class is what a geometry text calls a panel, such as `JUNGFRAU:V2`. All of them are separable: the position of a pixel along one axis
depends on its column alone, along the other on its row alone. Sizes, seams and wide pixels are facts of the detectors, as psana's
segment geometries have them. This module knows nothing of where panels are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from calib.errors import GeometryError

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

MOST_SIDE = 1 << 14
"""A MTRX panel of more rows or columns is taken for a mistake."""

DEPTH_UM = 400.0


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One class of panel.

    `rows_um` (rows,) and `cols_um` (cols,) are the positions of pixel centres in um, `row_sizes_um` and `col_sizes_um` the sizes of
    pixels along the same axes; all float64 and read-only. Columns lie along x and rows along y, or the other way round where
    `rows_along_x`. `scale_um` is the size of an image's bin. Seams are the first rows and columns of every ASIC but the first.
    """

    name: str
    rows_um: F64
    cols_um: F64
    row_sizes_um: F64
    col_sizes_um: F64
    scale_um: float
    depth_um: float = DEPTH_UM
    row_seams: tuple[int, ...] = ()
    col_seams: tuple[int, ...] = ()
    rows_along_x: bool = False

    def __post_init__(self) -> None:
        for axis in (self.rows_um, self.cols_um, self.row_sizes_um, self.col_sizes_um):
            axis.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows_um), len(self.cols_um)

    def coords(self) -> tuple[F64, F64, F64]:
        """Return x, y and z of every pixel's centre in um, each (rows, cols); z is 0."""
        return (*self._spread(self.rows_um, self.cols_um), np.zeros(self.shape))

    def sizes(self) -> tuple[F64, F64, F64]:
        """Return the sizes of every pixel along x, y and z in um, each (rows, cols)."""
        return (*self._spread(self.row_sizes_um, self.col_sizes_um), np.full(self.shape, self.depth_um))

    def _spread(self, rows: F64, cols: F64) -> tuple[F64, F64]:
        down = np.repeat(rows[:, None], len(cols), axis=1)
        across = np.repeat(cols[None, :], len(rows), axis=0)
        return (down, across) if self.rows_along_x else (across, down)

    def areas(self) -> F64:
        """Return the area of every pixel (rows, cols), in areas of an ordinary pixel of this panel."""
        sizes: F64 = np.outer(self.row_sizes_um, self.col_sizes_um)
        sizes *= 1.0 / (np.median(self.row_sizes_um) * np.median(self.col_sizes_um))
        return sizes

    def mask(
        self,
        *,
        width: int = 0,
        wcenter: int = 0,
        edge_rows: int = 1,
        edge_cols: int = 1,
        center_rows: int = 1,
        center_cols: int = 1,
    ) -> U8:
        """Return a mask, uint8 (rows, cols), 0 at the panel's edges and on both sides of the seams between ASICs.

        Widths are in pixels; `width` stands for both edges and `wcenter` for both kinds of seams where it is not 0.
        """
        edge_rows, edge_cols = (width, width) if width > 0 else (edge_rows, edge_cols)
        center_rows, center_cols = (wcenter, wcenter) if wcenter > 0 else (center_rows, center_cols)
        rows, cols = self.shape
        mask = np.ones(self.shape, np.uint8)
        for length, edge, at in ((rows, edge_rows, mask), (cols, edge_cols, mask.T)):
            at[: max(edge, 0)] = 0
            at[max(length - max(edge, 0), 0) :] = 0
        for seams, reach, at in ((self.row_seams, center_rows, mask), (self.col_seams, center_cols, mask.T)):
            for seam in seams if reach > 0 else ():
                at[max(seam - reach, 0) : seam + reach] = 0
        return mask


def _mirrored(half: int, pixel: float, wide: float) -> F64:
    """Positions of two ASICs' pixels on either side of 0, ascending; the wide pixel keeps the place of an ordinary one."""
    right = np.arange(half) * pixel + wide - pixel / 2
    return np.concatenate((-right[::-1], right))


def _steps(count: int, pixel: float, before: float = 0.0) -> F64:
    """Positions one pixel apart, with `before` pixels before 0."""
    steps: F64 = (np.arange(count, dtype=np.float64) - before) * pixel
    return steps


def _sizes(count: int, pixel: float, wide: float = 0.0, seams: tuple[int, ...] = ()) -> F64:
    """Sizes of pixels, those on both sides of a seam wide."""
    sizes = np.full(count, float(pixel))
    for seam in seams:
        sizes[seam - 1 : seam + 1] = wide
    return sizes


def _two_by_two(name: str, rows: int, cols: int, pixel: float, wide: float, *, up: bool = False) -> Segment:
    """Return a panel of 2 x 2 ASICs with wide pixels where they meet; y falls with the row, or rises with it where `up`."""
    seams = ((rows // 2,), (cols // 2,))
    along_y = _mirrored(rows // 2, pixel, wide)
    return Segment(
        name,
        along_y if up else -along_y,
        _mirrored(cols // 2, pixel, wide),
        _sizes(rows, pixel, wide, seams[0]),
        _sizes(cols, pixel, wide, seams[1]),
        float(pixel),
        row_seams=seams[0],
        col_seams=seams[1],
    )


_JUNGFRAU_ASIC = 256
_JUNGFRAU_UM = 75.0
_JUNGFRAU_SEAMS = ((256,), (256, 512, 768))


def _jungfrau(name: str) -> Segment:
    """2 x 4 ASICs of 256 x 256 with gaps of two pixels. V1: y falls with the row; V2: y rises, and pixels at gaps are twice as wide."""
    second = name == "JUNGFRAU:V2"
    asic = np.arange(_JUNGFRAU_ASIC) * _JUNGFRAU_UM
    cols = np.concatenate([asic + start * _JUNGFRAU_UM for start in (-514.5, -256.5, 1.5, 259.5)])
    rows = np.concatenate([asic + start * _JUNGFRAU_UM for start in (-256.5, 1.5)])
    wide = _JUNGFRAU_UM
    if second:
        wide = 2 * _JUNGFRAU_UM
        for axis, seams in ((rows, _JUNGFRAU_SEAMS[0]), (cols, _JUNGFRAU_SEAMS[1])):
            for seam in seams:
                axis[seam - 1] += _JUNGFRAU_UM / 2
                axis[seam] -= _JUNGFRAU_UM / 2
    else:
        rows = -rows
    return Segment(
        name,
        rows,
        cols,
        _sizes(len(rows), _JUNGFRAU_UM, wide, _JUNGFRAU_SEAMS[0]),
        _sizes(len(cols), _JUNGFRAU_UM, wide, _JUNGFRAU_SEAMS[1]),
        _JUNGFRAU_UM,
        row_seams=_JUNGFRAU_SEAMS[0],
        col_seams=_JUNGFRAU_SEAMS[1],
    )


def _epixhr1x4(name: str) -> Segment:
    """1 x 4 ASICs of 144 x 192, 350 um between the centres of pixels on either side of a gap."""
    pixel, wide, asic = 100.0, 225.0, 192
    first = np.arange(asic) * pixel - pixel / 2 + wide
    right = np.concatenate((first, first + wide * 2 + (asic - 1) * pixel))
    rows = (np.arange(72) * pixel) - pixel / 2
    return Segment(
        name,
        np.concatenate((rows[::-1], -rows)),
        np.concatenate((-right[::-1], right)),
        _sizes(144, pixel),
        _sizes(768, pixel),
        pixel,
        col_seams=(192, 384, 576),
    )


def _epixuhr3x2(name: str) -> Segment:
    """2 x 3 ASICs of 168 x 192, 425 um between the centres of pixels on either side of a gap."""
    pixel, wide, gap = 100.0, 262.5, 425.0
    middle = np.arange(192) * pixel - 191 * pixel / 2
    step = 191 * pixel + gap
    return Segment(
        name,
        -_mirrored(168, pixel, wide),
        np.concatenate((middle - step, middle, middle + step)),
        _sizes(336, pixel, wide, (168,)),
        _sizes(576, pixel, wide, (192, 384)),
        pixel,
        row_seams=(168,),
        col_seams=(192, 384),
    )


def _centred(
    name: str, rows: int, cols: int, row_um: float, col_um: float, depth_um: float = 100.0
) -> Segment:
    """Return a plain matrix about its middle: x rises with the column, y falls with the row (`MTRX:V2`)."""
    return Segment(
        name,
        _steps(rows, -row_um, float(rows - 1) / 2),
        _steps(cols, col_um, float(cols - 1) / 2),
        _sizes(rows, row_um),
        _sizes(cols, col_um),
        min(row_um, col_um),
        depth_um,
    )


def _cornered(
    name: str, rows: int, cols: int, row_um: float, col_um: float, depth_um: float = 100.0
) -> Segment:
    """Return a plain matrix from its corner: x rises with the row, y with the column (`MTRX`)."""
    return Segment(
        name,
        _steps(rows, row_um),
        _steps(cols, col_um),
        _sizes(rows, row_um),
        _sizes(cols, col_um),
        min(row_um, col_um),
        depth_um,
        rows_along_x=True,
    )


_CLASSES: dict[str, Callable[[str], Segment]] = {
    "JUNGFRAU:V1": _jungfrau,
    "JUNGFRAU:V2": _jungfrau,
    "EPIX10KA:V1": lambda name: _two_by_two(name, 352, 384, 100.0, 225.0),
    "EPIXHR2X2:V1": lambda name: _two_by_two(name, 288, 384, 100.0, 225.0),
    "EPIXHR1X4:V1": _epixhr1x4,
    "EPIXUHR3X2:V1": _epixuhr3x2,
    "EPIXUHRASIC:V1": lambda name: _centred(name, 168, 192, 100.0, 100.0, 500.0),
    "EPIXMASIC:V1": lambda name: _centred(name, 192, 384, 50.0, 50.0, 500.0),
    "EPIX100:V1": lambda name: _two_by_two(name, 704, 768, 50.0, 175.0, up=True),
    "PNCCD:V1": lambda name: _cornered(name, 512, 512, 75.0, 75.0, DEPTH_UM),
}
_MATRIX_FORMS = "MTRX:V2:rows:cols:row_um:col_um or MTRX:rows:cols:row_um:col_um"


def segment_classes() -> tuple[str, ...]:
    """Return the names of the panel classes that we know; matrices of any size (`MTRX:...`) come on top."""
    return tuple(_CLASSES)


@lru_cache(maxsize=64)
def segment_class(name: str) -> Segment:
    """Return the panel class of a name, such as `EPIX10KA:V1` or `MTRX:V2:512:512:54:54`.

    Raises GeometryError for a name that is none, with those that are near it.
    """
    if name == "MTRX" or name.startswith("MTRX:"):
        return _matrix(name)
    made = _CLASSES.get(name)
    if made is None:
        near = get_close_matches(name.upper(), _CLASSES, n=3, cutoff=0.6)
        hint = (
            f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(_CLASSES)} and MTRX:..."
        )
        raise GeometryError(f"there is no panel class {name!r}", hint=hint)
    return made(name)


def is_segment_class(name: str) -> bool:
    """Say whether a name is meant as a panel class: a known one, or a MTRX right or wrong."""
    return name in _CLASSES or name == "MTRX" or name.startswith("MTRX:")


def _matrix(name: str) -> Segment:
    """Return the matrix that a MTRX name describes."""
    fields = name.split(":")[1:]
    make = _cornered
    if fields and fields[0] == "V2":
        make, fields = _centred, fields[1:]
    try:
        if len(fields) != 4:
            raise ValueError
        rows, cols, row_um, col_um = int(fields[0]), int(fields[1]), float(fields[2]), float(fields[3])
    except ValueError:
        raise GeometryError(f"panel class {name!r} cannot be read", hint=f"Write {_MATRIX_FORMS}.") from None
    if not (1 <= rows <= MOST_SIDE and 1 <= cols <= MOST_SIDE):
        raise GeometryError(
            f"panel class {name!r} has {rows} x {cols} pixels", hint=f"A side has 1 to {MOST_SIDE} pixels."
        )
    if not all(math.isfinite(size) and size > 0 for size in (row_um, col_um)):
        raise GeometryError(
            f"panel class {name!r} has pixels of no size", hint="Give sizes in um, more than 0."
        )
    return make(name, rows, cols, row_um, col_um)
