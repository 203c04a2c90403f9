"""How the photons of calibrated frames are counted on the device: by single pixels, or by droplets. It makes buffers and launches kernels."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numba import cuda

from drp.fex._droplet_kernels import find_droplets
from drp.fex.cuda import _droplet_kernels as kernels
from drp.fex.cuda._photon_kernels import count_single
from drp.fex.cuda.batch import Batch
from drp.fex.photons import PhotonFinder


class Counting(Protocol):
    """Counts photons: `run` fills `photons`, uint16 (frames, pixels) on the device, from the first `count` frames of a batch.

    `spectrum`, uint32 (frames, bins) on the device, gets the droplets by energy.
    """

    spectrum: Any

    def run(self, batch: Batch, count: int, photons: Any) -> None: ...


def counting_of(finder: PhotonFinder, batch: Batch) -> Counting:
    """Return what counts as a finder of the CPU does."""
    words = np.stack(finder._used).view(np.uint8)
    used = np.unpackbits(words, axis=-1, count=finder.shape[2], bitorder="little")
    kind = Droplets if finder._kernel is find_droplets else Singles
    return kind(finder, cuda.to_device(used.reshape(-1)), batch)


class Singles:
    """Each pixel by itself."""

    def __init__(self, finder: PhotonFinder, used: Any, batch: Batch) -> None:
        self._used, self._law = used, finder._law
        self.spectrum = cuda.device_array((batch.frames, 0), np.uint32)

    def run(self, batch: Batch, count: int, photons: Any) -> None:
        """Count."""
        batch.run(count_single, batch.kev, self._used, *self._law, count, photons)


class Droplets:
    """Charge that neighbours share is put together first. A frame takes 20 bytes for each pixel, 28 with a spectrum."""

    def __init__(self, finder: PhotonFinder, used: Any, batch: Batch) -> None:
        self._used = used
        self._per_kev, self._low, self._up = finder._law[:3]
        self._width, spectrum = finder._law[-2:]
        self._panel = finder.shape[1:]
        pixels = batch.kev.shape
        self._joined, self._heads, self._after = (cuda.device_array(pixels, np.int32) for _ in range(3))
        self._sums = cuda.device_array(pixels, np.uint64)
        self._totals = cuda.device_array((pixels[0], pixels[1] if len(spectrum) else 0), np.uint64)
        self.spectrum = cuda.device_array((pixels[0], len(spectrum)), np.uint32)

    def run(self, batch: Batch, count: int, photons: Any) -> None:
        """Count."""
        joined, heads, after, sums, totals = self._joined, self._heads, self._after, self._sums, self._totals
        kev, per_kev, spectrum = batch.kev, self._per_kev, self.spectrum
        batch.run(kernels.begin, kev, self._used, self._low, count, joined, heads, sums, totals, spectrum)
        batch.run(kernels.connect, *self._panel, count, joined)
        batch.run(kernels.add_up, kev, per_kev, count, joined, heads, after, sums, totals)
        chains = joined, heads, after, totals
        batch.run(kernels.choose, kev, per_kev, self._up, count, *chains, self._width, sums, spectrum)
        batch.run(kernels.place, kev, per_kev, count, joined, sums, photons)
