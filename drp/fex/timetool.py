"""Time-tool edge finding: where, on a line of pixels, the light changes by a step.

The signal is the pixels less a background (the rolling average of lines without the beam), as part of that background. It is correlated with a
filter, the shape of an edge. Where that is highest is the edge; a parabola through the top tells the place between pixels. LCLS's edge finders
(psana.pyalgos.generic.edgefinder) do the same to the nearest pixel; M. Harmand et al., Nature Photonics 7, 215 (2013), describe the measurement.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from drp.fex._edge_kernels import TAPS, correlate, find_edge, mix, project, relate
from drp.fex._inputs import RAW_TYPES, Samples
from drp.fex.errors import FexError

F32 = npt.NDArray[np.float32]


class Edge(NamedTuple):
    """The edge of an event. Amplitudes are those of the correlation with the filter."""

    position: float
    """Pixels, 0 in the middle of the first; NaN where there is no edge."""
    amplitude: float
    """The highest value of the correlation, of an edge or not."""
    fwhm: float
    """Width of the correlation's peak in pixels, at half its prominence."""
    next_amplitude: float
    """Of the highest peak at least two widths away, if it has a quarter of the amplitude; else 0."""
    background: float
    """Mean of the background."""

    @property
    def found(self) -> bool:
        """Whether there is an edge."""
        return not math.isnan(self.position)


def edge_weights(taps: int = 128, *, rising: bool = False) -> F32:
    """Return a filter (taps,) for an edge that falls, or rises: the derivative of a normal law that is a sixth of it wide.

    The amplitude of a sharp edge is its depth. FexError: fewer than 2 taps. Source: J. Canny, IEEE PAMI 8, 679 (1986), section V.
    """
    if taps < 2:
        raise FexError(f"a filter of {taps} taps sees no edge", "Give 2 or more")
    x = (np.arange(taps) - (taps - 1) / 2) * (6 / taps)
    form = x * np.exp(-(x**2) / 2)
    weights: F32 = (form * ((2 if rising else -2) / np.abs(form).sum())).astype(np.float32)
    return weights


class EdgeFinder:
    """Finds edges in lines (cols,) of a line camera, or in frames (rows, cols) of a camera, uint16 or float32; one instance per thread.

    `weights`: the filter (taps,), `edge_weights()` by default; what psana convolves with, reversed. An edge nearer to an end of the line than half a
    filter is not seen. `rows`: the first row, and beyond the last, that are averaged; all by default. `sideband`: rows without light, whose mean is
    subtracted. `rate`: the part of the newest background in the rolling average. `relative`: divide by the
    background; pixels where that is below `least` count as unchanged. Near one that is no number no edge is seen. `threshold`: the amplitude that an
    edge has at least. FexError: these do not fit, here or at an event.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        weights: npt.ArrayLike | None = None,
        *,
        rows: tuple[int, int] | None = None,
        sideband: tuple[int, int] | None = None,
        rate: float = 0.1,
        relative: bool = True,
        least: float = 1.0,
        threshold: float = 0.0,
    ) -> None:
        if len(shape) not in (1, 2) or min(shape) < 1:
            raise FexError(f"a time tool gives lines (cols,) or frames (rows, cols), not {shape}")
        if not 0 < rate <= 1:
            raise FexError(f"rate={rate} is no part of an average", "Give more than 0, and 1 at most")
        if not 0 < least < math.inf or not math.isfinite(threshold):
            raise FexError(f"least={least}, threshold={threshold}", "Give numbers, the first above 0")
        self._input = Samples(tuple(shape))
        taps = _checked(edge_weights() if weights is None else weights, shape[-1])
        self.rows = _within(shape, rows or (0, shape[0] if len(shape) == 2 else 1), "rows")
        self.sideband = _within(shape, sideband, "sideband") if sideband else (0, 0)
        self.relative, self.threshold = bool(relative), float(threshold)
        self._rate, self._least = np.float32(rate), np.float32(least)
        self._first = (len(taps) - 1) / 2
        self._taps = np.zeros(-(-len(taps) // TAPS) * TAPS, np.float32)
        self._taps[: len(taps)] = taps
        self._line = np.zeros(shape[-1], np.float32)
        self._background = np.zeros(shape[-1], np.float32)
        self._signal = np.zeros(shape[-1] + TAPS, np.float32)
        self._correlation = np.zeros(shape[-1] - len(taps) + 1, np.float32)
        self._found = np.zeros(4)
        self._mean = math.nan
        for dtype in RAW_TYPES:
            self.add_background(np.zeros(shape, dtype))
            self.find(np.zeros(shape, dtype))
        self._mean = math.nan

    @property
    def background(self) -> F32 | None:
        """The rolling average (cols,), a view; None while there is none."""
        return None if math.isnan(self._mean) else self._background

    @property
    def signal(self) -> F32:
        """What the filter saw at the last `find`, (cols,), a view."""
        return self._signal[: len(self._line)]

    @property
    def correlation(self) -> F32:
        """The correlation of the last `find`, (cols - taps + 1,), a view; its first value is that of an edge at (taps - 1) / 2."""
        return self._correlation

    def set_background(self, line: npt.ArrayLike) -> None:
        """Take a background (cols,) in place of the average, such as one of an earlier run; FexError where it has other pixels, or no numbers."""
        given = np.asarray(line, np.float32)
        if given.shape != self._line.shape or not np.isfinite(given).all():
            raise FexError(f"the background is {given.shape}", f"Give {self._line.shape} finite numbers")
        self._background[:] = given
        self._mean = float(given.mean())

    def add_background(self, raw: npt.NDArray[Any]) -> None:
        """Add a line or frame without the beam to the average; the first is the average, with 0 for what is no number."""
        project(self._frame(raw), self.rows, self.sideband, self._line)
        if self.background is None:
            self._background[:] = 0
        mix(self._line, np.float32(1) if self.background is None else self._rate, self._background)
        self._mean = float(self._background.mean())

    def find(self, raw: npt.NDArray[Any]) -> Edge:
        """Find the edge; nothing is found while there is no background."""
        frame = self._frame(raw)
        if self.background is None:
            return Edge(math.nan, 0.0, 0.0, 0.0, math.nan)
        project(frame, self.rows, self.sideband, self._line)
        relate(self._line, self._background, self._least, self.relative, self._signal)
        correlate(self._signal, self._taps, self._correlation)
        find_edge(self._correlation, self._found)
        position, amplitude, fwhm, following = self._found.tolist()
        position = position + self._first if amplitude >= self.threshold else math.nan
        return Edge(position, amplitude, fwhm, following, self._mean)

    def _frame(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._input.view(raw).reshape(-1, len(self._line))


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    EdgeFinder((16,), edge_weights(8))


def _checked(weights: npt.ArrayLike, cols: int) -> F32:
    taps = np.asarray(weights, np.float32)
    if taps.ndim != 1 or not 2 <= len(taps) <= cols - 2 or not np.isfinite(taps).all() or not taps.any():
        raise FexError(
            f"the filter {taps.shape} fits no lines of {cols} pixels",
            f"Give 2 to {cols - 2} finite numbers, not all 0",
        )
    return taps


def _within(shape: tuple[int, ...], rows: tuple[int, int], what: str) -> tuple[int, int]:
    first, beyond = rows
    most = shape[0] if len(shape) == 2 else 1
    if not 0 <= first < beyond <= most:
        raise FexError(
            f"{what}={first}:{beyond} does not fit {most} rows",
            "Give the first row and the one beyond the last",
        )
    return int(first), int(beyond)
