"""RadialBackground: mean and deviation of the background at each radius, as peakfinder8 has them (Barty et al. 2014, J. Appl. Cryst. 47, 1118).

Pixels belong to the bin of their rounded radius. Of each bin, pixels further than `min_snr` deviations from the mean are left out five times over.
It knows no detector and no peak. With `per_bin` only so many pixels of each bin are looked at, drawn at random once and then always the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from drp.fex import _radial_kernels as kernels
from drp.fex.errors import FexError
from drp.fex.frames import Array, Floats, Frame, Shape, frame_array, read_only, segments_of

TURNS = 5
LEAST = float(np.finfo(np.float32).tiny)
"""No upper threshold of the reference is lower than this, whatever adc_thresh says."""
MOST_BINS = 65535
GUESS_PER_BIN = 32
GUESS_FEWEST = 8
GUESS_REACH = 0.6
SEED = 8
Indices = npt.NDArray[np.int64]


class RadialBackground:
    """Finds `mean` and `deviation` of a frame's background at each radius: `update(frame)`.

    `radius`: (segments, rows, cols) or (rows, cols), in pixels, at least 0 where `mask` (the same shape, 0: not used) has no 0. `min_snr`:
    deviations from the mean beyond which pixels are left out. `adc_thresh`: the least upper threshold, in the frame's unit. `per_bin`: how many
    pixels of each bin are looked at; None: all. Raises FexError where one of them cannot be used.

    `mean`, `deviation`, `threshold` (the upper one): float32 (bins,), valid until the next update, not to be written. A bin without pixels has mean
    and deviation 0. `bins`: the bin of each pixel, uint16 (segments, rows, cols), `n_bins` of a pixel that is not used. One instance per thread.
    """

    def __init__(
        self,
        radius: Array,
        mask: Array | None = None,
        *,
        min_snr: float = 5.0,
        adc_thresh: float = 0.0,
        per_bin: int | None = None,
    ) -> None:
        if not (np.isfinite(min_snr) and min_snr > 0 and np.isfinite(adc_thresh)):
            raise FexError(
                f"min_snr {min_snr} and adc_thresh {adc_thresh} cannot be used", "Give a positive min_snr"
            )
        if per_bin is not None and per_bin < 1:
            raise FexError(
                f"{per_bin} pixels of each radius cannot be looked at", "Give at least 1, or None for all"
            )
        self.min_snr, self.per_bin = float(min_snr), per_bin
        self.least = np.float32(max(adc_thresh, LEAST))
        self.bins, self.n_bins = bins_by_radius(radius, mask)
        self.shape: Shape = self.bins.shape
        self._flat_bins = self.bins.reshape(-1)
        self._counts = np.bincount(self._flat_bins, minlength=self.n_bins)[: self.n_bins].astype(np.float64)
        self._sample = read_only(sample_of(self._flat_bins, self.n_bins, per_bin or GUESS_PER_BIN))
        self._sample_bins = read_only(self._flat_bins[self._sample])
        self._sample_values = np.empty(len(self._sample), np.float32)
        self._sample_counts = np.bincount(self._sample_bins, minlength=self.n_bins).astype(np.int64)
        self._nothing = np.zeros((self.n_bins, 2)), np.zeros(self.n_bins)
        self._no_guess = np.empty((self.n_bins, 2), np.float32)
        self._no_guess[:] = np.inf, -np.inf
        self._work = np.empty((self.n_bins, 3))
        self.state = np.zeros((4, self.n_bins + 1), np.float32)
        self.state[2:, -1] = np.inf, -np.inf
        self.mean, self.deviation, _, self.threshold = (read_only(one[:-1]) for one in self.state)
        self._whole = np.empty(self.shape, np.float32)
        if per_bin is None:
            self.survey = Survey(self)
        self.update(np.zeros(self.shape, np.float32))

    def update(self, frame: Frame) -> None:
        """Find mean and deviation of a frame: float32 (segments, rows, cols), or calibrated segments; FexError where it does not fit."""
        if self.per_bin is None:
            self.survey.of(self.whole(frame), (self.shape[1], self.shape[2]))
        else:
            self.look(frame)

    def look(self, frame: Frame) -> None:
        """Update from the sample alone."""
        values = self._sample_values
        if not isinstance(frame, np.ndarray) and getattr(frame, "calibrates_pixels", False):
            segments_of(frame, self.shape)
            frame.pixels(self._sample, values)
        else:
            kernels.gather(self.whole(frame).reshape(-1), self._sample, values)
        self.clip(values, self._sample_bins, len(values), self._no_guess, *self._nothing)

    def whole(self, frame: Frame) -> Floats:
        """Return a frame as one read-only array; segments are copied to one that is valid until the next call."""
        if isinstance(frame, np.ndarray):
            return frame_array(frame, self.shape)
        for at, one in enumerate(segments_of(frame, self.shape)):
            self._whole[at] = one
        return read_only(self._whole)

    def clip(self, values: Floats, bins: Array, n: int, inner: Floats, sums: Array, counts: Array) -> int:
        """Iterate over listed pixels; return how many guesses failed."""
        given = np.float64(self.min_snr), np.float64(self.least), TURNS
        failed: int = kernels.clip(values, bins, n, inner, sums, counts, *given, self._work, self.state)
        return failed

    def guess(self, inner: Floats) -> None:
        """Guess from the sample of the last `look` between which values pixels surely count."""
        reach = np.float32(GUESS_REACH * self.min_snr)
        kernels.guess(self.state, self._sample_counts, GUESS_FEWEST, reach, self.least, inner)


class Survey:
    """One pass over all pixels, guided by a sample, and what it listed: the pixels far from the mean, candidates for peaks among them.

    `found` (flat index, in the order that the reference visits them), `values` and `of_bin` of the `n` listed pixels, those of segment s from
    `starts[s]` on.
    """

    def __init__(self, background: RadialBackground) -> None:
        self._of = background
        size, bins = background.bins.size, background.n_bins
        self.n = 0
        self.starts = np.zeros(background.shape[0] + 1, np.int64)
        self.found = np.empty(size, np.uint32)
        self.values = np.empty(size, np.float32)
        self.of_bin = np.empty(size, np.uint16)
        self._inner = np.empty((bins + 1, 2), np.float32)
        self._inner[-1] = -np.inf, np.inf
        self._sums = np.empty((bins + 1, 2))
        self._counts = np.empty(bins)

    def of(self, frame: Floats, asic: tuple[int, int]) -> None:
        """Find mean and deviation of a frame; where a guess fails it is all done again without it."""
        self._of.look(frame)
        self._of.guess(self._inner[:-1])
        while self._failed(frame.reshape(-1), asic):
            pass

    def _failed(self, flat: Floats, asic: tuple[int, int]) -> int:
        _, rows, cols = self._of.shape
        bins = self._of._flat_bins
        self._sums[:] = 0
        self.n = 0
        for segment in range(len(self.starts) - 1):
            at = segment * rows * cols
            listed = self.found, self.values, self.n
            self.n = kernels.survey(flat, at, (rows, cols), asic, bins, self._inner, self._sums, *listed)
            self.starts[segment + 1] = self.n
        self._counts[:] = self._of._counts
        kernels.bins_of(self.found, self.n, bins, self._counts, self.of_bin)
        return self._of.clip(
            self.values, self.of_bin, self.n, self._inner[:-1], self._sums[:-1], self._counts
        )


def bins_by_radius(radius: Array, mask: Array | None) -> tuple[npt.NDArray[np.uint16], int]:
    """Return the bin of each pixel, read-only uint16 (segments, rows, cols), and how many there are, the bin of pixels that are not used."""
    radius = np.asarray(radius, np.float32)
    used = np.ones(radius.shape, bool) if mask is None else np.asarray(mask) != 0
    if radius.ndim not in (2, 3) or used.shape != radius.shape or not radius.size:
        raise FexError(
            f"radius is {radius.shape}, mask {used.shape}",
            "Both are to be (segments, rows, columns), or (rows, columns)",
        )
    least, most = (float(one(radius[used])) if used.any() else 0.0 for one in (np.min, np.max))
    if not (least >= 0 and most < MOST_BINS - 0.5):
        raise FexError(
            f"radii are from {least:g} to {most:g}",
            f"Give them in pixels, from 0 to below {MOST_BINS}, or mask the others",
        )
    n_bins = int(np.rint(np.float32(most))) + 1
    bins = np.full(radius.shape, n_bins, np.uint16)
    bins[used] = np.rint(radius[used])
    return read_only(bins.reshape(-1, *radius.shape[-2:])), n_bins


def sample_of(bins: npt.NDArray[np.uint16], n_bins: int, per_bin: int) -> Indices:
    """Return the flat indices, rising, of `per_bin` pixels of each bin, drawn at random and always the same; all of a bin that has no more."""
    drawn = np.random.default_rng(SEED).permutation(np.flatnonzero(bins < n_bins))
    drawn = drawn[np.argsort(bins[drawn], kind="stable")]
    of = bins[drawn]
    rank = np.arange(len(drawn)) - np.searchsorted(of, np.arange(n_bins))[of]
    return np.sort(drawn[rank < per_bin])


def warm_up() -> None:
    """Compile the kernels for what a worker passes."""
    for per_bin in (None, 1):
        RadialBackground(np.zeros((1, 2, 2)), per_bin=per_bin)
