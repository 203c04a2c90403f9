"""Kernels of the time tool: a line of pixels to a signal, to its correlation with a filter, to the place of the edge. They check nothing.

Sums over a filter go tap by tap over all pixels, eight taps in one pass: each pixel's sum is then independent of the next one's, so the compiler
adds many pixels at once without changing the order of any sum. Pixels are counted by unsigned numbers, which spares the test for negative indices.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

TAPS = 8
"""A filter's length is a multiple of this; the signal has as many zeros behind it."""
NEXT_PART = 0.25
"""A second edge counts from this part of the first one's amplitude on, as in psana."""
_at = np.uintp


@numba.njit(cache=True, nogil=True)
def project(raw: Any, rows: Any, sideband: Any, out: Any) -> None:
    """Write the mean over `rows` (first, beyond the last), less that over the rows of `sideband`, which may be none, into `out` (cols,) float32."""
    cols = raw.shape[1]
    out[:] = np.float32(0)
    for part, sign in ((sideband, np.float32(-1)), (rows, np.float32(1))):
        count = part[1] - part[0]
        if count > 0:
            factor = sign / np.float32(count)
            for row in range(_at(part[0]), _at(part[1])):
                for col in range(_at(0), _at(cols)):
                    out[col] += np.float32(raw[row, col]) * factor


@numba.njit(cache=True, nogil=True)
def mix(line: Any, rate: Any, background: Any) -> None:
    """Let `background` come nearer to `line` by the part `rate`; pixels that are no numbers are left."""
    for col in range(_at(0), _at(len(background))):
        step = (line[col] - background[col]) * rate
        background[col] += step if abs(step) < np.float32(np.inf) else np.float32(0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def relate(line: Any, background: Any, least: Any, relative: Any, out: Any) -> None:
    """Write line - background into `out`, as part of the background if `relative`, and 0 where that is below `least`."""
    for col in range(_at(0), _at(len(background))):
        change = line[col] - background[col]
        part = change / background[col] if background[col] >= least else np.float32(0)
        out[col] = part if relative else change


@numba.njit(cache=True, nogil=True)
def correlate(signal: Any, taps: Any, out: Any) -> None:
    """Write sum over k of taps[k] * signal[i + k] into out[i], float32."""
    out[:] = np.float32(0)
    for k in range(_at(0), _at(len(taps)), _at(TAPS)):
        a, b, c, d = taps[k], taps[k + _at(1)], taps[k + _at(2)], taps[k + _at(3)]
        e, f, g, h = taps[k + _at(4)], taps[k + _at(5)], taps[k + _at(6)], taps[k + _at(7)]
        for i in range(_at(0), _at(len(out))):
            j = i + k
            first = a * signal[j] + b * signal[j + _at(1)] + c * signal[j + _at(2)] + d * signal[j + _at(3)]
            second = (
                e * signal[j + _at(4)]
                + f * signal[j + _at(5)]
                + g * signal[j + _at(6)]
                + h * signal[j + _at(7)]
            )
            out[i] += first + second


@numba.njit(nogil=True, cache=True)
def highest(values: Any) -> Any:
    """Return the index of the highest finite number, the first of several; -1 where there is none."""
    best, at = np.float32(-np.inf), -1
    for i in range(len(values)):
        if best < values[i] < np.float32(np.inf):
            best, at = values[i], i
    return at


@numba.njit(nogil=True, cache=True)
def half_width(values: Any, top: Any) -> Any:
    """Return the width of the highest peak at half its prominence, as scipy.signal.peak_widths has it."""
    left = right = values[top]
    for i in range(top):
        left = values[i] if -np.inf < values[i] < left else left
    for i in range(top + 1, len(values)):
        right = values[i] if -np.inf < values[i] < right else right
    half = values[top] - (values[top] - max(left, right)) * np.float64(0.5)
    return _crossing(values, top, -1, half) + _crossing(values, top, 1, half)


@numba.njit(nogil=True, cache=True)
def _crossing(values: Any, top: Any, step: Any, half: Any) -> Any:
    """Return how far from `top` in the direction of `step` the values fall to `half`."""
    i = top
    while 0 <= i + step < len(values) and values[i] > half:
        i += step
    away = np.float64(abs(i - top))
    if -np.inf < values[i] < half:
        away -= (half - values[i]) / (values[i - step] - values[i])
    return away


@numba.njit(nogil=True, cache=True)
def next_highest(values: Any, top: Any, apart: Any) -> Any:
    """Return the highest local maximum among finite numbers at least `apart` samples from `top`; 0 where none has NEXT_PART of that."""
    best = np.float32(0)
    for i in range(1, len(values) - 1):
        if (
            abs(i - top) >= apart
            and values[i] > best
            and -np.inf < values[i - 1] < values[i] < np.inf
            and values[i] >= values[i + 1] > -np.inf
        ):
            best = values[i]
    return best if best >= np.float32(NEXT_PART) * values[top] else np.float32(0)


@numba.njit(nogil=True, cache=True)
def vertex(values: Any, top: Any, reach: Any) -> Any:
    """Return where, from `top`, the parabola has its vertex that fits the `reach` values on both sides best (least squares)."""
    n, s2, s4 = np.float64(0), np.float64(0), np.float64(0)
    y0, y1, y2 = np.float64(0), np.float64(0), np.float64(0)
    for k in range(-reach, reach + 1):
        x, y = np.float64(k), np.float64(values[top + k] - values[top])
        n, s2, s4 = n + 1, s2 + x * x, s4 + x**4
        y0, y1, y2 = y0 + y, y1 + x * y, y2 + x * x * y
    curvature = (n * y2 - s2 * y0) / (n * s4 - s2 * s2)
    if not curvature < 0:
        return np.float64(0)
    return max(-np.float64(reach), min(np.float64(reach), -y1 / s2 / (2 * curvature)))


@numba.njit(cache=True, nogil=True)
def find_edge(values: Any, out: Any) -> None:
    """Write index, height, width and next height of the highest value into `out`, float64; NaN and 0 where no maximum lies within the values."""
    out[0], out[1], out[2], out[3] = np.nan, 0.0, 0.0, 0.0
    top = highest(values)
    if top < 0:
        return
    out[1] = values[top]
    if top in (0, len(values) - 1):
        return
    width = half_width(values, top)
    reach = min(max(1, round(width / 4)), top, len(values) - 1 - top)
    out[0] = top + vertex(values, top, reach)
    out[2] = width
    out[3] = next_highest(values, top, max(1, int(np.ceil(2 * width))))
