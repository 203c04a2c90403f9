"""Kernels of constant fraction discrimination. They check nothing.

v is the waveform less its baseline, turned so that pulses rise. Its difference from the same waveform `delay` samples later, lowered to a fraction,
b[i] = v[i] - fraction * v[i + delay] - walk, goes through zero at a time that does not depend on a pulse's height.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

LEAST_RISE = 1e-8
"""b rises by this at least from one sample to the next where it goes through zero, as in psana."""
_STEPS = 24
"""Bisections of one sample, to 6e-8 of it."""
_at = np.uintp


@numba.njit(cache=True, nogil=True)
def mean_of(raw: Any, first: Any, beyond: Any) -> Any:
    """Return the mean of samples first .. beyond - 1."""
    total = np.float64(0)
    for i in range(_at(first), _at(beyond)):
        total += np.float64(raw[i])
    return total / (beyond - first)


@numba.njit(nogil=True, cache=True)
def bipolar(raw: Any, i: Any, cfd: Any) -> Any:
    """Return b[i]; `cfd` has baseline, polarity, fraction, delay, walk."""
    base, polarity, fraction, delay, walk = cfd
    return polarity * (raw[i] - base) - fraction * (polarity * (raw[i + delay] - base)) - walk


@numba.njit(nogil=True, cache=True)
def crossing(b0: Any, b1: Any, b2: Any, b3: Any) -> Any:
    """Return where between b1 (0) and b2 (1) the cubic through four samples is zero, by bisection; b1 <= 0 < b2.

    Where b1 is zero that is it, though the cubic may come back to zero.
    """
    if b1 == 0:
        return np.float64(0)
    d01, d12, d23 = b1 - b0, b2 - b1, b3 - b2
    c2, c3 = (d12 - d01) / 2, (d23 - 2 * d12 + d01) / 6
    low, high = np.float64(0), np.float64(1)
    for _ in range(_STEPS):
        x = (low + high) / 2
        if b1 + x * (d12 + (x - 1) * (c2 + (x + 1) * c3)) < 0:
            low = x
        else:
            high = x
    return (low + high) / 2


@numba.njit(cache=True, nogil=True)
def find_crossings(raw: Any, cfd: Any, threshold: Any, dead: Any, places: Any, out: Any) -> Any:
    """Find where b goes up through zero while v is above `threshold`, at least `dead` samples after the one before.

    The first ones go into `places` (the sample before each) and `out` (the time in samples); returns how many there are.
    """
    base, polarity, delay = cfd[0], cfd[1], cfd[3]
    count, last = 0, -dead
    for i in range(1, len(raw) - delay - 2):
        if polarity * (raw[i] - base) > threshold and i - last >= dead:
            b1 = bipolar(raw, i, cfd)
            b2 = bipolar(raw, i + 1, cfd)
            if b1 <= 0 < b2 and b2 - b1 >= LEAST_RISE:
                if count < len(places):
                    places[count] = i
                    out[count] = i + crossing(bipolar(raw, i - 1, cfd), b1, b2, bipolar(raw, i + 2, cfd))
                count, last = count + 1, i
    return count


@numba.njit(nogil=True, cache=True)
def half_at(raw: Any, base: Any, polarity: Any, top: Any, step: Any, end: Any, half: Any) -> Any:
    """Return how far from `top`, in the direction of `step` and as far as `end`, v falls to `half`."""
    i = top
    v = before = polarity * (raw[i] - base)
    while i != end and v > half:
        i += step
        before, v = v, polarity * (raw[i] - base)
    away = np.float64(abs(i - top))
    return away - (half - v) / (before - v) if -np.inf < v < half and before > v else away


@numba.njit(cache=True, nogil=True)
def measure(
    raw: Any, base: Any, polarity: Any, threshold: Any, places: Any, amplitudes: Any, widths: Any
) -> None:
    """Write the height of each pulse, from its place to where v falls to `threshold` or the next pulse is, and its width at half of that."""
    for k in range(len(places)):
        end = places[k + 1] if k + 1 < len(places) else len(raw) - 1
        i = top = places[k]
        best = v = polarity * (raw[i] - base)
        while i != end and not v <= threshold:
            i += 1
            v = polarity * (raw[i] - base)
            if v > best:
                best, top = v, i
        begin = places[k - 1] if k > 0 else 0
        amplitudes[k] = best
        widths[k] = half_at(raw, base, polarity, top, -1, begin, best / 2)
        widths[k] += half_at(raw, base, polarity, top, 1, end, best / 2)
