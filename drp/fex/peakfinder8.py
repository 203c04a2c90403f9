"""PeakFinder8: Bragg peaks of a calibrated frame, after Barty et al. 2014, J. Appl. Cryst. 47, 1118 (peakfinder8 of Cheetah, psana, OM and CrystFEL).

The background at each radius gives a threshold; pixels above it that touch are a peak, if there are neither too few nor too many, and if their sum is
`min_snr` times the deviation of the pixels around them. Peaks are the same as those of psana's peakfinder8 on the same frame. It knows no detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from calib.detectors._lanes import WIDTH
from drp.fex import _peak_kernels as kernels
from drp.fex.errors import FexError
from drp.fex.frames import Array, Floats, Frame, read_only, segments_of
from drp.fex.radial import RadialBackground, unlisted

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Peaks:
    """The peaks of one frame, in the order they were found; arrays of one element each, valid until the next `find`.

    `x`, `y`: centre by intensity, in pixels, of the segments one below the other as psana has them (float32); `segment`, `row`, `col` the pixel
    there (int32). `intensity`, `maximum`: sum and largest pixel above the local background; `sigma`: its deviation; `snr`: intensity / sigma
    (float32); `pixels` (int32). `found`: how many peaks there are, also those beyond `max_num_peaks` that have no room.
    """

    cxi_types: ClassVar[dict[str, type]] = {
        "peakXPosRaw": np.float32,
        "peakYPosRaw": np.float32,
        "peakTotalIntensity": np.float32,
        "peakMaximumValue": np.float32,
        "peakSNR": np.float32,
        "peakNPixels": np.int32,
        "peakSegment": np.int32,
        "peakRow": np.int32,
        "peakCol": np.int32,
    }

    x: Floats
    y: Floats
    intensity: Floats
    maximum: Floats
    sigma: Floats
    snr: Floats
    segment: Ints
    row: Ints
    col: Ints
    pixels: Ints
    found: int

    def __len__(self) -> int:
        return len(self.x)

    def cxi(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by the names that CXI files have them by, which CrystFEL reads; their types are `cxi_types`."""
        values = self.x, self.y, self.intensity, self.maximum, self.snr, self.pixels
        return dict(zip(self.cxi_types, (*values, self.segment, self.row, self.col), strict=True))


class PeakFinder8:
    """Finds the Bragg peaks of frames: `find(frame)`.

    `radius`: of each pixel, (segments, rows, cols) or (rows, cols), in pixels. `mask`: the same shape, 0 for a pixel that is not used; one whose
    radius is less than `min_res` or more than `max_res` is not either. `asic_shape`: rows and columns of the parts that a segment consists of,
    which no peak crosses; None: a whole segment. `adc_thresh`: what every pixel of a peak is above, in the frame's unit. `min_snr`: in deviations,
    both of a pixel above the radial and of a peak above the local background. `min_pix_count`, `max_pix_count`: pixels of a peak.
    `local_bg_radius`: the background around a peak is that within twice as many pixels. `per_bin`: None finds the peaks of psana's peakfinder8; a
    number takes the radial background from so many pixels of each radius, which is fast. Raises FexError where one of them cannot be used.

    `background` is the radial background of the last frame, and `bright`, with `keep_bright`, the pixels above it. One instance per thread.
    """

    def __init__(
        self,
        radius: Array,
        mask: Array | None = None,
        *,
        asic_shape: tuple[int, int] | None = None,
        max_num_peaks: int = 2048,
        min_snr: float = 5.0,
        adc_thresh: float = 0.0,
        min_pix_count: int = 2,
        max_pix_count: int = 200,
        local_bg_radius: int = 3,
        min_res: float | None = None,
        max_res: float | None = None,
        per_bin: int | None = None,
        keep_bright: bool = False,
    ) -> None:
        limits = min_pix_count, max_pix_count, 2 * local_bg_radius
        if not (1 <= min_pix_count <= max_pix_count and local_bg_radius >= 0 and max_num_peaks >= 1):
            raise FexError(
                f"peaks of {min_pix_count} to {max_pix_count} pixels, {max_num_peaks} at most, a background of radius {local_bg_radius}",
                "Give positive numbers, the smaller first",
            )
        used = in_resolution(radius, mask, min_res, max_res)
        self.background = RadialBackground(
            radius, used, min_snr=min_snr, adc_thresh=adc_thresh, per_bin=per_bin
        )
        self.shape = self.background.shape
        self._panel = self.shape[1:]
        self._asic = asic_of(asic_shape, self._panel)
        self._limits = limits
        self._snr = np.float32(min_snr)
        segments, pixels = self.shape[0], self._panel[0] * self._panel[1]
        self._bins = list(self.background.bins.reshape(segments, -1))
        self._every_bin = list(read_only(every_bin(self.background, radius).reshape(segments, -1)))
        self._kinds = list(
            read_only(kinds_of(self.background.bins.reshape(segments, -1), self.background.n_bins))
        )
        self._bright = (np.empty(segments * pixels, np.uint32), np.empty(segments * pixels, np.float32))
        self._keep_bright, self._n_bright = keep_bright, 0
        self._floors = np.empty(self.background.n_bins + 2, np.float32)
        self._hot = np.zeros(pixels, np.uint8)
        self._candidates = np.empty(pixels, np.uint32)
        self._members = np.zeros((self._asic[0] * self._asic[1] + 1, 2), np.int32)
        self._members_used = 0
        self._numbers = np.empty((6, max_num_peaks), np.float32)
        self._places = np.empty((4, max_num_peaks), np.int32)
        self.find(unlisted(self.shape))
        self.background.state[:2] = 0

    def find(self, frame: Frame) -> Peaks:
        """Find the peaks of a frame: float32 (segments, rows, cols), or calibrated segments; FexError where it does not fit."""
        self._members[: self._members_used + 1] = 0
        self._members_used = self._n_bright = 0
        return self._peaks(self._all(frame) if self.background.survey else self._fast(frame))

    @property
    def bright(self) -> tuple[npt.NDArray[np.uint32], Floats]:
        """Index (flat, over all segments) and value of the last frame's pixels above the threshold of their radius; none without `keep_bright`."""
        index, values = self._bright
        return index[: self._n_bright], values[: self._n_bright]

    def _all(self, frame: Frame) -> int:
        whole, survey = self.background.whole(frame), self.background.survey
        assert survey is not None
        survey.of(whole, self._asic)
        found = 0
        upper, pixels = self.background.state[3], len(self._hot)
        for segment, one in enumerate(whole.reshape(len(whole), -1)):
            part = survey.starts[segment], survey.starts[segment + 1]
            listed = survey.found, survey.values, survey.of_bin, *part, segment * pixels
            n = kernels.mark(*listed, upper, self._hot, self._candidates)
            found = self._search(one, segment, n, found, 1)
        return found

    def _fast(self, frame: Frame) -> int:
        frame = self.background.look(frame)
        upper = self.background.state[3]
        kernels.lowest(upper, self._floors)
        found = 0
        for segment, one in enumerate(segments_of(frame, self.shape)):
            flat = one.reshape(-1)
            tables = self._bins[segment], self._kinds[segment], self._floors, upper
            n = kernels.above(flat, *tables, self._hot, self._candidates)
            found = self._search(flat, segment, n, found, 0)
        return found

    def _search(self, frame: Floats, segment: int, n: int, found: int, stray: int) -> int:
        if self._keep_bright:
            self._add_bright(frame, segment, n)
        found, self._members_used = kernels.search(
            frame,
            segment,
            self._panel,
            self._asic,
            self._bins[segment],
            self._every_bin[segment],
            self.background.state,
            self._hot,
            self._candidates,
            n,
            self._limits,
            self._snr,
            stray,
            self._members,
            self._members_used,
            self._numbers,
            self._places,
            found,
        )
        return found

    def _add_bright(self, frame: Floats, segment: int, n: int) -> None:
        kept = slice(self._n_bright, self._n_bright + n)
        index, values = self._bright
        np.take(frame, self._candidates[:n], out=values[kept], mode="clip")  # "raise" would make a copy
        np.add(self._candidates[:n], np.uint32(segment * len(self._hot)), out=index[kept])
        self._n_bright += n

    def _peaks(self, found: int) -> Peaks:
        n = min(found, self._numbers.shape[1])
        x, y, intensity, maximum, sigma, snr = self._numbers[:, :n]
        segment, row, col, pixels = self._places[:, :n]
        return Peaks(x, y, intensity, maximum, sigma, snr, segment, row, col, pixels, found)


