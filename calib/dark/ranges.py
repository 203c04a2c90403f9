"""Which plane of the constants a pixel's dark values belong to: from the plane its range bits name, and from how its panel was configured in
the step. Facts of the detectors, as psana's constants have them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.detectors import DetectorSetup, correction_type


class RangeNames:
    """The names of the gain ranges of a detector's constants, in their order."""

    @staticmethod
    def of(setup: DetectorSetup) -> tuple[str, ...]:
        coding = correction_type(setup).coding
        if setup.dettype.startswith("epixhr"):
            return ("FH", "FM", "FL", "AHL_H", "AML_M", "AHL_L", "AML_L")
        return tuple(f"g{n}" for n in range(coding.n_planes if coding else 1))


def ranges_of(setup: DetectorSetup, panel: int, plane: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    if setup.dettype.startswith("epixhr"):
        return np.full(shape, (4, 6)[plane], np.intp)
    return np.full(shape, plane, np.intp)
