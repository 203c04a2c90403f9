"""RadialBackground: mean and deviation of the background at each radius, as peakfinder8 has them (Barty et al. 2014, J. Appl. Cryst. 47, 1118).

Pixels belong to the bin of their rounded radius. Of each bin, pixels further than `min_snr` deviations from the mean are left out five times over. It
knows no detector and no peak. With `per_bin` only so many pixels of each bin are looked at, drawn at random once and then always the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from drp.fex import _radial_kernels as kernels
from drp.fex.errors import FexError
from drp.fex.frames import Array, Floats, Frame, Shape, frame_array, read_only, segments_of

TURNS = 5
POOLED = 2
"""Bins on either side whose sample a bin is clipped together with."""
LEAST = float(np.finfo(np.float32).tiny)
"""No upper threshold of the reference is lower than this, whatever adc_thresh says."""
MOST_BINS = 65000
GUESS_PER_BIN = 32
GUESS_FEWEST = 8
GUESS_REACH = 0.6
"""The part of min_snr within which pixels of a bin are guessed to count every time. Less lists more pixels, more fails more often."""
SEED = 8


class RadialBackground:
    """Finds `mean` and `deviation` of a frame's background at each radius: `update(frame)`.

    `radius`: (segments, rows, cols) or (rows, cols), in pixels, at least 0 where `mask` (the same shape, 0: not used) has no 0. `min_snr`: deviations
    from the mean beyond which pixels are left out. `adc_thresh`: the least upper threshold, in the frame's unit. `per_bin`: how many pixels of each
    bin are looked at; None: all. Raises FexError where one of them cannot be used.

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
        self.bins, self.n_bins = bins_by_radius(radius, mask)
        self.shape: Shape = self.bins.shape
        self.clipping = np.float64(min_snr), np.float64(max(adc_thresh, LEAST)), TURNS
        self.state = np.zeros((4, self.n_bins + 1), np.float32)
        self.state[2:, -1] = np.inf, -np.inf  # a pixel that is not used is below no threshold
        self.mean, self.deviation, _, self.threshold = (read_only(one[:-1]) for one in self.state)
        flat = self.bins.reshape(-1)
        self._sample = read_only(sample_of(flat, self.n_bins, per_bin or GUESS_PER_BIN))
        self._values = np.empty(len(self._sample), np.float32)
        self._places, most = places_by_bin(flat[self._sample])
        self._table = np.full((most, self.n_bins), np.nan, np.float32)
        self._work = np.empty((3, self.n_bins))
        self._whole = np.empty(self.shape, np.float32)
        self.survey = Survey(self) if per_bin is None else None
        self.update(unlisted(self.shape))
        self.state[:2] = 0

    def update(self, frame: Frame) -> None:
        """Find mean and deviation of a frame: float32 (segments, rows, cols), or calibrated segments; FexError where it does not fit."""
        if self.survey is None:
            self.look(frame)
        else:
            self.survey.of(self.whole(frame), (self.shape[1], self.shape[2]))

    def look(self, frame: Frame) -> Frame:
        """Update from the sample alone; return the frame, as an array if the sample could not be calibrated by itself."""
        if not isinstance(frame, np.ndarray) and getattr(frame, "calibrates_pixels", False):
            segments_of(frame, self.shape)
            frame.pixels(self._sample, self._values)
        else:
            frame = self.whole(frame)
            kernels.gather(frame.reshape(-1), self._sample, self._values)
        kernels.spread(self._values, self._places, self._table)
        pooled = 0 if self.survey else POOLED
        kernels.clip_table(self._table, pooled, *self.clipping, self._work, self.state)
        return frame

    def whole(self, frame: Frame) -> Floats:
        """Return a frame as one read-only array; segments are copied to one that is valid until the next call."""
        if isinstance(frame, np.ndarray):
            return frame_array(frame, self.shape)
        for at, one in enumerate(segments_of(frame, self.shape)):
            self._whole[at] = one
        return read_only(self._whole)


