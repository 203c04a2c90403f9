"""epixM: four ASICs in one segment of the data, each a segment of 192 x 384 pixels; 15 data bits, bit 15 switched to low.

calibrated = (data - pedestal of the range) * mask, in ADU: psana knows no gains of this detector and uses none, nor does this.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from calib.detectors.arrays import Floats, by_range
from calib.detectors.base import Correction
from calib.detectors.facts import Coding, DetectorSetup
from calib.detectors.mask import Constants


class EpixM320(Correction):
    """Pedestals (2 or more, 4, 192, 384), the first two for a data bit of 0 and 1."""

    used: ClassVar[tuple[str, ...]] = ("pedestals", "pixel_status", "status_extra", "pixel_mask")
    panel_shape: ClassVar[tuple[int, int]] = (192, 384)
    parts: ClassVar[int] = 4
    ranges: ClassVar[tuple[int, int | None]] = (2, None)
    coding: ClassVar[Coding | None] = Coding(
        data_mask=0x7FFF, range_mask=0x8000, range_shift=15, planes=(0, 1)
    )

    @classmethod
    def tables(
        cls, setup: DetectorSetup, constants: Constants, shape: tuple[int, int, int]
    ) -> tuple[Floats, Floats]:
        """Return the pedestals of both ranges, and 1."""
        offset = by_range("pedestals", constants, 2, shape, where=setup.name)[:2].swapaxes(0, 1).copy()
        return offset, np.ones_like(offset)
