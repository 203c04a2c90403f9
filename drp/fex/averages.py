"""Averages of many events: running ones, which a worker has for itself, and those of a step, which are merged over all workers.

A running average is for looking at and for what a script decides meanwhile: each worker sees only the events it is given. What is to be recorded
as the average of a step goes through `run.reduce`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from drp.fex._regions import checked_shape
from drp.fex.errors import FexError
from drp.fex.frames import Floats, Frame, Shape, segments_of

Doubles = npt.NDArray[np.float64]
Reduce = Callable[..., npt.NDArray[Any]]
_at = np.uintp


class RunningAverage:
    """The average of the events that this worker was given: exponential, or of the last `window`. Its state is the worker's own.

    A pixel that is not finite is left out: for it the average stays, which before its first number is 0.
    """

    def __init__(self, shape: Shape, *, weight: float | None = None, window: int | None = None) -> None:
        """Prepare for frames of `shape` (segments, rows, cols), with one of:

        `weight`, 0 < weight <= 1: what a new event counts in the average. The first events count alike, until they are 1 / weight.
        `window`, at least 1: how many events are averaged. They are kept: 4 bytes for each of their pixels.
        Raises FexError.
        """
        self.shape = checked_shape(shape)
        if (weight is None) == (window is None):
            raise FexError("a running average has either a weight or a window", "Give one of them")
        if weight is not None and not 0 < weight <= 1:
            raise FexError(f"an event cannot count {weight}", "Give a weight above 0, at most 1")
        if window is not None and window < 1:
            raise FexError(f"the last {window} events have no average", "Give a window of at least 1")
        self._weight = weight
        self._window = window or 0
        self._mean = np.zeros(self.shape, np.float32)
        self._kept = np.zeros((self._window, *self.shape), np.float32)
        self._sum = np.zeros(self.shape if window else (0, 0, 0))
        self.n = 0
        self.of(np.zeros(self.shape, np.float32))
        self.restart()

    def restart(self) -> None:
        """Forget all events."""
        self.n = 0
        self._mean[...] = 0

    def of(self, frame: Frame) -> Floats:
        """Take a float32 frame in; return the average, float32 (segments, rows, cols), which changes with the next one."""
        self.n += 1
        segments = segments_of(frame, self.shape)
        if self._weight is not None:
            share = np.float32(max(self._weight, 1 / self.n))
            for pixels, mean in zip(segments, self._mean, strict=True):
                _approach(pixels, share, mean)
            return self._mean
        place, full = (self.n - 1) % self._window, min(self.n, self._window)
        for pixels, total, oldest, mean in zip(
            segments, self._sum, self._kept[place], self._mean, strict=True
        ):
            _replace(pixels, self.n == 1, self.n > self._window, 1 / full, total, oldest, mean)
        return self._mean


class Average(NamedTuple):
    """Mean and standard deviation of `n` events, float64 (segments, rows, cols), NaN without events."""

    n: int
    mean: Doubles
    deviation: Doubles


class StepAverage:
    """Sum and sum of squares of every pixel over the events of a step, merged over all workers and written with its EndStep.

    Where a pixel of an event is no number, it has none in that step.
    """

    def __init__(self, shape: Shape, reduce: Reduce, name: str = "average") -> None:
        """Declare `NAME_sum`, `NAME_squares` (float64 of `shape`) and `NAME_n` (uint64, 1) with `run.reduce`, before the first event.

        Raises FexError, and what `run.reduce` raises.
        """
        self.shape = checked_shape(shape)
        self._sum = reduce(f"{name}_sum", np.zeros(self.shape), "sum", per_step=True)
        self._squares = reduce(f"{name}_squares", np.zeros(self.shape), "sum", per_step=True)
        self._n = reduce(f"{name}_n", np.zeros(1, np.uint64), "sum", per_step=True)

    def add(self, frame: Frame) -> None:
        """Add a float32 frame."""
        for pixels, total, squares in zip(
            segments_of(frame, self.shape), self._sum, self._squares, strict=True
        ):
            _add(pixels, total, squares)
        self._n += np.uint64(1)


def average_of(total: Doubles, squares: Doubles, n: npt.ArrayLike) -> Average:
    """Return the average of what a step recorded: `NAME_sum`, `NAME_squares` and `NAME_n`.

    The deviation is that of the events, as NumPy's `std`. All sums of several files or steps may be added up first.
    """
    count = int(np.sum(n))
    if total.shape != squares.shape:
        raise FexError(f"sums have shape {total.shape}, squares {squares.shape}", "Give those of one step")
    if not count:
        return Average(0, np.full(total.shape, np.nan), np.full(total.shape, np.nan))
    mean = total / count
    return Average(count, mean, np.sqrt(np.maximum(squares / count - mean**2, 0)))


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    RunningAverage((1, 1, 1), weight=1)
    RunningAverage((1, 1, 1), window=1)
    StepAverage((1, 1, 1), lambda _name, array, _op, *, per_step: array).add(np.zeros((1, 1, 1), np.float32))  # noqa: ARG005


@numba.njit(cache=True, nogil=True)
def _approach(pixels: Any, share: Any, mean: Any) -> None:
    """Move the mean towards the pixels by a share of what they are apart."""
    for row in range(_at(pixels.shape[0])):
        for i in range(_at(pixels.shape[1])):
            step = (pixels[row, i] - mean[row, i]) * share
            mean[row, i] += step if np.abs(step) < np.inf else np.float32(0)


@numba.njit(cache=True, nogil=True)
def _replace(pixels: Any, begins: Any, full: Any, share: Any, total: Any, oldest: Any, mean: Any) -> None:
    """Put the pixels in the place of the oldest ones, and make the mean anew."""
    keep_sum, keep_oldest = np.float64(not begins), np.float64(full)
    for row in range(_at(pixels.shape[0])):
        for i in range(_at(pixels.shape[1])):
            new = pixels[row, i] if np.abs(pixels[row, i]) < np.inf else mean[row, i]
            added = np.float64(new) - keep_oldest * np.float64(oldest[row, i])
            total[row, i] = keep_sum * total[row, i] + added
            oldest[row, i] = new
            mean[row, i] = np.float32(total[row, i] * share)


@numba.njit(cache=True, nogil=True)
def _add(pixels: Any, total: Any, squares: Any) -> None:
    """Add the pixels and their squares to the sums."""
    for row in range(_at(pixels.shape[0])):
        for i in range(_at(pixels.shape[1])):
            x = np.float64(pixels[row, i])
            total[row, i] += x
            squares[row, i] += x * x
