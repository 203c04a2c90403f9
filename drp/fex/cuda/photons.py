"""GpuPhotonFinder: what a PhotonFinder finds, in batches of raw events that an NVIDIA GPU calibrates and searches.

It makes buffers and says in which order kernels run; the kernels are in `_photon_kernels`. Nothing is made per batch, neither here nor on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import cuda

from calib.detectors.base import Correction
from drp.fex._photon_kernels import LISTED, PHOTONS
from drp.fex.cuda import _photon_kernels as kernels
from drp.fex.cuda._lists import BYTES_EACH, RUN, begin_runs
from drp.fex.cuda.batch import Batch, Event, check_shape
from drp.fex.cuda.counting import counting_of
from drp.fex.cuda.device import Launch, host_array
from drp.fex.frames import read_only
from drp.fex.photons import PhotonFinder, Photons


class GpuPhotonFinder:
    """Finds in raw events of `correction`'s detector what `finder` finds in the calibrated ones, up to `batch` at a time.

    On the device an event takes 8 bytes for each pixel (28 with droplets) and 8 for each entry of the list, on the host 4 and 8. Give the finder
    `most`: by default its list has room for all pixels. Raises FexError, also where there is no device; see `Batch` for `common_mode`.
    """

    def __init__(
        self,
        finder: PhotonFinder,
        correction: Correction,
        *,
        batch: int = 64,
        common_mode: bool | None = None,
        launch: Launch | None = None,
    ) -> None:
        check_shape(finder.shape, correction)
        launch = launch or Launch()
        self._batch = Batch(correction, batch, launch, common_mode=common_mode)
        self._counting = counting_of(finder, self._batch)
        self._most = finder._room
        segments, rows, cols = finder.shape
        pixels = segments * rows * cols
        runs = -(-pixels // RUN)
        self._photons = cuda.device_array((batch, pixels), np.uint16)
        self._starts = cuda.device_array((batch, runs), np.int64)
        self._sums = cuda.device_array((batch, runs), np.int64)
        self._listed = cuda.device_array((batch, self._most), np.uint64)
        self._found = cuda.device_array((2, batch), np.int64)
        self._totals = self._found[LISTED], self._found[PHOTONS]
        self._shared_bytes = BYTES_EACH * launch.threads
        self._host_photons = host_array((batch, finder._map.size), np.uint16)
        self._host_listed = host_array((batch, self._most), np.uint64)
        self._host_found = host_array((2, batch), np.int64)
        self._host_spectrum = host_array(self._counting.spectrum.shape, np.uint32)
        self._spectrum = read_only(self._host_spectrum)
        self._maps = read_only(self._host_photons.reshape(batch, *finder._map.shape))
        self._sparse = read_only(self._host_listed.view(np.uint16).reshape(batch, -1, 4))
        self.find([np.zeros(finder.shape, np.uint16)])

    def find(self, events: Sequence[Event]) -> list[Photons]:
        """Return the photons of each event, given as `Correction.calib` takes it; they are views that the next call overwrites.

        Raises FexError where the events are more than a batch, CalibError where one is not the detector's.
        """
        count = self._batch.calibrate(events)
        if not count:
            return []
        self._search(count)
        stream = self._batch.stream
        self._found.copy_to_host(self._host_found, stream=stream)
        if self._maps.size:
            self._photons[:count].copy_to_host(self._host_photons[:count], stream=stream)
        if self._spectrum.size:
            self._counting.spectrum[:count].copy_to_host(self._host_spectrum[:count], stream=stream)
        stream.synchronize()
        for at, listed in enumerate(self._host_found[LISTED, :count].tolist()):
            if listed:
                held = min(listed, self._most)
                self._listed[at, :held].copy_to_host(self._host_listed[at, :held], stream=stream)
        stream.synchronize()
        return [self._photons_of(at) for at in range(count)]

    def _search(self, count: int) -> None:
        run = self._batch.run
        _, rows, cols = self._batch.shape
        self._counting.run(self._batch, count, self._photons)
        run(kernels.tally, self._photons, count, self._starts, self._sums)
        for counts, sums in zip((self._starts, self._sums), self._totals, strict=True):
            run(begin_runs, count, counts, sums, shared_bytes=self._shared_bytes)
        run(kernels.list_pixels, self._photons, self._starts, cols, rows * cols, count, self._listed)

    def _photons_of(self, at: int) -> Photons:
        listed, photons = int(self._host_found[LISTED, at]), int(self._host_found[PHOTONS, at])
        sparse, lost = self._sparse[at, : min(listed, self._most)], max(0, listed - self._most)
        return Photons(photons, self._maps[at], sparse, lost, self._spectrum[at])
