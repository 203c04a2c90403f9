"""Detectors of one gain range: epix100, and any detector that has no class of its own.

calibrated = (raw - pedestal) / gain; without a gain the factor is 1, that is ADU, but for epix100, whose typical gain psana takes too.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from calib.detectors.arrays import Floats, by_range, inverse
from calib.detectors.base import Correction
from calib.detectors.facts import Coding, DetectorSetup
from calib.detectors.mask import Constants


class Generic(Correction):
    """Pixels of any number type, pedestals (segments, rows, cols)."""

    default_factor: ClassVar[float] = 1.0

    @classmethod
    def tables(
        cls, setup: DetectorSetup, constants: Constants, shape: tuple[int, int, int]
    ) -> tuple[Floats, Floats]:
        """Return pedestal and 1 / gain."""
        offset = by_range("pedestals", constants, 1, shape, where=setup.name)[:1].swapaxes(0, 1).copy()
        if "pixel_gain" not in constants:
            return offset, np.full_like(offset, cls.default_factor)
        factor = inverse(by_range("pixel_gain", constants, 1, shape, where=setup.name)[:1])
        return offset, np.ascontiguousarray(factor.swapaxes(0, 1))


class Epix100(Generic):
    """epix100: four ASICs, 704 x 768 pixels; 0.06 keV/ADU where there are no gains."""

    panel_shape: ClassVar[tuple[int, int]] = (704, 768)
    asics: ClassVar[tuple[int, int]] = (2, 2)
    banks: ClassVar[tuple[int, int] | None] = (2, 8)
    coding: ClassVar[Coding | None] = Coding(data_mask=0xFFFF)
    default_factor: ClassVar[float] = 0.06
