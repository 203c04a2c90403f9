"""Azimuthal integration: the mean of a frame's pixels in bins of scattering angle, scattering vector or radius, and its error.

A pixel is split over the bins it lies in by the extent of its corners (bounding box). Of pixels with signal s, share c of the bin and norm n (solid
angle times polarization) the curve is I = sum(c s) / sum(c n) / monitor. Its error, the standard error of the mean, is sqrt(V) / sum(c n) / monitor,
with V = sum(c^2 max(s, 1)) for "poisson" and V = sum(c^2 (s - I n)^2) for "azimuthal". So has pyFAI (its documentation, "Preprocessing" and "Pixel
splitting"), which is the judge in the tests and may do the work instead (`method="pyFAI"`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drp.fex._bins import BEYOND, MOST, Axis
from drp.fex._engines import Pixels, PyFai, Scatter
from drp.fex.directions import UNITS, Directions, unit_of
from drp.fex.errors import FexError
from drp.fex.frames import Frame

Floats = NDArray[np.float64]
ERROR_MODELS = (None, "poisson", "azimuthal")
METHODS = ("scatter", "pyFAI")
NOTHING = 1e-9
"""What is left in a bin, of the norms of its pixels, when all of them were invalid, and rounding is added."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve, float64 (bins,) each; valid until the next one.

    `norm` is the sum of what pixels count in each bin, 0 where it is empty: intensity and sigma are then `dummy`, or 0. `sigma` is None without an
    error model.
    """

    radial: Floats
    intensity: Floats
    sigma: Floats | None
    norm: Floats


class AzimuthalIntegrator:
    """Integrates calibrated frames of `directions.shape` (segments, rows, cols).

    `mask` (that shape) is 1 where a pixel is used. `radial_range` is in `unit`, `azimuth_range` in degrees from the columns' axis towards the
    rows', and may go over 180; pixels that reach into it count whole. `split=False` puts each pixel whole into the bin of its middle.
    `polarization` is the factor of `Directions.polarization`, None for no correction. Pixels that are not finite, or within `delta_dummy` of
    `dummy`, count in no bin of that event. Raises FexError.
    """

    units = tuple(UNITS)

    def __init__(
        self,
        directions: Directions,
        bins: int = 1000,
        *,
        unit: str = "q_nm^-1",
        mask: NDArray[Any] | None = None,
        split: bool = True,
        radial_range: Sequence[float] | None = None,
        azimuth_range: Sequence[float] | None = None,
        solid_angle: bool = True,
        polarization: float | None = None,
        error_model: str | None = None,
        dummy: float | None = None,
        delta_dummy: float = 0.0,
        method: str = "scatter",
    ) -> None:
        if not 1 <= bins <= MOST:
            raise FexError(f"{bins} bins cannot be: 1 to {MOST}")
        for name, value, known in (("error model", error_model, ERROR_MODELS), ("method", method, METHODS)):
            if value not in known:
                raise FexError(f"there is no {name} {value!r}", f"Known are {', '.join(map(str, known))}")
        if not (math.isfinite(delta_dummy) and delta_dummy >= 0):
            raise FexError(
                f"delta_dummy is {delta_dummy}", "Give how far from dummy is still dummy, 0 or more"
            )
        self.shape = directions.shape
        self.unit = unit
        self._empty = 0.0 if dummy is None else dummy
        flat = (self.shape[0], -1)
        middle, reach = (one.reshape(flat) for one in directions.radial(unit))
        reach = reach if split else np.zeros_like(reach)
        norm = np.ones(self.shape)
        if solid_angle:
            norm *= directions.solid_angle()
        if polarization is not None:
            norm *= directions.polarization(polarization)
        used = (_used(directions, mask, azimuth_range) & (norm > 0)).reshape(flat)
        scale = unit_of(unit).scale
        axis = _axis(middle, reach, used, bins, radial_range, scale)
        self.radial = (axis.low + np.arange(0.5, bins, dtype=np.float64) * axis.width) * scale
        pixels = Pixels(
            self.shape,
            axis,
            middle,
            reach,
            used,
            norm.reshape(flat).astype(np.float32),
            error_model,
            math.nan if dummy is None else dummy,
            delta_dummy,
        )
        self._engine: Scatter | PyFai = Scatter(pixels) if method == "scatter" else PyFai(pixels)
        self._intensity, self._norm = np.empty(bins), np.empty(bins)
        self._sigma = None if error_model is None else np.empty(bins)
        self.integrate(np.zeros(self.shape, np.float32))

    def integrate(self, frame: Frame, monitor: float = 1.0) -> Curve:
        """Return the curve of a frame, float32 (segments, rows, cols), divided by `monitor`; FexError where it does not fit."""
        if not math.isfinite(monitor) or monitor == 0:
            raise FexError(f"a curve cannot be divided by a monitor of {monitor}", "Pass over such events")
        signal, variance, norm = self._engine.sums(frame)
        np.multiply(norm, monitor, out=self._norm)
        full = norm > NOTHING
        self._intensity.fill(self._empty)
        np.divide(signal, self._norm, out=self._intensity, where=full)
        if self._sigma is not None:
            self._sigma.fill(self._empty)
            np.divide(np.sqrt(variance), abs(self._norm), out=self._sigma, where=full)
        return Curve(self.radial, self._intensity, self._sigma, norm)


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    segment, row, col = np.indices((1, 4, 4))
    AzimuthalIntegrator(
        Directions.of_coords((row, col, segment - 1)), 3, unit="r_mm", error_model="azimuthal"
    )


def _used(
    directions: Directions, mask: NDArray[Any] | None, azimuth_range: Sequence[float] | None
) -> NDArray[np.bool_]:
    used = np.ones(directions.shape, np.bool_)
    if mask is not None:
        if mask.shape != used.shape:
            raise FexError(f"the mask is {mask.shape}, the detector {used.shape}")
        used &= mask != 0
    if azimuth_range is not None:
        first, last = _pair("azimuth_range", azimuth_range)
        middle, reach = directions.azimuth()
        away = np.angle(np.exp(1j * (middle - math.radians((first + last) / 2))))
        used &= abs(away) <= math.radians((last - first) / 2) + reach
    return used


def _axis(
    middle: Floats,
    reach: Floats,
    used: NDArray[np.bool_],
    bins: int,
    radial_range: Sequence[float] | None,
    scale: float,
) -> Axis:
    """Return the bins: of a range, or from the first corner of any pixel to the last."""
    if not used.any():
        raise FexError("no pixel is left to integrate", "Look at the mask and the azimuth range")
    if radial_range is None:
        low, high = max(0.0, (middle - reach)[used].min()), (middle + reach)[used].max()
    else:
        low, high = (one / scale for one in _pair("radial_range", radial_range))
    axis = Axis(low, (high * BEYOND - low) / bins, bins)
    if not (axis.width > 0 and (used & ~axis.outside(middle, reach)).any()):
        raise FexError(
            f"no pixel lies between {low * scale:g} and {high * scale:g}",
            "Look at the radial range and the geometry",
        )
    return axis


def _pair(name: str, values: Sequence[float]) -> tuple[float, float]:
    first, last = (float(one) for one in values)
    if not (math.isfinite(first) and math.isfinite(last) and first < last):
        raise FexError(f"{name} is {first:g} to {last:g}; it has to go up")
    return first, last
