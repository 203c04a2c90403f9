"""The time tool's edge finder without kernels, in float64, for a physicist to read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def line_of(frame: Array, rows: tuple[int, int], sideband: tuple[int, int] | None) -> Array:
    """Return the mean of the rows less that of the sideband's."""
    frame = np.atleast_2d(frame).astype(float)
    line = frame[slice(*rows)].mean(axis=0)
    return line - frame[slice(*sideband)].mean(axis=0) if sideband else line


def average(lines: list[Array], rate: float) -> Array:
    """Return the rolling average."""
    background = lines[0]
    for line in lines[1:]:
        background = (1 - rate) * background + rate * line
    return background


def edge_in(line: Array, background: Array, weights: Array) -> tuple[float, float, float, float]:
    """Return position, amplitude, width and next amplitude."""
    signal = (line - background) / background
    values = np.correlate(signal, np.asarray(weights, float), "valid")
    top = int(np.argmax(values))
    if top in (0, len(values) - 1):
        return math.nan, values[top], 0.0, 0.0
    half = (values[top] + max(values[: top + 1].min(), values[top:].min())) / 2
    width = fall(values[top::-1], half) + fall(values[top:], half)
    reach = min(max(1, round(width / 4)), top, len(values) - 1 - top)
    near = np.arange(-reach, reach + 1)
    a, b, _ = np.polyfit(near, values[top + near], 2)
    position = top - np.clip(b / (2 * a), -reach, reach) + (len(weights) - 1) / 2
    others = [
        values[i]
        for i in range(1, len(values) - 1)
        if abs(i - top) >= max(1, math.ceil(2 * width)) and values[i - 1] < values[i] >= values[i + 1]
    ]
    following = max(others, default=0.0)
    return position, values[top], width, following if following >= values[top] / 4 else 0.0


def fall(values: Array, half: float) -> float:
    """Return where the values, which begin above `half`, are down to it."""
    below = int(np.argmax(values <= half))
    return below - (half - values[below]) / (values[below - 1] - values[below])
