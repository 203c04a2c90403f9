"""In which direction from the sample each pixel lies: scattering angle, scattering vector, azimuth, solid angle, polarization.

A pixel's place is given in the detector's frame: axis 1 along rows (slow), axis 2 along columns (fast), axis 3 away from the sample. The PONI turns
and moves it into that of the sample: t1, t2, and t3 along the beam (Kieffer and others, J. Synchrotron Rad. 27, 558 (2020), and "Geometry" in
pyFAI's documentation). Data are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drp.fex.errors import FexError
from drp.fex.poni import Poni

Floats = NDArray[np.float64]
CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))
"""Rows and columns from the middle of a pixel to its corners."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a radial axis counts. `of` takes t (3, ...) in m and the wavelength in m; times `scale` that is in this unit."""

    of: Callable[[Floats, float], Floats]
    scale: float
    label: str
    needs_wavelength: bool = False


def _radius(t: Floats, _: float = 0.0) -> Floats:
    radius: Floats = np.hypot(t[0], t[1])
    return radius


def _angle(t: Floats, _: float = 0.0) -> Floats:
    angle: Floats = np.arctan2(_radius(t), t[2])
    return angle


def _azimuth(t: Floats) -> Floats:
    azimuth: Floats = np.arctan2(t[0], t[1])
    return azimuth


def _vector(t: Floats, wavelength: float) -> Floats:
    q: Floats = 4e-9 * np.pi / wavelength * np.sin(_angle(t) / 2)
    return q


UNITS = {
    "q_nm^-1": Unit(_vector, 1.0, "q (nm$^{-1}$)", needs_wavelength=True),
    "q_A^-1": Unit(_vector, 0.1, "q ($\\mathrm{\\AA}^{-1}$)", needs_wavelength=True),
    "2th_deg": Unit(_angle, 180 / np.pi, "2$\\theta$ (degrees)"),
    "r_mm": Unit(_radius, 1e3, "radius (mm)"),
}


