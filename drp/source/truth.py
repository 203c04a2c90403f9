"""SimTruth: what is really in the simulated frames of a camera, a pure function of the options.

Constants of every pixel and gain range, where each photon fell, and the frames made of both. It knows no
dgrams. Arrays of all pixels have shape (segments, rows, cols), those of every gain range (ranges, segments,
rows, cols), in the order of the camera's ranges.
"""

from __future__ import annotations

import math
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.errors import SourceError
from drp.source._frames import count_photons, digitize
from drp.source.cameras import CAMERAS, Camera
from drp.source.sharing import normal_law, share
from drp.source.simoptions import SimOptions

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]

PEAK = np.dtype([("segment", "u2"), ("row", "f4"), ("col", "f4"), ("photons", "f4")])
"""A Bragg peak: its centre in pixels of its segment, and the mean number of photons of the whole peak."""

PEAK_SIGMA = 1.0
_PEAK_REACH = 4
_CELL = 24
_CELL_MARGIN = 8
_PEAK_CREST = (5.0, 2000.0)
_GAIN_SPREAD = 0.02
_RMS_SPREAD = 0.1
_SWITCH_MARGIN = 6.0
_RING_RADIUS = 0.6
_RING_WIDTH = 0.08
_GAP = 10
_NOISE_ENTRIES = 65536
_MAX_PHOTONS = 0xFFFF
_PEDESTALS, _GAINS, _RMS, _OFFSETS, _PEAKS, _PHOTONS, _NOISE, _PEAK_PHOTONS, _SHARING = range(9)
"""What a random stream is for; part of its seed."""


