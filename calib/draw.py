"""Pictures of constants: for each gain range a map of the detector and a histogram. It needs matplotlib, and only whoever draws imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calib.dark import STATUS_BITS, range_names
from calib.detectors import DetectorSetup, Panel
from calib.errors import CalibError, GeometryError
from calib.geometry import Geometry
from calib.model import CTYPES, Constant, DetectorId

_BINS = 200
_SPREAD = (0.1, 99.9)
"""Percentiles between which a map's colours and a histogram's axis run."""
_DPI = 100
_MOST_RINGS = 2000


def draw_constant(
    detector: DetectorId, constant: Constant, path: Path, *, geometry: str | None = None
) -> None:
    """Draw an array of pixels to a PNG file. Panels lie as the geometry says, or one below the other where none fits.

    Raises CalibError where the constant is no array of pixels.
    """
    if isinstance(constant.value, str) or constant.value.ndim < 2:
        raise CalibError(f"{constant.ctype} cannot be drawn: it has no pixels")
    *_, panels, rows, cols = (1, *constant.value.shape)
    planes = constant.value.reshape(-1, panels, rows, cols)
    names = _names(detector, len(planes))
    shown = [at for at, plane in enumerate(planes) if np.isfinite(plane).any()]
    figure = Figure(figsize=(12, 4.2 * max(1, len(shown))), layout="constrained")
    experiment = constant.experiment or "any experiment"
    figure.suptitle(
        f"{detector.name}: {constant.ctype} ({CTYPES[constant.ctype].what}), {experiment}, from run {constant.run}"
    )
    axes = figure.subplots(max(1, len(shown)), 2, squeeze=False)
    for (map_, histogram), at in zip(axes, shown, strict=False):
        is_bits = planes[at].dtype.kind == "u" and constant.ctype.endswith(("status", "status_extra"))
        _map(figure, map_, lay_out(detector, planes[at], geometry), names[at], is_bits=is_bits)
        (_bars if is_bits else _histogram)(histogram, planes[at])
    figure.savefig(path, dpi=_DPI)


def lay_out(detector: DetectorId, plane: NDArray[Any], geometry: str | None) -> NDArray[Any]:
    """Return an image of (panels, rows, cols), NaN where there is no pixel."""
    data = plane.astype(np.float32)
    try:
        given = None if geometry is None else Geometry.from_text(geometry)
        where = given or Geometry.default_for(detector.dettype, len(plane))
        if where.shape[0] < len(plane) or where.shape[1:] != plane.shape[1:]:
            raise GeometryError("of other panels")
        numbers = None if where.shape[0] == len(plane) else list(range(len(plane)))
        return where.image(data, segments=numbers, vbase=float("nan"), fillholes=False)
    except GeometryError:
        return data.reshape(-1, plane.shape[-1])


def _names(detector: DetectorId, planes: int) -> tuple[str, ...]:
    panels = tuple(Panel(at, serial, {}) for at, serial in enumerate(detector.serials))
    names = range_names(DetectorSetup(detector.name, detector.dettype, "raw", (0, 0, 0), panels, (0, 0)))
    return names if len(names) == planes else tuple(f"range {at}" for at in range(planes))


def _range(values: NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _SPREAD) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _map(figure: Figure, axes: Axes, image: NDArray[Any], title: str, *, is_bits: bool) -> None:
    low, high = (0.0, 1.0) if is_bits else _range(image)
    shown = np.where(np.isfinite(image), image != 0, np.nan) if is_bits else image
    picture = axes.imshow(shown, vmin=low, vmax=high, interpolation="nearest", cmap="viridis")
    axes.set_title(f"{title}: bad pixels" if is_bits else title)
    if not is_bits:
        figure.colorbar(picture, ax=axes)
        return
    rows, cols = np.nonzero(np.nan_to_num(shown))
    if len(rows) <= _MOST_RINGS:  # a pixel alone would not be seen
        axes.plot(cols, rows, "o", markerfacecolor="none", markeredgecolor="red", markersize=5)


def _histogram(axes: Axes, plane: NDArray[Any]) -> None:
    values = plane[np.isfinite(plane)].astype(np.float64)
    axes.hist(values, bins=_BINS, range=_range(values), log=True)
    axes.set_title(f"mean {values.mean():.5g}, spread {values.std():.4g}, {values.size} pixels")
    axes.set_ylabel("pixels")


def _bars(axes: Axes, plane: NDArray[Any]) -> None:
    counts = [int(np.count_nonzero(plane & np.uint64(bit))) for bit in STATUS_BITS]
    axes.set_xlim(0, max(1, *counts) * 1.15)
    axes.barh([f"{bit}: {text}" for bit, text in STATUS_BITS.items()], counts)
    for at, count in enumerate(counts):
        axes.text(count, at, f" {count}", va="center")
    bad = int(np.count_nonzero(plane))
    axes.set_title(f"{bad} of {plane.size} pixels are bad ({100 * bad / plane.size:.3g} %)")
