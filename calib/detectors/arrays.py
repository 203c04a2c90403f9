"""Constants as the arrays that tables are made of: checked, of one type, inverted. It knows no detector and no kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from calib.detectors.mask import Constants
from calib.errors import ConstantsMisshapen

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def read_only(array: Array) -> Array:
    """Return a view that cannot be written through: what kernels are compiled for."""
    view = array.view()
    view.flags.writeable = False
    return view


def by_range(
    ctype: str, constants: Constants, ranges: int, shape: tuple[int, int, int], *, where: str
) -> Floats:
    """Return a constant as float32 (ranges, segments, rows, cols); ConstantsMisshapen where it has another shape or fewer ranges."""
    array = np.asarray(constants[ctype])
    if array.ndim == 3 and ranges == 1:
        array = array[None]
    if array.ndim == 2 and ranges == 1:
        array = array[None, None]
    if array.ndim != 4 or array.shape[1:] != shape or len(array) < ranges or array.dtype.kind not in "fiu":
        raise ConstantsMisshapen(
            f"{ctype} is {array.dtype} {array.shape}, needed is {(ranges, *shape)}",
            where=where,
            hint="Put constants made for this detector, with its panels' serial numbers",
        )
    return array.astype(np.float32, copy=False)


def inverse(gain: Floats) -> Floats:
    """Return 1 / gain, 0 where the gain is 0 (psana's rule)."""
    with np.errstate(divide="ignore"):
        return np.where(gain != 0, np.float32(1) / gain, np.float32(0)).astype(np.float32, copy=False)
