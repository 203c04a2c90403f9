"""Pulses in the waveform of a digitizer, by constant fraction discrimination: their times do not depend on their heights.

From the waveform v, its baseline taken off and turned so that pulses rise, a fraction of the same `delay` samples later is subtracted:
b(t) = v(t) - fraction * v(t + delay) - walk. A pulse arrives where b goes up through zero while v is above the threshold; a cubic through
the four samples around tells where between two. That is psana's discriminator (psana.hexanode.PyCFD), by the principle of
D. A. Gedcke and W. J. McDonald, Nuclear Instruments and Methods 55, 377 (1967).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from drp.fex._cfd_kernels import find_crossings, mean_of, measure
from drp.fex._inputs import RAW_TYPES, Samples
from drp.fex.errors import FexError

F64 = npt.NDArray[np.float64]


class Pulses(NamedTuple):
    """The pulses of one waveform, by arrival, each array (pulses,) float64: views, valid until the next waveform."""

    samples: F64
    """Arrival in samples, 0 at the first."""
    times_s: F64
    """Arrival in seconds."""
    amplitudes: F64
    """Highest sample of each above the baseline, in the units of the samples; positive for either polarity."""
    widths: F64
    """Full width at half of that in samples; as far as the neighbours, where it does not fall to the half before."""
    dropped: int
    """Pulses that there was no room for, later than all these."""


class PulseFinder:
    """Finds pulses in waveforms of `samples` uint16 or float32; one instance per thread.

    `threshold`: what v is above where a pulse arrives, on its flank, well below its top; 0 or more. `fraction`: above 0, to 1. `delay`: samples,
    about half the rise of a pulse. `walk`: level of b that counts as zero. `falling`: pulses go down. `baseline`: a number, or the samples (first,
    beyond the last) whose mean it is; by default the first twentieth. `dead`: samples from an arrival on in which there is no other. `interval_s`:
    seconds of a sample; `begin_s`: of the first one. `most`: pulses that there is room for. FexError: these do not fit, here or at an event.
    """

    def __init__(
        self,
        samples: int,
        threshold: float,
        *,
        fraction: float = 0.5,
        delay: int = 4,
        walk: float = 0.0,
        falling: bool = False,
        baseline: float | tuple[int, int] | None = None,
        dead: int = 0,
        interval_s: float = 1.0,
        begin_s: float = 0.0,
        most: int = 256,
    ) -> None:
        if delay < 1 or samples < delay + 4:
            raise FexError(
                f"delay={delay} does not fit {samples} samples", "Give 1 or more, and 4 samples beyond"
            )
        if not 0 < fraction <= 1:
            raise FexError(f"fraction={fraction}", "Give more than 0, and 1 at most")
        if (
            not all(map(math.isfinite, (threshold, walk, interval_s, begin_s)))
            or threshold < 0
            or interval_s <= 0
        ):
            told = f"threshold={threshold}, walk={walk}, interval_s={interval_s}, begin_s={begin_s}"
            raise FexError(told, "Give numbers, the first 0 or more, the third above 0")
        if dead < 0 or most < 1:
            raise FexError(f"dead={dead}, most={most}", "Give 0 or more, and 1 or more")
        self.samples = samples
        self._input = Samples((samples,))
        self.interval_s, self.begin_s = interval_s, begin_s
        self._baseline = _baseline_in(samples, (0, max(1, samples // 20)) if baseline is None else baseline)
        self._polarity = -1.0 if falling else 1.0
        self._fraction, self._delay, self._walk = float(fraction), int(delay), float(walk)
        self._threshold, self._dead = float(threshold), int(dead)
        self._places = np.zeros(most, np.intp)
        self._out = np.zeros((4, most))
        for dtype in RAW_TYPES:
            self.find(np.zeros(samples, dtype))

    def find(self, waveform: npt.NDArray[Any]) -> Pulses:
        """Find the pulses of one waveform (samples,). None are found where the baseline is no number."""
        raw = self._input.view(waveform)
        given = self._baseline
        base = given if isinstance(given, float) else mean_of(raw, *given)
        cfd = (base, self._polarity, self._fraction, self._delay, self._walk)
        times = self._out[0]
        total = find_crossings(raw, cfd, self._threshold, self._dead, self._places, times)
        count = min(total, len(self._places))
        samples, times_s, amplitudes, widths = self._out[:, :count]
        measure(raw, base, self._polarity, self._threshold, self._places[:count], amplitudes, widths)
        np.multiply(samples, self.interval_s, out=times_s)
        times_s += self.begin_s
        return Pulses(samples, times_s, amplitudes, widths, total - count)


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    PulseFinder(16, 1.0)


def _baseline_in(samples: int, baseline: float | tuple[int, int]) -> float | tuple[int, int]:
    if isinstance(baseline, tuple):
        first, beyond = baseline
        if not 0 <= first < beyond <= samples:
            raise FexError(
                f"baseline={first}:{beyond} does not fit {samples} samples",
                "Give the first one and the one beyond the last",
            )
        return int(first), int(beyond)
    if not math.isfinite(baseline):
        raise FexError(
            f"baseline={baseline}", "Give a number, or the first sample and the one beyond the last"
        )
    return float(baseline)
