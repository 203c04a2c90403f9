"""Charge sharing of simulated photons: each is a normal cloud around a place drawn within its pixel, cut at the borders of pixels.

It knows pixels and photons, no detector. The cloud reaches the next pixel at each side; what falls beyond the edge of a segment is lost.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
MOST_SIGMA = 0.4
"""Pixels; a wider cloud would reach further than the next pixel by more than a part in 100."""
_NEXT = (-1, 0, 1)


def share(photons: npt.NDArray[np.uint16], sigma: float, rng: np.random.Generator) -> F32:
    """Return the charge in each pixel, in photons, float32 (segments, rows, cols), of `photons` whose clouds have `sigma` pixels."""
    segments, rows, cols = photons.shape
    charge = np.zeros((segments, rows + 2, cols + 2), np.float32)
    places = np.nonzero(photons)
    segment, row, col = (np.repeat(one, photons[places]) for one in places)
    in_rows, in_cols = (_parts(rng.random(len(row)), sigma) for _ in range(2))
    for down, of_row in zip(_NEXT, in_rows, strict=True):
        for right, of_col in zip(_NEXT, in_cols, strict=True):
            np.add.at(charge, (segment, row + 1 + down, col + 1 + right), of_row * of_col)
    return np.ascontiguousarray(charge[:, 1:-1, 1:-1])


def _parts(place: npt.NDArray[np.float64], sigma: float) -> list[F32]:
    """Return what the pixel before, the photon's own and the next one get along an axis."""
    x, distribution = normal_law()
    below = [np.interp((border - place) / sigma, x, distribution) for border in (-1, 0, 1, 2)]
    return [(high - low).astype(np.float32) for low, high in pairwise(below)]


@cache
def normal_law() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return x and the normal law's distribution function there, float64."""
    x = np.linspace(-6, 6, 4801)
    return x, np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