class SimTruth:
    """The truth of `options`, whose kind is a camera. Frame numbers start at 0 and have no end."""

    def __init__(self, options: SimOptions) -> None:
        self.options = options
        self.camera: Camera = CAMERAS[options.kind]
        self.segments = self.camera.segments(options)
        self.shape = (self.segments, self.camera.rows, self.camera.cols)
        self._photons = np.empty(self.shape, np.uint16)
        self._charge = np.empty(self.shape, np.float32)
        self._cells = (self.camera.rows // _CELL, self.camera.cols // _CELL)
        room = self.segments * math.prod(self._cells)
        if options.peaks > room:
            raise SourceError(
                f"{options.peaks} peaks do not fit {self.segments} segments, {room} do", source="sim"
            )

    @cached_property
    def pedestals(self) -> F32:
        """Pedestals in ADU, (ranges, ...)."""
        return self._spread(_PEDESTALS, [(one.pedestal, one.spread) for one in self.camera.ranges])

    @cached_property
    def gains(self) -> F32:
        """Gains in ADU/keV, (ranges, ...); negative where the signal falls."""
        return self._spread(_GAINS, [(one.gain, abs(one.gain) * _GAIN_SPREAD) for one in self.camera.ranges])

    @cached_property
    def rms(self) -> F32:
        """Noise in ADU, (ranges, ...)."""
        factor = self.options.noise
        noise = self._spread(
            _RMS, [(one.rms * factor, one.rms * factor * _RMS_SPREAD) for one in self.camera.ranges]
        )
        return np.maximum(noise, np.float32(0), out=noise)

    @cached_property
    def offsets(self) -> F32:
        """What adds to the pedestals in ADU, (ranges, ...)."""
        return self._spread(_OFFSETS, [(0.0, self.camera.offset_spread) for _ in self.camera.ranges])

    @cached_property
    def positions_um(self) -> tuple[F32, F32]:
        """Where the pixels are: x along columns and y along rows, in um from the detector's middle."""
        segments, rows, cols = self.shape
        across = max(1, round(math.sqrt(segments * rows / cols)))
        index = np.arange(segments)[:, None, None]
        x = (index % across) * (cols + _GAP) + np.arange(cols)[None, None, :]
        y = (index // across) * (rows + _GAP) + np.arange(rows)[None, :, None]
        return self._centred(x), self._centred(y)

    def _centred(self, axis: npt.NDArray[np.int64]) -> F32:
        um = (axis - axis.max() / 2) * self.camera.pixel_um
        return np.ascontiguousarray(np.broadcast_to(um, self.shape), np.float32)

    @cached_property
    def mean_photons(self) -> F32:
        """Mean photons per event in each pixel, peaks left out."""
        mean = np.full(self.shape, self.options.photons, np.float32)
        if self.options.ring:
            x, y = self.positions_um
            half = min(float(x.max()), float(y.max()))
            away = (np.hypot(x, y) - np.float32(_RING_RADIUS * half)) / np.float32(_RING_WIDTH * half)
            mean += np.float32(self.options.ring) * np.exp(-(away**2) / 2)
        return mean

    def peaks(self, frame: int) -> npt.NDArray[Any]:
        """Return the Bragg peaks of a frame, dtype PEAK, no two nearer than 16 pixels."""
        rng = np.random.default_rng([self.options.seed, _PEAKS, frame])
        rows, cols = self._cells
        cells = rng.choice(self.segments * rows * cols, self.options.peaks, replace=False)
        found = np.zeros(self.options.peaks, PEAK)
        found["segment"], inside = np.divmod(cells, rows * cols)
        row, col = np.divmod(inside, cols)
        low, high = _CELL_MARGIN, _CELL - _CELL_MARGIN
        found["row"] = row * _CELL + rng.uniform(low, high, len(cells))
        found["col"] = col * _CELL + rng.uniform(low, high, len(cells))
        crest = np.exp(rng.uniform(math.log(_PEAK_CREST[0]), math.log(_PEAK_CREST[1]), len(cells)))
        found["photons"] = crest * 2 * np.pi * PEAK_SIGMA**2
        return found

    def photons(self, frame: int) -> U16:
        """Return the photons that each pixel got in a frame."""
        return self._count(frame, np.empty(self.shape, np.uint16))

    def charge(self, frame: int, out: F32 | None = None) -> F32:
        """Return the charge in each pixel of a frame, in photons, float32: that of its own photons, unless charge is shared."""
        out = np.empty(self.shape, np.float32) if out is None else out
        photons = self._count(frame, self._photons)
        sigma = self.options.sharing
        rng = np.random.default_rng([self.options.seed, _SHARING, frame])
        out[...] = share(photons, sigma, rng) if sigma else photons
        return out

    def raw(self, frame: int, out: U16 | None = None, *, forced: int | None = None) -> U16:
        """Return the pixels of a frame as the detector gives them, gain bits included.

        `forced`: the number of the gain range that every pixel is held in, whatever it got.
        """
        out = np.empty(self.shape, np.uint16) if out is None else out
        which = slice(None) if forced is None else slice(forced, forced + 1)
        zero, gain, rms = (one[which] for one in self._electronics)
        digitize(
            self.charge(frame, self._charge).reshape(-1),
            self.options.energy_kev,
            zero,
            gain,
            rms,
            _normal_quantiles(),
            self._key(_NOISE, frame),
            self.camera.range_bits[which],
            self.camera.top,
            _SWITCH_MARGIN,
            out.reshape(-1),
        )
        return out

    def _count(self, frame: int, out: U16) -> U16:
        mean, none = self._means
        count_photons(mean, none, self._key(_PHOTONS, frame), out.reshape(-1))
        rng = np.random.default_rng([self.options.seed, _PEAK_PHOTONS, frame])
        for peak in self.peaks(frame):
            spot, mean_in_spot = _spot(peak)
            added = rng.poisson(mean_in_spot)
            region = out[(int(peak["segment"]), *spot)]
            region[...] = np.minimum(region + added, _MAX_PHOTONS)
        return out

    @cached_property
    def _electronics(self) -> tuple[F32, F32, F32]:
        flat = (len(self.camera.ranges), -1)
        zero = self.pedestals + self.offsets
        return zero.reshape(flat), self.gains.reshape(flat), self.rms.reshape(flat)

    @cached_property
    def _means(self) -> tuple[F32, F32]:
        mean = self.mean_photons.reshape(-1)
        return mean, np.exp(-mean)

    def _spread(self, tag: int, laws: list[tuple[float, float]]) -> F32:
        out = np.zeros((len(laws), *self.shape), np.float32)
        rng = np.random.default_rng([self.options.seed, tag])
        for plane, (mean, spread) in zip(out, laws, strict=True):
            if spread:
                rng.standard_normal(out=plane, dtype=np.float32)
                np.multiply(plane, np.float32(spread), out=plane)
            np.add(plane, np.float32(mean), out=plane)
        return out

    def _key(self, tag: int, frame: int) -> int:
        seed = np.random.SeedSequence([self.options.seed, tag, frame])
        return int(seed.generate_state(1, np.uint64)[0])


def _spot(peak: Any) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """Return the pixels a peak reaches and the mean photons of each: a normal law sampled at the pixels'
    middles.
    """
    middle = round(float(peak["row"])), round(float(peak["col"]))
    axes = [np.arange(at - _PEAK_REACH, at + _PEAK_REACH + 1) for at in middle]
    shape = np.exp(
        -((axes[0][:, None] - peak["row"]) ** 2 + (axes[1][None, :] - peak["col"]) ** 2) / (2 * PEAK_SIGMA**2)
    )
    where = slice(axes[0][0], axes[0][-1] + 1), slice(axes[1][0], axes[1][-1] + 1)
    return where, float(peak["photons"]) * shape / shape.sum()


@cache
def _normal_quantiles() -> F32:
    """Return the quantiles (k + 1/2) / 65536 of the normal law, by interpolation in its distribution
    function.
    """
    x, distribution = normal_law()
    return np.interp((np.arange(_NOISE_ENTRIES) + 0.5) / _NOISE_ENTRIES, distribution, x).astype(np.float32)
