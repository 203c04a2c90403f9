"""Full frames of sparse ones, by NumPy: what a reader such as fabio makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np


def densify(radius: Any, index: Any, intensity: Any, average: Any) -> Any:
    """Return a frame of the shape of `radius`: background by interpolation over the radius, bright pixels as they are, NaN where the radius is negative."""
    frame = np.interp(radius, np.arange(len(average)), average)
    frame.flat[index] = intensity
    frame[radius < 0] = np.nan
    return frame
