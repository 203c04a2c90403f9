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
_SAMPLE_RATE_HZ = 1e9


@dataclass(frozen=True, slots=True)
class Pulse:
    """The pulse of an event: its arrival in samples, and its height in ADU."""

    arrival: float
    height: float


class WaveformTruth:
    """One pulse on a flat baseline, in `samples` 12-bit samples; `options.size` is their number."""

    def __init__(self, options: SimOptions) -> None:
        self.options = options
        self.samples = _samples(options.size)
        self.baseline = _BASELINE
        self.rms = _RMS * options.noise
        self.sample_rate_hz = _SAMPLE_RATE_HZ

    def pulse(self, frame: int) -> Pulse:
        """Return the pulse of a frame; it arrives in the second or third quarter of the waveform."""
        rng = np.random.default_rng([self.options.seed, 0, frame])
        return Pulse(rng.uniform(0.25, 0.75) * self.samples, rng.uniform(500.0, 3000.0))

    def shape(self, frame: int) -> npt.NDArray[np.float64]:
        """Return the waveform of a frame before noise and rounding, ADU."""
        pulse = self.pulse(frame)
        late = np.maximum(np.arange(self.samples) - pulse.arrival, 0)
        form: npt.NDArray[np.float64] = np.exp(-late / _FALL_SAMPLES) * -np.expm1(-late / _RISE_SAMPLES)
        form *= pulse.height
        form += self.baseline
        return form

    def raw(self, frame: int) -> npt.NDArray[np.uint16]:
        """Return the samples of a frame, (samples,) uint16."""
        rng = np.random.default_rng([self.options.seed, 1, frame])
        noisy = self.shape(frame) + self.rms * rng.standard_normal(self.samples)
        return np.clip(np.rint(noisy), 0, _TOP).astype(np.uint16)


def _samples(size: str) -> int:
    if not size:
        return _SAMPLES
    if not size.isdecimal() or not _MIN_SAMPLES <= int(size) <= _MAX_SAMPLES:
        raise SourceError(
            f"a digitizer has {_MIN_SAMPLES} to {_MAX_SAMPLES} samples, not {size!r}",
            source="sim",
            hint="As in sim:digitizer:64",
        )
    return int(size)
