"""Sparse frames: the bright pixels of a frame, and the mean and deviation of its background at each radius, from which it can be made again.

What was not kept is background: of a pixel at radius r the mean between the two bins around r, give or take the deviation (Kieffer and others, J.
Appl. Cryst. 58, 138 (2025)). fabio's `densify_Bragg` makes frames of it; `drp.fex.sparse_hdf5` writes what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.fex import peakfinder8
from drp.fex.errors import FexError
from drp.fex.frames import Array, Floats, Frame, read_only
from drp.fex.peakfinder8 import PeakFinder8, Peaks

UNUSED = -1.0
"""The radius of a pixel that is not used, in `SparseBragg.radius`."""


@dataclass(frozen=True, slots=True)
class SparseFrame:
    """One frame, valid until the next.

    `index` (uint32, over all pixels of the frame) and `intensity` (float32, that of the frame) of the bright pixels; `background_avg`,
    `background_std`: float32 (bins,), bin k being radius k; `peaks` found in it; `is_hit`: whether they are enough.
    """

    index: npt.NDArray[np.uint32]
    intensity: Floats
    background_avg: Floats
    background_std: Floats
    peaks: Peaks
    is_hit: bool


class SparseBragg:
    """Makes sparse frames: `find(frame)`.

    `radius`, `mask` and `options` are those of PeakFinder8; bright is a pixel more than `min_snr` deviations (an option, 5) above the mean of its
    radius, and above `adc_thresh`. A frame with `hit_peaks` peaks is a hit. `bins`: radii there are; `radius`: of each pixel, float32 (segments,
    rows, cols), UNUSED where none is used: what a reader needs beside the frames. Raises FexError. One instance per thread.
    """

    def __init__(
        self, radius: Array, mask: Array | None = None, *, hit_peaks: int = 10, **options: Any
    ) -> None:
        if hit_peaks < 0:
            raise FexError(f"a hit cannot have {hit_peaks} peaks", "Give 0 for every frame to be a hit")
        self._finder = PeakFinder8(radius, mask, keep_bright=True, **options)
        self._hit_peaks = hit_peaks
        background = self._finder.background
        self.shape = background.shape
        self.bins = background.n_bins
        used = background.bins < self.bins
        self.radius = read_only(np.where(used, np.reshape(radius, self.shape), UNUSED).astype(np.float32))
        there = np.bincount(background.bins.reshape(-1), minlength=self.bins)[: self.bins] > 0
        self._there, self._empty = np.flatnonzero(there), np.flatnonzero(~there)
        self._mean, self._deviation = np.empty((2, self.bins), np.float32)
        self.find(np.zeros(self.shape, np.float32))

    def find(self, frame: Frame) -> SparseFrame:
        """Make a frame sparse, float32 (segments, rows, cols) or segments that are calibrated as they are asked for; FexError on misfit."""
        background = self._finder.background
        peaks = self._finder.find(frame)
        return SparseFrame(
            *self._finder.bright,
            self._filled(background.mean, self._mean),
            self._filled(background.deviation, self._deviation),
            peaks,
            len(peaks) >= self._hit_peaks,
        )

    def _filled(self, values: Floats, out: Floats) -> Floats:
        """Return values of all bins: those without a pixel have what lies between their neighbours, which pixels beside them are made of."""
        out[:] = values
        if len(self._empty) and len(self._there):
            out[self._empty] = np.interp(self._empty, self._there, values[self._there])
        return out


def warm_up() -> None:
    """Compile the kernels for what a worker passes."""
    peakfinder8.warm_up()
    SparseBragg(np.zeros((1, 2, 2)))
