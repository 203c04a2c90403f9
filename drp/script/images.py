"""Where a detector's panels are, and how its pixels become an image: from its setup and its geometry text. The plan is made once and shared.

The numbers of segments are those of panels in the geometry; what has several parts in one segment has as many panels there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import CalibError, GeometryError
from calib.detectors import DetectorSetup, correction_type
from calib.geometry import Geometry, ImagePlan

PLAN = "image/"
"""What the names of the plan's arrays begin with among those derived from constants."""


def panel_numbers(setup: DetectorSetup) -> list[int]:
    """Return the numbers of a detector's segments, as its geometry counts panels."""
    parts = correction_type(setup).parts
    return [panel.segment * parts + part for panel in setup.panels for part in range(parts)]


def geometry_of(setup: DetectorSetup, text: object) -> Geometry:
    """Return a detector's geometry: `text` where it is one, else the default of its type. Raises GeometryError where there is neither."""
    if isinstance(text, str):
        return Geometry.from_text(text, where=f"geometry of {setup.name}")
    return Geometry.default_for(setup.dettype, max(panel_numbers(setup)) + 1)


def picked(setup: DetectorSetup, geometry: Geometry) -> list[int] | None:
    """Return the panels of the geometry that a detector has, None where it has them all in order."""
    numbers = panel_numbers(setup)
    return None if numbers == list(range(geometry.shape[0])) else numbers


def check_geometry(setup: DetectorSetup, geometry: Geometry, shape: tuple[int, ...]) -> None:
    """Raise GeometryError where a geometry is not of this detector: too few panels, or panels of another shape than `shape`.

    `shape` is (rows, cols), 0 where it is not known.
    """
    panels, rows, cols = geometry.shape
    last = max(panel_numbers(setup))
    if all(shape) and (rows, cols) != tuple(shape):
        what = f"its panels have {rows} x {cols} pixels, those of the detector {shape[0]} x {shape[1]}"
    elif panels <= last:
        what = f"its last panel is number {panels - 1}, that of the detector number {last}"
    else:
        return
    raise GeometryError(
        f"it is of another detector: {what}",
        where=geometry.where,
        hint="Put the geometry of this detector into the store.",
    )


def geometry_fault(setup: DetectorSetup, text: object, shape: tuple[int, ...]) -> str:
    """Return why nothing can be drawn with the constant `text`, "" where it can, or where there is none; `shape` as in check_geometry."""
    if text is None:
        return ""
    try:
        geometry = geometry_of(setup, text)
        check_geometry(setup, geometry, shape)
    except CalibError as error:
        return f"the geometry cannot be used (image will raise): {error.what}"
    return ""


def plan_arrays(setup: DetectorSetup, text: object, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Return the plan of a detector's images with psana's default options, by name; nothing where it has no geometry that fits."""
    try:
        geometry = geometry_of(setup, text)
        check_geometry(setup, geometry, shape)
        plan = geometry.plan(segments=picked(setup, geometry))
    except CalibError:
        return {}
    return {f"{PLAN}{name}": value for name, value in plan.arrays().items()}


def plan_among(derived: Mapping[str, NDArray[np.generic]]) -> ImagePlan | None:
    """Return the plan that was derived, None where none was."""
    found = {name.removeprefix(PLAN): value for name, value in derived.items() if name.startswith(PLAN)}
    return ImagePlan.from_arrays(found) if found else None