class Directions:
    """The directions of the pixels of a detector of `shape` (segments, rows, cols).

    `of_poni` and `of_coords` make them. All that is returned is float64 of that shape.
    """

    def __init__(self, poni: Poni, places: Floats, rows: Floats, cols: Floats) -> None:
        """Take the places of pixels (3, segments, rows, cols) and each panel's steps along rows and columns (3, segments), in m, detector's frame."""
        self.poni = poni
        self.shape: tuple[int, int, int] = places.shape[1:]
        turn = rotation(poni)
        origin = np.array([-poni.poni1, -poni.poni2, poni.distance])[:, None, None, None]
        self._t = np.tensordot(turn, places + origin, 1)
        self._rows, self._cols = turn @ rows, turn @ cols
        if not np.isfinite(self._t).all():
            raise FexError("the places of some pixels are not finite", "Look at the geometry")
        if not (self._t[2].mean(axis=(1, 2)) > 0).all():
            raise FexError(
                "panels lie beside or behind the sample",
                "Give a PONI with the distance, or a geometry with z below 0",
            )

    @classmethod
    def of_poni(cls, poni: Poni, shape: Sequence[int]) -> Directions:
        """Take the pixels as a grid, as of the PONI's detector; `shape` is (rows, cols) or (1, rows, cols). Raises FexError."""
        grid = tuple(shape)[-2:]
        if len(shape) > 2 and shape[0] != 1:
            raise FexError(
                f"a PONI's detector is one panel, not {shape[0]}", "Give det.raw.pixel_coords() with it"
            )
        if poni.pixel_m is None:
            raise FexError(
                f"the PONI does not say how large a pixel of {poni.detector or 'the detector'} is",
                "Give det.raw.pixel_coords() with it, or write the file with pixel1 and pixel2",
            )
        if poni.shape not in (None, grid):
            raise FexError(f"the PONI is of a detector of {poni.shape} pixels, frames are {grid}")
        signs = (-1 if poni.orientation in (1, 2) else 1, -1 if poni.orientation in (1, 4) else 1)
        axes = [
            (np.arange(n)[::sign] + 0.5) * pixel
            for n, sign, pixel in zip(grid, signs, poni.pixel_m, strict=True)
        ]
        first, second = np.meshgrid(*axes, indexing="ij")
        places = np.stack([first, second, np.zeros(grid)])[:, None]
        rows, cols = (np.zeros((3, 1)) for _ in range(2))
        rows[0], cols[1] = signs[0] * poni.pixel_m[0], signs[1] * poni.pixel_m[1]
        return cls(poni, places, rows, cols)

    @classmethod
    def of_coords(
        cls, coords: Sequence[NDArray[Any]], poni: Poni | None = None, *, z_um: float | None = None
    ) -> Directions:
        """Take the pixels as `det.raw.pixel_coords()` gives them: x down the rows, y along the columns, z against the beam, (segments, rows, cols)
        each, um.

        Without a distance in `poni`, z says it. Else that distance is the one of the pixels at `z_um`: by default the mean z of these pixels, which
        other segments of the detector do not share. The size of a panel's pixels is its usual step from one to the next. Raises FexError.
        """
        poni = poni or Poni()
        x, y, z = (np.asarray(one, np.float64) * 1e-6 for one in coords)
        if x.ndim != 3 or not x.shape == y.shape == z.shape or min(x.shape[1:]) < 2:
            raise FexError(
                f"coordinates are {x.shape}, {y.shape}, {z.shape}; each has to be (segments, rows, columns)"
            )
        origin = float(z.mean()) if z_um is None else z_um * 1e-6
        places = np.stack([x, y, origin - z])
        rows, cols = (np.median(np.diff(places, axis=axis), axis=(2, 3)) for axis in (2, 3))
        return cls(replace(poni, distance=poni.distance or -origin), places, rows, cols)

    def radial(self, unit: str) -> tuple[Floats, Floats]:
        """Return the radial coordinate of each pixel's middle, and how far its farthest corner is from that, both before scaling; raise FexError."""
        one = unit_of(unit)
        wavelength = self.poni.wavelength
        if one.needs_wavelength and wavelength is None:
            raise FexError(f"{unit} needs the wavelength", "Give a PONI with it, or take 2th_deg or r_mm")
        return self._reach(lambda t: one.of(t, wavelength or 0.0))

    def azimuth(self) -> tuple[Floats, Floats]:
        """Return the azimuth of each pixel's middle, from axis 2 towards axis 1, -pi to pi, and how far its farthest corner is from that."""
        return self._reach(_azimuth, period=2 * np.pi)

    def solid_angle(self) -> Floats:
        """Return the solid angle of each pixel over that of one that faces the sample at the detector's distance."""
        normal = np.cross(self._rows, self._cols, axis=0)
        normal /= np.linalg.norm(normal, axis=0)
        height = abs(np.einsum("as,asrc->src", normal, self._t))
        away = np.linalg.norm(self._t, axis=0)
        relative: Floats = height * self.poni.distance**2 / away**3
        return relative

    def polarization(self, factor: float) -> Floats:
        """Return what polarization leaves of the light; `factor` is 1 where it is along axis 2, -1 along axis 1, 0 where there is none.

        (1 + cos^2 - factor cos(2 azimuth) sin^2) / 2 of the scattering angle, as pyFAI has it. FexError: a factor that is not -1 to 1.
        """
        if not -1 <= factor <= 1:
            raise FexError(f"a polarization factor of {factor} cannot be", "Give -1 to 1")
        cos2 = np.cos(_angle(self._t)) ** 2
        left: Floats = 0.5 * (1 + cos2 - factor * np.cos(2 * _azimuth(self._t)) * (1 - cos2))
        return left

    def _reach(self, of: Callable[[Floats], Floats], period: float = np.inf) -> tuple[Floats, Floats]:
        """Return a coordinate of each pixel's middle, and how far its farthest corner is from that; by segments, as that takes less memory."""
        middle, reach = np.zeros((2, *self.shape))
        for segment in range(self.shape[0]):
            t = self._t[:, segment]
            middle[segment] = of(t)
            for row, col in CORNERS:
                step = row * self._rows[:, segment] + col * self._cols[:, segment]
                away = abs(of(t + step[:, None, None]) - middle[segment])
                np.maximum(reach[segment], np.minimum(away, period - away), out=reach[segment])
        return middle, reach


def unit_of(name: str) -> Unit:
    """Return the unit of that name; FexError names those there are."""
    if name not in UNITS:
        raise FexError(f"there is no unit {name!r}", f"Known are {', '.join(UNITS)}")
    return UNITS[name]


def rotation(poni: Poni) -> Floats:
    """Return the matrix that turns the detector's frame into the sample's: by rot1 about axis 1, rot2 about axis 2, rot3 about axis 3, in this order.

    As pyFAI has it, rot1 and rot2 are left-handed.
    """
    (c1, c2, c3), (s1, s2, s3) = (f([poni.rot1, poni.rot2, poni.rot3]) for f in (np.cos, np.sin))
    first = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
    second = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
    third = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    turned: Floats = third @ second @ first
    return turned
