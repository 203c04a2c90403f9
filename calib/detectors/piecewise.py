"""An event that is calibrated one segment after the other, so that what reads it finds each segment in the cache.

A frame of 2 Mpixel is larger than the cache of a core: an algorithm that passes over a calibrated frame waits for memory, and so does the
calibration that writes it. Whoever passes over an event once, segment by segment, is spared both. It knows no algorithm and no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calib.detectors.arrays import Array, Floats, read_only
from calib.detectors.commonmode import CommonMode
from calib.errors import CalibError

if TYPE_CHECKING:
    from calib.detectors.base import Correction


class CalibratedSegments:
    """The calibrated segments of one event, float32 (rows, cols) each, in segment order; made by `Correction.segments`.

    Each lies in the same buffer, which the next one overwrites. Values are those of `Correction.calib`, bit for bit.
    """

    def __init__(
        self, correction: Correction, raw: list[tuple[int, Array]], wanted: CommonMode | None, buffer: Floats
    ) -> None:
        self.shape = correction.shape
        self._correction = correction
        self._raw = raw
        self._wanted = wanted
        self._buffer = buffer

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Floats]:
        correct, wanted, buffer = self._correction._correct_part, self._wanted, self._buffer
        flat = buffer.reshape(1, -1)
        for first, pixels in self._raw:
            for at in range(len(pixels)):
                correct(first + at, pixels[at : at + 1], wanted, flat)
                yield buffer

    def pixels(self, index: npt.NDArray[np.int64], out: Floats) -> Floats:
        """Calibrate the pixels at `index` into `out` (float32, as long) and return it; nothing is calibrated beside them.

        `index` counts pixels over all segments, C order, and rises. Raises CalibError for an index that is none, and where the common mode is
        corrected, for which whole segments are needed (`calibrates_pixels`).
        """
        if not self.calibrates_pixels:
            raise CalibError(
                "single pixels cannot be calibrated with common mode",
                where=self._correction.setup.name,
                hint="Calibrate the segments and take the pixels from them",
            )
        size = self.shape[1] * self.shape[2]
        index = read_only(index)
        fits = len(out) >= len(index)
        starts = [first * size for first, _ in self._raw]
        ends = np.searchsorted(index, [*starts[1:], self.shape[0] * size]).tolist()
        begin = 0
        for (first, pixels), end in zip(self._raw, ends, strict=True):
            if fits and begin < end:
                fits = self._correction._pick(first, pixels, index[begin:end], out[begin:end])
            begin = max(begin, end)
        if not fits or begin < len(index):
            raise CalibError(
                f"{len(index)} pixels are not all among {self.shape}, not rising, or do not fit {len(out)}",
                where=self._correction.setup.name,
            )
        return out

    @property
    def calibrates_pixels(self) -> bool:
        """Whether `pixels` can be asked for."""
        return self._wanted is None
