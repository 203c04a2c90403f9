"""Which plane of the constants a pixel's dark values belong to: from the plane its range bits name, and from how its panel was configured in
the step. And in what order pixels lie. All of it as the corrections have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.detectors import Coding, DetectorSetup, correction_type
from calib.detectors import epix10ka as epix
from calib.detectors import epixuhr as uhr

Frames: TypeAlias = Sequence[NDArray[Any]]
PLAIN = Coding(data_mask=0xFFFF)
"""Pixels of a detector that has no gain bits, or is not known."""


def coding_of(setup: DetectorSetup) -> Coding:
    """Return how the pixels of a detector code data and gain range."""
    return correction_type(setup).coding or PLAIN


def top_of(coding: Coding) -> int:
    """Return the largest data value."""
    return coding.data_mask >> coding.data_shift


def range_names(setup: DetectorSetup) -> tuple[str, ...]:
    """Return the names of the gain ranges of a detector's constants, in their order."""
    kind = correction_type(setup)
    if issubclass(kind, epix.EpixMultiGain):
        return epix.MODES
    if issubclass(kind, uhr.EpixUhr):
        return (*uhr.MODES, *uhr.SWITCHED)
    planes = coding_of(setup).n_planes
    return tuple(f"g{number}" for number in range(planes)) if planes > 1 else ("all",)


def ranges_of(setup: DetectorSetup, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the range of the constants that each pixel's planes are, uint8 of `shape` (planes, segments, rows, cols).

    A number beyond the names means that the configuration makes no sense there. Raises CalibError where the Configure does not say.
    """
    kind = correction_type(setup)
    if issubclass(kind, epix.EpixMultiGain):
        return kind.modes(setup)
    if issubclass(kind, uhr.EpixUhr):
        bits = np.concatenate([kind.panel_bits(panel) for panel in setup.panels]) & np.uint8(63)
        return uhr.mode_tables()[:, bits]
    planes = np.arange(shape[0], dtype=np.uint8).reshape(-1, 1, 1, 1)
    return np.broadcast_to(planes, shape)


def order_of(setup: DetectorSetup) -> Callable[[Frames], Frames] | None:
    """Return what puts raw segments in the order of calibrated ones, or None where they are."""
    kind = correction_type(setup)
    if not issubclass(kind, uhr.EpixUhr):
        return None
    shape = (len(setup.panels) * kind.parts, *kind.panel_shape)
    tables = np.zeros((shape[0], coding_of(setup).n_planes, *shape[1:], 2), np.float32)
    made = kind(setup, {}, {"mask": np.ones(shape, np.uint8), "tables": tables})
    ordered = np.empty(shape, np.uint16)
    panels = len(setup.panels)

    def order(segments: Frames) -> Frames:
        return list(made.raw(segments, out=ordered).reshape(panels, -1, shape[2]))

    return order
