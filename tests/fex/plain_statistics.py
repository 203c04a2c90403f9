"""What the statistics should give, in NumPy and plain loops, one line for each thing."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def statistics(frame: Array, used: Array) -> dict[str, float]:
    """Statistics of the finite pixels that are used, of one segment or of all."""
    used = used & np.isfinite(frame)
    x = frame[used].astype(np.float64)
    if not x.size:
        return {"n": 0, "sum": 0.0}
    found = {"n": x.size, "sum": x.sum(), "mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max()}
    if frame.ndim == 2:
        row, col = np.nonzero(used)
        found |= {"rows": (x * row).sum(), "cols": (x * col).sum()}
    return found


def profile(frame: Array, used: Array, bins: Array, count: int) -> tuple[Array, Array]:
    """Sum and number of the finite pixels in each bin."""
    used = used & np.isfinite(frame)
    total, n = np.zeros(count), np.zeros(count, int)
    for value, place in zip(frame[used].astype(np.float64), bins[used], strict=True):
        total[place] += value
        n[place] += 1
    return total, n


def rebin(event: Array, factors: tuple[int, int], used: Array, mean: bool) -> Array:
    """Sum or mean of the used pixels of each block."""
    segments, rows, cols = event.shape
    down, across = factors
    shape = (segments, rows // down, down, cols // across, across)
    total = np.where(used, event, 0).astype(np.float64).reshape(shape).sum(axis=(2, 4))
    n = used.reshape(shape).sum(axis=(2, 4))
    return np.divide(total, n, out=np.zeros_like(total), where=n > 0) if mean else total


def sparse_words(counts: Array) -> list[int]:
    """The words of an event, pixel by pixel."""
    words, passed = [], 0
    for count in counts.reshape(-1).tolist():
        if count == 0:
            passed += 1
            continue
        while passed > 8191:
            words.append(8191 * 8)
            passed -= 8191
        words += [passed * 8 + count] if count < 7 else [passed * 8 + 7, count]
        passed = 0
    return words
