"""Azimuthal integration a pixel at a time, as a physicist would write it down: the twin of drp.fex.azimuthal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


def shares(begin: float, end: float, bins: int) -> Iterator[tuple[int, float]]:
    """Yield the bins that a pixel from `begin` to `end` lies in, and its part in each; the first and last take what lies beyond."""
    if end < 0 or begin >= bins:
        return
    first, last = max(math.floor(begin), 0), min(math.floor(end), bins - 1)
    if first == last:
        yield first, 1.0
        return
    for one in range(first, last + 1):
        low = begin if one == first else one
        high = end if one == last else one + 1
        yield one, (high - low) / (end - begin)


def integrate(
    frame: Any,
    middle: Any,
    reach: Any,
    norm: Any,
    used: Any,
    low: float,
    width: float,
    bins: int,
    model: str | None,
    dummy: float | None = None,
    delta: float = 0.0,
) -> tuple[Any, Any, Any]:
    """Return intensity, sigma and norm of each bin; arrays are of one shape."""
    inside: list[list[tuple[float, float, float]]] = [[] for _ in range(bins)]
    for s, m, r, n, u in zip(*(np.ravel(one) for one in (frame, middle, reach, norm, used)), strict=True):
        invalid = not math.isfinite(s) or (dummy is not None and abs(s - dummy) <= delta)
        if u and not invalid:
            for one, c in shares((m - r - low) / width, (m + r - low) / width, bins):
                inside[one].append((float(s), c, float(n)))
    intensity, sigma, total = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for one, pixels in enumerate(inside):
        total[one] = sum(c * n for _, c, n in pixels)
        if total[one] < 1e-9:
            intensity[one] = sigma[one] = 0 if dummy is None else dummy
            continue
        mean = intensity[one] = sum(c * s for s, c, _ in pixels) / total[one]
        squares = [c**2 * (max(s, 1) if model == "poisson" else (s - mean * n) ** 2) for s, c, n in pixels]
        sigma[one] = math.sqrt(sum(squares)) / total[one]
    return intensity, sigma, total
