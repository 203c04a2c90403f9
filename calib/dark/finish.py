"""From the sums of dark frames to constants: pedestal, rms and status of every pixel, per panel and gain range.

The status bits and their thresholds are those of LCLS's dark processing (`DarkProc.arr_status`), each panel and range judged by its own mean
and spread; so a panel's constants do not depend on which other panels were read with it. It knows no files and no gain codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOT_RMS, COLD_RMS, SATURATED, LOW, HIGH_AVERAGE, LOW_AVERAGE, BAD_SWITCH = (1 << bit for bit in range(7))
STATUS_BITS = {
    HOT_RMS: "rms too high",
    COLD_RMS: "rms too low",
    SATURATED: "saturated too often",
    LOW: "below range too often",
    HIGH_AVERAGE: "average too high",
    LOW_AVERAGE: "average too low",
    BAD_SWITCH: "bad gain switch",
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a pixel is bad. `*_sigmas`: so many standard deviations of the panel from its mean, within the absolute limits.

    `lowest` and `highest` bound the averages; `rms_lowest` and `rms_highest` the rms (None: as `highest`). `share`: of the events that may lie
    outside of the accepted values, or in another gain range.
    """

    lowest: float = 1
    highest: float | None = None
    average_sigmas: float = 6.0
    rms_lowest: float = 0.001
    rms_highest: float | None = None
    rms_sigmas: float = 6.0
    share: float = 0.1


class RangeSums:
    """What one panel's pixels gave in one gain range, over all steps that measured it; arrays of the panel's shape.

    `seen` counts the frames a pixel was to give a value of this range, `strayed` those in which it was in another one, `invalid` those in
    which its gain bits meant nothing.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.seen = np.zeros(shape, np.int64)
        self.count = np.zeros(shape, np.int64)
        self.low = np.zeros(shape, np.int64)
        self.high = np.zeros(shape, np.int64)
        self.invalid = np.zeros(shape, np.int64)
        self.sum = np.zeros(shape, np.uint64)
        self.sumsq = np.zeros(shape, np.uint64)

    @property
    def strayed(self) -> NDArray[np.int64]:
        """Frames in which a pixel was in another range, or in none."""
        return self.seen - self.count - self.low - self.high

    @property
    def measured(self) -> NDArray[np.bool_]:
        """The pixels that this range was asked of."""
        return self.seen > 0

    def average(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and rms (population standard deviation) in ADU, float64; 0 where no value was accepted.

        The squares are taken about the whole part of the mean, in integers: nothing is lost to rounding before the last step.
        """
        count = np.maximum(self.count, 1).astype(np.uint64)
        whole = self.sum // count
        rest = (self.sum - whole * count).astype(np.float64) / count
        # Exact: uint64 arithmetic wraps, and the result is at most count * spread**2.
        about = self.sumsq - np.uint64(2) * whole * self.sum + whole * whole * count
        variance = about.astype(np.float64) / count - rest * rest
        found = self.count > 0
        mean = np.where(found, whole.astype(np.float64) + rest, 0.0)
        return mean, np.where(found, np.sqrt(np.maximum(variance, 0.0)), 0.0)


@dataclass(frozen=True, slots=True)
class PanelRange:
    """The result for one panel in one gain range: float64 mean and rms in ADU, uint64 status; NaN, NaN and 0 where not measured.

    `events` is the number of frames behind it, `bad` how many pixels have each status bit.
    """

    mean: NDArray[np.float64]
    rms: NDArray[np.float64]
    status: NDArray[np.uint64]
    events: int
    bad: dict[int, int]

    @property
    def pedestal(self) -> float:
        """The mean of all measured pixels' means, ADU."""
        return float(np.nanmean(self.mean))

    @property
    def noise(self) -> float:
        """The median of all measured pixels' rms, ADU."""
        return float(np.nanmedian(self.rms))


def evaluate(sums: RangeSums, top: int, thresholds: Thresholds | None = None) -> PanelRange:
    """Return the result of `sums`; `top` is the largest data value.

    Source: psana's `evaluate_limits` and `DarkProc.arr_status`, taken over the measured pixels of one panel. Bit 64 also marks a pixel that
    was in another range than its panel in more than `share` of the events.
    """
    limits = thresholds or Thresholds()
    highest = top - 1 if limits.highest is None else limits.highest
    rms_highest = top - 1 if limits.rms_highest is None else limits.rms_highest
    measured = sums.measured
    mean, rms = sums.average()
    rms_from, rms_to = _limits(rms[measured], limits.rms_sigmas, limits.rms_lowest, rms_highest)
    from_, to = _limits(mean[measured], limits.average_sigmas, limits.lowest, highest)
    allowed = (limits.share * sums.seen).astype(np.int64)
    faults = {
        HOT_RMS: rms > rms_to,
        COLD_RMS: rms < rms_from,
        SATURATED: sums.high > allowed,
        LOW: sums.low > allowed,
        HIGH_AVERAGE: mean > to,
        LOW_AVERAGE: mean < from_,
        BAD_SWITCH: (sums.invalid > 0) | (sums.strayed > allowed),
    }
    status = np.zeros(mean.shape, np.uint64)
    bad = {}
    for bit, faulty in faults.items():
        where = faulty & measured
        status[where] |= np.uint64(bit)
        bad[bit] = int(np.count_nonzero(where))
    mean[~measured] = np.nan
    rms[~measured] = np.nan
    return PanelRange(mean, rms, status, int(sums.seen.max(initial=0)), bad)


def _limits(values: NDArray[np.float64], sigmas: float, lowest: float, highest: float) -> tuple[float, float]:
    if not values.size:
        return lowest, highest
    mean, spread = (float(values.mean()), float(values.std())) if sigmas > 0 else (0.0, 0.0)
    low = mean - sigmas * spread if sigmas > 0 else lowest
    high = mean + sigmas * spread if sigmas > 0 else highest
    return max(low, lowest), min(high, highest)
