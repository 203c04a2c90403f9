"""The corrections written plainly, pixel sets by pixel sets, for the kernels to be held against. Nothing of calib is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
EPS = float(np.finfo(np.float32).eps)


def inverse(gain: Array) -> Array:
    """1 / gain, 0 where there is none."""
    out = np.zeros(gain.shape)
    out[gain != 0] = 1 / gain[gain != 0]
    return out


def jungfrau(raw: Array, constants: dict[str, Array], mask: Array) -> Array:
    """Bits 15:14: 00 is g0, 01 is g1, 11 is g2, 10 is nothing."""
    code = raw >> 14
    pedestals = constants["pedestals"].astype(float) + constants.get("pixel_offset", 0)
    factors = inverse(constants["pixel_gain"].astype(float))
    out = np.zeros(raw.shape)
    for gain_range, bits in enumerate((0b00, 0b01, 0b11)):
        here = code == bits
        out[here] = ((raw & 0x3FFF) - pedestals[gain_range])[here] * factors[gain_range][here]
    return out * mask


def generic(raw: Array, constants: dict[str, Array], mask: Array, factor: float = 1.0) -> Array:
    """One range."""
    factors = inverse(constants["pixel_gain"].astype(float)) if "pixel_gain" in constants else factor
    return (raw.astype(float) - constants["pedestals"]) * factors * mask


def good_everywhere(status: Array) -> Array:
    """1 where a pixel is good in each of the first five ranges."""
    return (status[:5] == 0).all(axis=0).astype(np.uint8)


def limit(expected: Array, constants: dict[str, Array]) -> Array:
    """How far a calibrated pixel may be from the expected one: 1e-5 of it, and 4 eps of the largest pedestal by gain."""
    factors = np.abs(inverse(constants["pixel_gain"].astype(float))) if "pixel_gain" in constants else 1.0
    ratio = np.abs(constants["pedestals"]) * factors
    return 1e-5 * np.abs(expected) + 4 * EPS * (ratio.max(axis=0) if ratio.ndim == 4 else ratio)


def check(found: Array, expected: Array, constants: dict[str, Array]) -> None:
    """AssertionError where a pixel is further from the expected one than it may be."""
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    over = np.abs(found.astype(float) - expected) - limit(expected, constants)
    assert over.max() <= 0, (
        f"pixel {np.unravel_index(int(over.argmax()), over.shape)} is off by {over.max()} more than allowed"
    )


def common_mode(
    values: Array, counts: Array, banks: tuple[int, int], mode: int, limit: float, fewest: int
) -> Array:
    """Banks, then rows in banks, then columns in banks, less the median of the pixels that count, in those."""
    out = values.copy()
    rows, cols = values.shape[1] // banks[0], values.shape[2] // banks[1]
    for s in range(len(values)):
        for top in range(0, values.shape[1], rows):
            for left in range(0, values.shape[2], cols):
                bank = out[s, top : top + rows, left : left + cols]
                good = counts[s, top : top + rows, left : left + cols]
                if mode & 4 and good.sum() >= fewest:
                    less_median(bank, good, limit)
                for row in range(rows if mode & 1 else 0):
                    if good[row].sum() > fewest:
                        less_median(bank[row], good[row], limit)
                for col in range(cols if mode & 2 else 0):
                    if good[:, col].sum() > fewest:
                        less_median(bank[:, col], good[:, col], limit)
    return out


def less_median(part: Array, good: Array, limit: float) -> None:
    """Take the median of the good values from them, unless it is as large as the limit."""
    median = np.median(part[good])
    if abs(median) < limit:
        part[good] -= median
