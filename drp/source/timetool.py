"""TimeToolTruth: what is really in the simulated events of a time tool, a pure function of the options.

A line camera, its black level subtracted, sees the spectrum of a chirped laser pulse, whose wavelengths come through a thin target one after the
other. Once the X-ray beam hits the target it lets less light through: an edge, whose place is the time of the beam after the laser.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drp.source.simoptions import SimOptions
from drp.source.waveforms import count_samples

_SAMPLES = 2048
_LIGHT = 3000.0
_TOP = 0xFFF
_RMS = 3.0
_JITTER = 0.05
_HALF_WIDTH = 0.45
_RIPPLE = 0.05
_RIPPLES = 9.0
EDGE_SAMPLES = 12.0
"""The scale of the edge: a logistic step that goes from 27 to 73 % of its depth within two of these."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The edge of an event: the pixel where half of its depth is reached, and what part of the light is gone beyond it."""

    position: float
    depth: float


class TimeToolTruth:
    """Light with an edge, in `samples` 12-bit pixels; `options.size` is their number."""

    def __init__(self, options: SimOptions) -> None:
        self.options = options
        self.samples = count_samples(options, _SAMPLES, "a time tool")
        self.rms = _RMS * options.noise
        self.edge_samples = min(EDGE_SAMPLES, self.samples / 64)

    def has_beam(self, frame: int) -> bool:
        """Say whether a frame has the X-ray beam, and so an edge. The first of `references` frames has none."""
        return not self.options.references or frame % self.options.references != 0

    def edge(self, frame: int) -> Edge | None:
        """Return the edge of a frame, in the middle half of the camera; None without the beam."""
        if not self.has_beam(frame):
            return None
        rng = np.random.default_rng([self.options.seed, 0, frame])
        return Edge(rng.uniform(0.25, 0.75) * self.samples, rng.uniform(0.1, 0.4))

    def light(self, frame: int) -> npt.NDArray[np.float64]:
        """Return what the camera would see of a frame without the beam and without noise, ADU; the laser's energy varies by 5 %."""
        energy = 1 + _JITTER * np.random.default_rng([self.options.seed, 2, frame]).standard_normal()
        x = np.arange(self.samples) / self.samples - 0.5
        ripple = 1 + _RIPPLE * np.sin(2 * np.pi * _RIPPLES * x)
        return np.asarray(_LIGHT * energy * ripple * np.exp(-((x / _HALF_WIDTH) ** 2) * np.log(2)))

    def shape(self, frame: int) -> npt.NDArray[np.float64]:
        """Return a frame before noise and rounding, ADU."""
        form, edge = self.light(frame), self.edge(frame)
        if edge is not None:
            after = (np.arange(self.samples) - edge.position) / self.edge_samples
            form = form * (1 - edge.depth * (1 + np.tanh(after / 2)) / 2)
        return form

    def raw(self, frame: int) -> npt.NDArray[np.uint16]:
        """Return the pixels of a frame, (samples,) uint16."""
        rng = np.random.default_rng([self.options.seed, 1, frame])
        noisy = self.shape(frame) + self.rms * rng.standard_normal(self.samples)
        return np.clip(np.rint(noisy), 0, _TOP).astype(np.uint16)
