"""GpuPeakFinder8: what a PeakFinder8 finds, in batches of raw events that an NVIDIA GPU calibrates and searches.

It makes buffers and says in which order kernels run; the kernels are in `_radial_kernels` and `_peak_kernels`. Nothing is made per batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import cuda

from calib.detectors.base import Correction
from drp.fex.cuda import _peak_kernels as kernels
from drp.fex.cuda import _radial_kernels as radial
from drp.fex.cuda._lists import BYTES_EACH, RUN, begin_runs
from drp.fex.cuda.batch import Batch, Event, check_shape
from drp.fex.cuda.device import Launch, host_array
from drp.fex.frames import Shape, read_only
from drp.fex.peakfinder8 import PeakFinder8, Peaks
from drp.fex.radial import GUESS_FEWEST, GUESS_REACH, POOLED, RadialBackground


class GpuPeakFinder8:
    """Finds in raw events of `correction`'s detector the peaks that `finder` finds in the calibrated ones, up to `batch` at a time.

    With a `finder` of all pixels a thread searches a frame, so large batches pay; with one of a sample (`per_bin`), a segment. On the device an event
    takes 11 bytes for each pixel, and up to 8 more with a sample. Raises FexError, also where there is no device; see `Batch` for `common_mode`.
    """

    def __init__(
        self,
        finder: PeakFinder8,
        correction: Correction,
        *,
        batch: int = 64,
        common_mode: bool | None = None,
        launch: Launch | None = None,
    ) -> None:
        check_shape(finder.shape, correction)
        launch = launch or Launch()
        self._batch = Batch(correction, batch, launch, common_mode=common_mode)
        segments, rows, cols = finder.shape
        size, whole = rows * cols, finder.background.survey is not None
        self._background = Background(finder.background, finder._asic, self._batch)
        self._asic, self._snr = finder._asic, finder._snr
        self._limits = tuple(int(one) for one in finder._limits)
        self._order = finder._asic if whole else (rows, cols)
        self._stray, self._together = (1, segments) if whole else (0, 1)
        parts, room = batch * (segments // self._together), finder._numbers.shape[1]
        self._bins = cuda.to_device(finder.background.bins.reshape(segments, size))
        self._every_bin = cuda.to_device(np.stack(finder._every_bin))
        self._hot = cuda.device_array((batch * segments, size), np.uint8)
        self._marking = self._bins.reshape(-1), self._hot.reshape(batch, segments * size)
        self._starts = cuda.device_array((batch * segments, -(-size // RUN)), np.int64)
        self._candidates = cuda.device_array((batch * segments, size), np.uint32)
        self._listed = cuda.device_array(batch * segments, np.int64)
        members = self._asic[0] * self._asic[1]
        self._members = cuda.device_array((parts, members + 1, 2), np.int32)
        self._used = cuda.to_device(np.full(parts, members, np.int32))
        self._numbers = cuda.device_array((parts, room, kernels.NUMBERS), np.float32)
        self._places = cuda.device_array((parts, room, kernels.PLACES), np.int32)
        self._found = cuda.device_array(parts, np.int64)
        self._joined = (
            cuda.device_array((batch, room, kernels.NUMBERS), np.float32),
            cuda.device_array((batch, room, kernels.PLACES), np.int32),
            cuda.device_array(batch, np.int64),
        )
        self._host = tuple(host_array(one.shape, one.dtype) for one in self._joined)
        self._seen = tuple(read_only(one) for one in self._host)
        self._shared_bytes = BYTES_EACH * launch.threads
        self.find([np.zeros(finder.shape, np.uint16)])

    def find(self, events: Sequence[Event]) -> list[Peaks]:
        """Return the peaks of each event, given as `Correction.calib` takes it; they are views that the next call overwrites.

        Raises FexError where the events are more than a batch, CalibError where one is not the detector's.
        """
        count = self._batch.calibrate(events)
        if not count:
            return []
        self._background.update(count)
        self._mark(count)
        self._search(count)
        stream = self._batch.stream
        for there, here in zip(self._joined, self._host, strict=True):
            there[:count].copy_to_host(here[:count], stream=stream)
        stream.synchronize()
        return [self._peaks(at) for at in range(count)]

    def _mark(self, count: int) -> None:
        run, segments, cols = self._batch.run, self._batch.shape[0], self._batch.shape[2]
        bins, hot = self._marking
        run(kernels.mark, self._batch.kev, bins, self._background.state, count, hot)
        lines = count * segments
        run(kernels.tally, self._hot, lines, cols, self._order, self._starts)
        run(begin_runs, lines, self._starts, self._listed, shared_bytes=self._shared_bytes)
        listing = lines, cols, self._order, self._starts, self._candidates
        run(kernels.list_marked, self._hot, *listing)

    def _search(self, count: int) -> None:
        run, (segments, rows, cols) = self._batch.run, self._batch.shape
        run(
            kernels.search,
            self._batch.kev,
            count,
            segments,
            self._together,
            (rows, cols),
            self._asic,
            self._bins,
            self._every_bin,
            self._background.state,
            self._hot,
            self._candidates,
            self._listed,
            self._limits,
            self._snr,
            self._stray,
            self._members,
            self._used,
            self._numbers,
            self._places,
            self._found,
            threads=1,  # those of a block would wait for each other wherever their ways part
        )
        found = self._numbers, self._places, self._found
        run(kernels.join, *found, segments // self._together, count, *self._joined)

    def _peaks(self, at: int) -> Peaks:
        all_numbers, all_places, totals = self._seen
        found = int(totals[at])
        n = min(found, all_numbers.shape[1])
        x, y, intensity, maximum, sigma, snr = all_numbers[at, :n].T
        segment, row, col, pixels = all_places[at, :n].T
        return Peaks(x, y, intensity, maximum, sigma, snr, segment, row, col, pixels, found)


class Background:
    """The radial background of the frames of a batch: `update`, then `state` float32 (frames, 4, bins + 1) on the device."""

    def __init__(self, background: RadialBackground, asic: tuple[int, int], batch: Batch) -> None:
        self._batch = batch
        frames, bins = batch.frames, background.n_bins
        snr, least, turns = background.clipping
        self._clipping = snr, least, turns
        flat = background.bins.reshape(-1)
        self._sample = cuda.to_device(table_of(background))
        self._pooled = 0 if background.survey is not None else POOLED
        self._work = cuda.device_array((frames, 3, bins), np.float64)
        self.state = cuda.to_device(np.broadcast_to(background.state, (frames, 4, bins + 1)).copy())
        self._whole = background.survey is not None
        if self._whole:
            self._guess = GUESS_FEWEST, np.float32(GUESS_REACH * snr), np.float32(least)
            self._counts = cuda.to_device(np.bincount(flat[background._sample], minlength=bins))
            self._inner = cuda.device_array((frames, bins, 2), np.float32)
            self._order = cuda.to_device(visited(flat, background.shape, asic, bins))
            first = np.concatenate(([0], np.cumsum(np.bincount(flat, minlength=bins + 1)[:bins])))
            self._first = cuda.to_device(first.astype(np.int64))

    def update(self, count: int) -> None:
        """Find mean, deviation and thresholds of so many calibrated frames."""
        run, kev = self._batch.run, self._batch.kev
        clipping = *self._clipping, count
        run(radial.clip_sample, kev, self._sample, self._pooled, *clipping, self._work, self.state)
        if self._whole:
            run(radial.guess, self.state, self._counts, *self._guess, count, self._inner)
            run(radial.clip_all, kev, self._order, self._first, self._inner, *clipping, self.state)


def table_of(background: RadialBackground) -> npt.NDArray[np.int32]:
    """Return the flat indices of a background's sample, int32 (rows, bins), in the order in which they are summed; -1 for none."""
    table = np.full(background._table.shape, -1, np.int32)
    table[background._places[:, 0], background._places[:, 1]] = background._sample
    return table


def visited(
    bins: npt.NDArray[np.uint16], shape: Shape, asic: tuple[int, int], n_bins: int
) -> npt.NDArray[np.int32]:
    """Return the flat indices of the pixels of each bin, one bin after the other, as the CPU comes to them: segment, ASIC, row, column."""
    segments, rows, cols = shape
    parts = np.arange(bins.size, dtype=np.int32).reshape(
        segments, rows // asic[0], asic[0], cols // asic[1], asic[1]
    )
    order = parts.swapaxes(2, 3).reshape(-1)
    order = order[bins[order] < n_bins]
    return order[np.argsort(bins[order], kind="stable")]
