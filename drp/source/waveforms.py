"""WaveformTruth: what is really in the simulated events of a digitizer, a pure function of the options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drp.core.errors import SourceError
from drp.source.simoptions import SimOptions

_SAMPLES = 256
_MIN_SAMPLES = 16
_MAX_SAMPLES = 1 << 20
_BASELINE = 400.0
_TOP = 0xFFF
_RMS = 3.0
_RISE_SAMPLES = 1.0
_FALL_SAMPLES = 4.0
_STAGES = 4
_MARGIN = 0.1
_APART = 8
_SAMPLE_RATE_HZ = 1e9


@dataclass(frozen=True, slots=True)
class Pulse:
    """A pulse of an event: its arrival in samples, and its height in ADU."""

    arrival: float
    height: float


class WaveformTruth:
    """Pulses on a flat baseline, in `samples` 12-bit samples; `options.size` is their number."""

    def __init__(self, options: SimOptions) -> None:
        self.options = options
        self.samples = count_samples(options, _SAMPLES, "a digitizer")
        self.baseline = _BASELINE
        self.rms = _RMS * options.noise
        self.sample_rate_hz = _SAMPLE_RATE_HZ
        length = _APART * (options.rise or _RISE_SAMPLES)
        self._cell = (1 - 2 * _MARGIN) * self.samples / max(1, options.pulses)
        if options.pulses > 1 and self._cell / 2 < length:
            raise SourceError(
                f"{options.pulses} pulses of {length:g} samples do not fit {self.samples} samples",
                source="sim",
                hint="Ask for fewer pulses, or for more samples",
            )

    def pulses(self, frame: int) -> tuple[Pulse, ...]:
        """Return the pulses of a frame, by arrival. One alone arrives in the second or third quarter of the waveform; several share
        its middle 80 % in equal parts, each arriving in the middle half of its own.
        """
        rng = np.random.default_rng([self.options.seed, 0, frame])
        count, samples = self.options.pulses, self.samples
        if count == 1:
            return (Pulse(rng.uniform(0.25, 0.75) * samples, rng.uniform(500.0, 3000.0)),)
        begins = _MARGIN * samples + self._cell * (np.arange(count) + rng.uniform(0.25, 0.75, count))
        return tuple(map(Pulse, begins.tolist(), rng.uniform(500.0, 3000.0, count).tolist()))

    def shape(self, frame: int) -> npt.NDArray[np.float64]:
        """Return the waveform of a frame before noise and rounding, ADU."""
        form = np.zeros(self.samples)
        for pulse in self.pulses(frame):
            late = np.maximum(np.arange(self.samples) - pulse.arrival, 0)
            form += self._pulse_form(late) * pulse.height
        form += self.baseline
        return form

    def raw(self, frame: int) -> npt.NDArray[np.uint16]:
        """Return the samples of a frame, (samples,) uint16."""
        rng = np.random.default_rng([self.options.seed, 1, frame])
        noisy = self.shape(frame) + self.rms * rng.standard_normal(self.samples)
        return np.clip(np.rint(noisy), 0, _TOP).astype(np.uint16)

    def _pulse_form(self, late: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the pulse so many samples after its arrival. The smooth one is that of a CR-(RC)^4 shaper, with a top of 1."""
        if self.options.rise:
            in_rises = late / self.options.rise
            return in_rises**_STAGES * np.exp(_STAGES * (1 - in_rises))
        form: npt.NDArray[np.float64] = np.exp(-late / _FALL_SAMPLES) * -np.expm1(-late / _RISE_SAMPLES)
        return form


def count_samples(options: SimOptions, usual: int, what: str) -> int:
    """Return the samples that `options.size` asks for, `usual` where it is empty; SourceError where there are too few or too many."""
    size = options.size
    if not size:
        return usual
    if not size.isdecimal() or not _MIN_SAMPLES <= int(size) <= _MAX_SAMPLES:
        raise SourceError(
            f"{what} has {_MIN_SAMPLES} to {_MAX_SAMPLES} samples, not {size!r}",
            source="sim",
            hint=f"As in sim:{options.kind}:64",
        )
    return int(size)
