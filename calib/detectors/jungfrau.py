"""Jungfrau: 14 data bits, and two bits that say in which of three gain ranges a pixel was read.

Facts from psana's UtilsJungfrau: bits 15:14 are 00 in g0, 01 in g1, 11 in g2; 10 is a bad switch. calibrated = (data - pedestal - offset) /
gain. The emulated jungfrau is the same detector.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from calib.detectors.arrays import Floats, by_range, inverse
from calib.detectors.base import Correction
from calib.detectors.facts import Coding, DetectorSetup
from calib.detectors.mask import Constants

RANGES = 3


class Jungfrau(Correction):
    """Jungfrau modules of 512 x 1024 pixels."""

    needed: ClassVar[tuple[str, ...]] = ("pedestals", "pixel_gain")
    used: ClassVar[tuple[str, ...]] = (*Correction.used, "pixel_offset")
    panel_shape: ClassVar[tuple[int, int]] = (512, 1024)
    ranges: ClassVar[tuple[int, int | None]] = (RANGES, RANGES)
    asics: ClassVar[tuple[int, int]] = (2, 4)
    coding: ClassVar[Coding | None] = Coding(
        data_mask=0x3FFF, range_mask=0xC000, range_shift=14, planes=(0, 1, -1, 2)
    )

    banks: ClassVar[tuple[int, int] | None] = (2, 16)
    always_of_level: ClassVar[bool] = True

    @classmethod
    def tables(
        cls, setup: DetectorSetup, constants: Constants, shape: tuple[int, int, int]
    ) -> tuple[Floats, Floats]:
        """Return pedestal + offset and 1 / gain of the three ranges."""
        offset = by_range("pedestals", constants, RANGES, shape, where=setup.name)[:RANGES]
        if "pixel_offset" in constants:
            offset = offset + by_range("pixel_offset", constants, RANGES, shape, where=setup.name)[:RANGES]
        factor = inverse(by_range("pixel_gain", constants, RANGES, shape, where=setup.name)[:RANGES])
        return offset.swapaxes(0, 1).copy(), np.ascontiguousarray(factor.swapaxes(0, 1))
