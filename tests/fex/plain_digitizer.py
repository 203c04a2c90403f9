"""Constant fraction discrimination without kernels, for a physicist to read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Settings(NamedTuple):
    """As those of drp.fex.PulseFinder."""

    threshold: float
    fraction: float
    delay: int
    walk: float
    falling: bool
    baseline: float
    dead: int = 0


def pulses_in(waveform: Array, of: Settings) -> list[tuple[float, float, float]]:
    """Return arrival, amplitude and width of each pulse."""
    v = (waveform.astype(float) - of.baseline) * (-1 if of.falling else 1)
    b = v[: -of.delay] - of.fraction * v[of.delay :] - of.walk
    found: list[int] = []
    for i in range(1, len(b) - 2):
        if (
            b[i] <= 0 < b[i + 1]
            and b[i + 1] - b[i] >= 1e-8
            and v[i] > of.threshold
            and (not found or i - found[-1] >= of.dead)
        ):
            found.append(i)
    bounds = [0, *found, len(v) - 1]
    return [(time_of(b, i), *form_of(v, of.threshold, *bounds[k : k + 3])) for k, i in enumerate(found)]


def time_of(b: Array, i: int) -> float:
    """Return i where b is zero there, else where the cubic through b[i - 1] .. b[i + 2] goes through zero between b[i] and b[i + 1]."""
    if b[i] == 0:
        return float(i)
    cubic = np.polynomial.Polynomial.fit(
        np.arange(-1, 3), b[i - 1 : i + 3], 3, domain=[-1, 2], window=[-1, 2]
    )
    low, high = 0.0, 1.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if cubic(middle) < 0 else (low, middle)
    return i + (low + high) / 2


def form_of(v: Array, threshold: float, before: int, begin: int, end: int) -> tuple[float, float]:
    """Return the amplitude of the pulse that begins there, and its width at half of it."""
    stop = begin
    while stop < end and v[stop] > threshold:
        stop += 1
    top = begin + int(np.argmax(v[begin : stop + 1]))
    half = v[top] / 2
    return v[top], fall(v[before : top + 1][::-1], half) + fall(v[top : end + 1], half)


def fall(values: Array, half: float) -> float:
    """Return where the values, from the top on, are down to half; their length where they are not."""
    for i in range(1, len(values)):
        if values[i] <= half:
            return i - (half - values[i]) / (values[i - 1] - values[i])
    return len(values) - 1.0