def in_resolution(radius: Array, mask: Array | None, min_res: float | None, max_res: float | None) -> Array:
    """Return which pixels are used: those of the mask whose radius is from `min_res` to `max_res`."""
    if not (-np.inf if min_res is None else min_res) <= (np.inf if max_res is None else max_res):
        raise FexError(
            f"no pixel is from {min_res} to {max_res} pixels from the beam", "Give min_res, then max_res"
        )
    radius = np.asarray(radius)
    used = np.ones(radius.shape, bool) if mask is None else np.asarray(mask) != 0
    if used.shape == radius.shape and min_res is not None:
        used = used & (radius >= min_res)
    if used.shape == radius.shape and max_res is not None:
        used = used & (radius <= max_res)
    return used


def every_bin(background: RadialBackground, radius: Array) -> npt.NDArray[np.uint16]:
    """Return the bin of each pixel, flat, also of those that are not used where there is such a bin."""
    flat = np.asarray(radius, np.float32).reshape(-1)
    beyond = ~((flat >= 0) & (flat < background.n_bins - 0.5))
    return np.where(beyond, background.n_bins, np.rint(np.where(beyond, 0, flat))).astype(np.uint16)


def kinds_of(bins: npt.NDArray[np.uint16], n_bins: int) -> npt.NDArray[np.uint16]:
    """Return the lowest bin of each WIDTH pixels, (segments, pixels // WIDTH), n_bins + 1 where another is more than WIDTH higher."""
    groups = bins[:, : bins.shape[1] // WIDTH * WIDTH].reshape(len(bins), -1, WIDTH)
    low, high = groups.min(axis=2), np.where(groups == n_bins, 0, groups).max(axis=2)
    return np.where(high > low.astype(np.int64) + WIDTH, n_bins + 1, low).astype(np.uint16)


def asic_of(asic: tuple[int, int] | None, panel: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of an ASIC; FexError where a panel does not consist of such."""
    rows, cols = asic or panel
    if rows < 1 or cols < 1 or panel[0] % rows or panel[1] % cols:
        raise FexError(
            f"segments of {panel} pixels do not consist of ASICs of {(rows, cols)}",
            "Give (rows, columns) of one",
        )
    return rows, cols


def warm_up() -> None:
    """Compile the kernels for what a worker passes."""
    for per_bin in (None, 1):
        PeakFinder8(np.zeros((1, 2, 2)), per_bin=per_bin)