class Survey:
    """One pass over all pixels, guided by a sample, and what it listed: the pixels far from the mean, candidates for peaks among them.

    `found` (flat index, in the order that the reference visits them), `values` and `of_bin` of the `n` listed pixels, those of segment s from
    `starts[s]` on.
    """

    def __init__(self, background: RadialBackground) -> None:
        self._background = background
        size, bins = background.bins.size, background.n_bins
        flat = background.bins.reshape(-1)
        self.n = 0
        self.starts = [0] * (background.shape[0] + 1)
        self.found = np.empty(size, np.uint32)
        self.values = np.empty(size, np.float32)
        self.of_bin = np.empty(size, np.uint16)
        self._sample_counts = np.bincount(flat[background._sample], minlength=bins)
        self._all_counts = np.bincount(flat, minlength=bins + 1)[:-1]
        self._counts = np.empty(bins)
        self._inner = np.empty((bins + 1, 2), np.float32)
        self._inner[-1] = -np.inf, np.inf
        self._sums = np.empty((bins + 1, 2))
        self._work = np.empty((bins, 3))

    def of(self, frame: Floats, asic: tuple[int, int]) -> None:
        """Find mean and deviation of a frame; where a guess fails it is all done again without it."""
        background = self._background
        background.look(frame)
        snr, least, _ = background.clipping
        given = GUESS_FEWEST, np.float32(GUESS_REACH * snr), np.float32(least)
        kernels.guess(background.state, self._sample_counts, *given, self._inner[:-1])
        while self._failed(frame.reshape(-1), asic):
            pass

    def _failed(self, flat: Floats, asic: tuple[int, int]) -> int:
        background = self._background
        _, rows, cols = background.shape
        bins = background.bins.reshape(-1)
        self._sums[:] = 0
        self.n = 0
        for segment in range(len(self.starts) - 1):
            at = segment * rows * cols
            listed = self.found, self.values, self.n
            self.n = kernels.survey(flat, at, (rows, cols), asic, bins, self._inner, self._sums, *listed)
            self.starts[segment + 1] = self.n
        self._counts[:] = self._all_counts
        kernels.bins_of(self.found, self.n, bins, self._counts, self.of_bin)
        others = self._inner[:-1], self._sums[:-1], self._counts
        failed: int = kernels.clip(
            self.values, self.of_bin, self.n, *others, *background.clipping, self._work, background.state
        )
        return failed


def radius_in_pixels(x: Array, y: Array, beam: tuple[float, float] = (0.0, 0.0)) -> Floats:
    """Return the distance of each pixel from the beam in pixels, float32; `x` and `y` (at least two columns) and `beam` in one unit, of any kind.

    A pixel is as large as the distance between neighbours in a row usually is. Raises FexError where that is not a positive number.
    """
    size = np.median(np.hypot(np.diff(x, axis=-1), np.diff(y, axis=-1))) if np.shape(x)[-1] > 1 else 0.0
    if not (np.isfinite(size) and size > 0):
        raise FexError(
            "the coordinates of pixels do not say how large a pixel is",
            "Give x and y of (..., rows, columns)",
        )
    return (np.hypot(x - beam[0], y - beam[1]) / size).astype(np.float32)


def unlisted(shape: Shape) -> Floats:
    """Return a frame to compile with, of which a survey lists next to nothing: memory that no frame needs is left untouched."""
    frame = np.zeros(shape, np.float32)
    frame.reshape(-1)[::2] = 1
    return frame


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


def sample_of(bins: npt.NDArray[np.uint16], n_bins: int, per_bin: int) -> npt.NDArray[np.int64]:
    """Return the flat indices, rising, of `per_bin` pixels of each bin, drawn at random and always the same; all of a bin that has no more."""
    drawn = np.random.default_rng(SEED).permutation(np.flatnonzero(bins < n_bins))
    drawn = drawn[np.argsort(bins[drawn], kind="stable")]
    return np.sort(drawn[ranks(bins[drawn]) < per_bin])


def places_by_bin(bins: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint32], int]:
    """Return where each pixel of a sample is in a table with a column for each bin, uint32 (pixels, 2), and how many rows that has."""
    order = np.argsort(bins, kind="stable")
    places = np.empty((len(bins), 2), np.uint32)
    places[order, 0] = ranks(bins[order])
    places[:, 1] = bins
    return read_only(places), int(places[:, 0].max(initial=0)) + 1


def ranks(bins: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return how many pixels of the same bin are before each of pixels that are in order of their bins."""
    return np.arange(len(bins)) - np.searchsorted(bins, bins)


def warm_up() -> None:
    """Compile the kernels for what a worker passes."""
    RadialBackground(np.zeros((1, 2, 2)))
