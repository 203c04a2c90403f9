"""Raw frames of many events, on the device and calibrated there. It knows corrections and no algorithm.

All frames of a batch are copied at once, from memory that the device reads by itself; tables are copied once for all. The same pixels of all
frames are calibrated one after the other, so that their tables come from far memory once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from calib.detectors.base import Correction
from drp.fex.cuda.device import Launch, check_device, host_array, product, total
from drp.fex.errors import FexError
from drp.fex.frames import Shape

Event = Sequence[npt.NDArray[Any]] | npt.NDArray[Any]
"""The raw array of each segment as recorded, in segment order, or one array of them all."""
MOST_FRAMES = 4096


def check_shape(shape: Shape, correction: Correction) -> None:
    """Raise FexError where a finder of `shape` cannot search what `correction` calibrates."""
    if shape != correction.shape:
        raise FexError(
            f"the finder is for frames of {shape}, {correction.setup.name} has {correction.shape}",
            "Make the finder for the shape of det.raw.mask()",
        )


class Batch:
    """Room for the raw and the calibrated pixels of up to `frames` events of one detector; `calibrate` fills it.

    What `correction` calibrates with when this is made is copied to the device. Raises FexError where there is no device, and where the correction
    has a common mode, unless `common_mode` is False, which leaves it out.
    """

    def __init__(
        self, correction: Correction, frames: int, launch: Launch, *, common_mode: bool | None
    ) -> None:
        if not 1 <= frames <= MOST_FRAMES:
            raise FexError(f"a batch of {frames} events is none", f"Give 1 to {MOST_FRAMES}")
        if common_mode or (common_mode is None and correction.common_mode is not None):
            raise FexError(
                f"the common mode of {correction.setup.name} is not corrected on the GPU",
                "Give common_mode=False to leave it out, as calib(evt, cmpars=(7, 0, 0)) does, or use the finder of the CPU",
            )
        check_device()
        self.shape: Shape = correction.shape
        self.frames = frames
        self._correction = correction
        self.stream = cuda.stream()
        self._launch = launch
        tables = correction.tables_in_use["tables"]
        segments, pixels = self.shape[0], self.shape[1] * self.shape[2]
        self._tables = cuda.to_device(tables.reshape(segments, -1, pixels, 2))
        coding = correction.coding
        self._coded: tuple[Any, ...] = ()
        if coding is not None:
            planes = np.array(coding.planes, np.int8)
            bits = coding.data_mask, coding.range_mask, coding.range_shift
            self._coded = cuda.to_device(planes), *map(np.uint16, bits)
        raw = np.float32 if coding is None else np.uint16
        self._host = host_array((frames, segments, pixels), raw)
        self._raw = cuda.device_array((frames, segments, pixels), raw)
        self.kev = cuda.device_array((frames, segments * pixels), np.float32)
        """The calibrated frames, float32 (frames, pixels of all segments), on the device."""

    def calibrate(self, events: Sequence[Event]) -> int:
        """Copy events to the device and have them calibrated there, in `kev`; return how many they are. Raises FexError and CalibError."""
        count = len(events)
        if count > self.frames:
            raise FexError(f"{count} events are more than a batch of {self.frames}", "Give fewer at a time")
        for event, into in zip(events, self._host, strict=False):
            self._correction.lay_out(event, into)
        if count:
            self._raw[:count].copy_to_device(self._host[:count], stream=self.stream)
            kernel = calibrate_ranges if self._coded else calibrate_single
            self.run(kernel, self._raw, self._tables, *self._coded, count, self.kev)
        return count

    def run(self, kernel: Any, *arguments: Any, shared_bytes: int = 0, threads: int | None = None) -> None:
        """Launch a kernel, in blocks of `threads`, else in those of the launch."""
        threads = threads or self._launch.threads
        kernel[self._launch.blocks, threads, self.stream, shared_bytes](*arguments)


@cuda.jit
def calibrate_ranges(
    raw: Any,
    tables: Any,
    planes: Any,
    data_mask: Any,
    range_mask: Any,
    range_shift: Any,
    frames: Any,
    kev: Any,
) -> None:
    """Calibrate uint16 pixels with range bits; arrays are (frames, segments, pixels), (segments, planes, pixels, 2) and (frames, all pixels)."""
    size = raw.shape[2]
    chunks = (kev.shape[1] + cuda.blockDim.x - 1) // cuda.blockDim.x
    for work in range(cuda.blockIdx.x, chunks * frames, cuda.gridDim.x):
        frame = work % frames
        pixel = work // frames * cuda.blockDim.x + cuda.threadIdx.x
        if pixel < kev.shape[1]:
            segment, at = pixel // size, pixel % size
            word = raw[frame, segment, at]
            plane = planes[(word & range_mask) >> range_shift]
            value = np.float32(0)
            if plane >= 0:
                data = np.float32(np.int32(word & data_mask))
                value = product(total(data, -tables[segment, plane, at, 0]), tables[segment, plane, at, 1])
            kev[frame, pixel] = value


@cuda.jit
def calibrate_single(raw: Any, tables: Any, frames: Any, kev: Any) -> None:
    """Calibrate float32 pixels without ranges, as `calibrate_ranges` does."""
    size = raw.shape[2]
    chunks = (kev.shape[1] + cuda.blockDim.x - 1) // cuda.blockDim.x
    for work in range(cuda.blockIdx.x, chunks * frames, cuda.gridDim.x):
        frame = work % frames
        pixel = work // frames * cuda.blockDim.x + cuda.threadIdx.x
        if pixel < kev.shape[1]:
            segment, at = pixel // size, pixel % size
            more = total(raw[frame, segment, at], -tables[segment, 0, at, 0])
            kev[frame, pixel] = product(more, tables[segment, 0, at, 1])
