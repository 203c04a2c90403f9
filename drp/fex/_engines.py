"""The two ways to sum pixels over bins: our scatter, and pyFAI's integrator. Both give sums of signal, of variance and of norm for each bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drp.fex._bins import BEYOND, Axis, Bins, Floats, Singles, Sums
from drp.fex._scatter import find_invalid, multiply
from drp.fex.errors import FexError
from drp.fex.frames import Frame, read_only, segments_of

Summed = tuple[Floats, Floats, Floats]
"""Signal, its variance (0 without an error model) and norm."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What is to be integrated how: `shape` is (segments, rows, cols), arrays are (segments, pixels). `dummy` is NaN where there is none."""

    shape: tuple[int, int, int]
    axis: Axis
    middle: Floats
    reach: Floats
    used: NDArray[np.bool_]
    norm: Singles
    error_model: str | None
    dummy: float
    delta_dummy: float


class Scatter:
    """Our own: one pass over the segments."""

    def __init__(self, pixels: Pixels) -> None:
        self._shape, self._model, self._norm = pixels.shape, pixels.error_model, read_only(pixels.norm)
        self._dummy = np.float32(pixels.dummy), np.float32(pixels.delta_dummy)
        self._bins = Bins(pixels.axis, pixels.middle, pixels.reach, pixels.used)
        self._signal, self._first, self._second, self._lost, self._lost_squares = (
            self._bins.sums() for _ in range(5)
        )
        size = pixels.norm.shape[1]
        self._clean = np.empty(size, np.float32)
        self._values = np.empty(size)  # the variance is a difference of such products: none is rounded
        self._invalid = np.empty(size, np.int32)
        folded = np.zeros((7, pixels.axis.bins))
        self._signal_out, self._variance, self._norm_out, self._second_out = folded[:4]
        self._mean, self._total, self._squares = folded[4:]
        for segment in range(self._shape[0]):  # what a frame without a single pixel would lose
            self._lose(segment, np.arange(size))
        self._lost.fold(self._total)
        self._lost_squares.fold(self._squares, squared=True)

    def sums(self, frame: Frame) -> Summed:
        """Return the sums of a frame; they are valid until the next one's."""
        for one in (self._signal, self._first, self._second, self._lost, self._lost_squares):
            one.clear()
        for segment, pixels in enumerate(segments_of(frame, self._shape)):
            self._add(segment, pixels.reshape(-1))
        self._signal.fold(self._signal_out)
        np.subtract(self._total, self._lost.fold(self._norm_out), out=self._norm_out)
        self._first.fold(self._variance, squared=True)
        if self._model == "azimuthal":
            self._around_the_mean()
        return self._signal_out, self._variance, self._norm_out

    def _add(self, segment: int, values: Singles) -> None:
        invalid = self._invalid[: find_invalid(values, *self._dummy, self._invalid)]
        if len(invalid):
            np.copyto(self._clean, values)
            self._clean[invalid] = 0
            values = read_only(self._clean)
            self._lose(segment, invalid)
        self._bins.add(segment, values, self._signal)
        if self._model == "poisson":
            np.maximum(values, 1, out=self._values)
            self._values[invalid] = 0
            self._add_squared(segment, self._first)
        elif self._model == "azimuthal":
            multiply(values, values, self._values)
            self._add_squared(segment, self._first)
            multiply(values, self._norm[segment], self._values)
            self._add_squared(segment, self._second)

    def _add_squared(self, segment: int, sums: Sums) -> None:
        self._bins.add(segment, read_only(self._values), sums, squared=True)

    def _lose(self, segment: int, invalid: NDArray[np.integer[Any]]) -> None:
        """Count what these pixels would have added to norm and its squares."""
        self._values.fill(0)
        self._values[invalid] = self._norm[segment, invalid]
        self._bins.add(segment, read_only(self._values), self._lost)
        np.multiply(self._values, self._values, out=self._values)
        self._add_squared(segment, self._lost_squares)

    def _around_the_mean(self) -> None:
        """Make sum(c^2 (s - mean n)^2) of sum(c^2 s^2), sum(c^2 s n) and sum(c^2 n^2)."""
        mean, part = self._mean, self._second_out
        np.divide(self._signal_out, self._norm_out, out=mean, where=self._norm_out > 0)
        self._second.fold(part, squared=True)
        part *= mean
        part *= 2
        self._variance -= part
        np.subtract(self._squares, self._lost_squares.fold(part, squared=True), out=part)
        part *= mean
        part *= mean
        self._variance += part
        np.maximum(self._variance, 0, out=self._variance)


class PyFai:
    """pyFAI's own integrator of split bounding boxes as a sparse matrix, of the same positions."""

    def __init__(self, pixels: Pixels) -> None:
        try:
            from pyFAI.containers import ErrorModel  # noqa: PLC0415 - only where it is asked for
            from pyFAI.ext.splitBBoxCSR import HistoBBox1d  # noqa: PLC0415
        except ImportError as error:
            raise FexError(f"method 'pyFAI' needs pyFAI: {error}", "pip install pyFAI") from error
        self._shape, self._norm = pixels.shape, pixels.norm.reshape(-1)
        self._error_model = ErrorModel.parse(pixels.error_model)
        self._dummy = (
            (None, None)
            if np.isnan(pixels.dummy)
            else (np.float32(pixels.dummy), np.float32(pixels.delta_dummy))
        )
        axis = pixels.axis
        self._integrator = HistoBBox1d(
            pixels.middle,
            pixels.reach if pixels.reach.any() else None,
            bins=axis.bins,
            pos0_range=(axis.low, axis.high / BEYOND),
            mask=~pixels.used.reshape(-1),
        )
        self._frame = np.empty(self._shape, np.float32)

    def sums(self, frame: Frame) -> Summed:
        """Return the sums of a frame."""
        for segment, pixels in enumerate(segments_of(frame, self._shape)):
            self._frame[segment] = pixels
        done = self._integrator.integrate_ng(
            self._frame.reshape(-1),
            error_model=self._error_model,
            dummy=self._dummy[0],
            delta_dummy=self._dummy[1],
            solidangle=self._norm,
        )
        return done.signal, done.variance, done.normalization
