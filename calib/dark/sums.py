"""Sums over dark frames, per plane and pixel, in integers: whoever adds the frames, in whatever order and on however many workers, the
merged sums are the same to the last bit.

A frame of a panel is of the plane that most of its pixels are in, which a dark run holds them in; a plane is what `Coding.planes` makes of the
range bits. A value of that plane inside the accepted range counts in `count`, `sum` and `sumsq`; one below or above it in `low` or `high`; a
word whose gain bits mean nothing in `invalid`. A pixel that has strayed to another plane counts nowhere but in `frames`: so the planes that a
step does not measure stay as they are, and need not be handed over. It knows no files, no statistics and no detector but for how its pixels
code data and gain range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.dark.ranges import Frames, coding_of, order_of, top_of
from calib.detectors import Coding, DetectorSetup, correction_type
from calib.errors import ConstantsMisshapen

BY_PLANE = ("count", "low", "high", "sum", "sumsq")


@dataclass(frozen=True, slots=True)
class Limits:
    """The data values that are accepted, both ends included; what lies outside is counted, not averaged."""

    lowest: int = 1
    highest: int | None = None
    """None: one below the largest value the data bits hold."""

    def of(self, coding: Coding) -> tuple[int, int]:
        """Return both ends for a detector's pixels."""
        return self.lowest, top_of(coding) - 1 if self.highest is None else self.highest


class DarkSums:
    """The sums of `segments` panels of `panel_shape` (rows, cols); a panel given as several ASICs has their rows one after the other.

    `arrays` by name: `frames` uint64 (segments), `invalid` uint32 (segments, rows, cols), and with the shape (planes, segments, rows, cols)
    `count`, `low`, `high` uint32, `sum`, `sumsq` uint64. They are summed with those of other frames by addition. The owner may give them
    away, or their `pieces` (as `ds.reduce` takes them), and set them to zero; only `add` writes to them here. `parts`: of how many parts a
    panel is made, of equal numbers of rows, each of which is in a plane of its own.
    """

    def __init__(
        self,
        coding: Coding,
        segments: int,
        panel_shape: tuple[int, int],
        limits: Limits | None = None,
        order: Callable[[Frames], Frames] | None = None,
        parts: int = 1,
    ) -> None:
        self.panel_shape = panel_shape
        self._parts = parts
        self._order = order
        full = (coding.n_planes, segments, *panel_shape)
        self.arrays: dict[str, NDArray[Any]] = {
            "frames": np.zeros(segments, np.uint64),
            "invalid": np.zeros(full[1:], np.uint32),
            "count": np.zeros(full, np.uint32),
            "low": np.zeros(full, np.uint32),
            "high": np.zeros(full, np.uint32),
            "sum": np.zeros(full, np.uint64),
            "sumsq": np.zeros(full, np.uint64),
        }
        flat = (coding.n_planes, segments, -1)
        self._flat = [self.arrays[name].reshape(flat) for name in BY_PLANE]
        self._invalid = self.arrays["invalid"].reshape(segments, -1)
        self._planes = np.array(coding.planes, np.int8)
        masks = (coding.range_mask, coding.range_shift, coding.data_mask, coding.data_shift)
        self._numbers = np.array([*masks, *(limits or Limits()).of(coding)], np.int64)

    @classmethod
    def of(
        cls, setup: DetectorSetup, limits: Limits | None = None, panel_shape: tuple[int, int] | None = None
    ) -> DarkSums:
        """Return sums for a detector; `panel_shape` is needed only where its type is not known. Raises ConstantsMisshapen."""
        rows, cols = panel_shape or setup.panel_shape
        if not rows or not cols:
            raise ConstantsMisshapen(
                f"the panels of a {setup.dettype} have no shape that is known",
                where=setup.name,
                hint="Give the rows and columns of a segment.",
            )
        parts = correction_type(setup).parts
        shape = rows if panel_shape else rows * parts, cols
        return cls(coding_of(setup), len(setup.panels), shape, limits, order_of(setup), parts)

    @property
    def pieces(self) -> dict[str, NDArray[Any]]:
        """Views of all arrays, of which those of planes that a step does not measure stay 0: `count_0` is that of plane 0, and so on."""
        out = {name: self.arrays[name] for name in ("frames", "invalid")}
        for name in BY_PLANE:
            out |= {f"{name}_{plane}": one for plane, one in enumerate(self.arrays[name])}
        return out

    def add(self, segments: Frames) -> None:
        """Add one frame, the raw array of each segment in order. Raises ConstantsMisshapen, and CalibError where pixels are to be put in
        order and are not as expected.
        """
        if self._order is not None:
            segments = self._order(segments)
        frames = self.arrays["frames"]
        if len(segments) != len(frames):
            raise ConstantsMisshapen(f"a frame of {len(segments)} segments, not {len(frames)}")
        for at, one in enumerate(segments):
            self.add_segment(at, one)

    def add_segment(self, at: int, pixels: NDArray[np.uint16]) -> None:
        """Add the pixels of segment number `at` (its place, not its name). Raises ConstantsMisshapen."""
        fits = pixels.size == self._invalid.shape[1] and pixels.shape[-1] == self.panel_shape[1]
        if pixels.dtype != np.uint16 or not fits:
            raise ConstantsMisshapen(
                f"a segment is {pixels.dtype} {pixels.shape}, not uint16 {self.panel_shape}",
                hint="A dark run holds raw frames of one detector, all of one shape.",
            )
        count, low, high, total, squares = (one[:, at] for one in self._flat)
        words = pixels.reshape(self._parts, -1)
        _add(words, self._planes, self._numbers, count, low, high, total, squares, self._invalid[at])
        self.arrays["frames"][at] += np.uint64(1)

    def merge(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add the `pieces` of other frames of the same detector, of which one without elements is 0. Raises ConstantsMisshapen."""
        pieces = self.pieces
        for name, own in pieces.items():
            other = arrays.get(name)
            if (
                other is None
                or other.shape not in (own.shape, (0, *own.shape[1:]))
                or other.dtype != own.dtype
            ):
                found = "nothing" if other is None else f"{other.dtype} {other.shape}"
                raise ConstantsMisshapen(f"the sums {name!r} are {found}, not {own.dtype} {own.shape}")
        for name, own in pieces.items():
            if arrays[name].size:
                np.add(own, arrays[name], out=own)

    def reset(self) -> None:
        """Set all sums to zero."""
        for one in self.arrays.values():
            one[...] = 0


@njit(cache=True, nogil=True)
def _add(
    words: Any,
    planes: Any,
    numbers: Any,
    count: Any,
    low: Any,
    high: Any,
    total: Any,
    squares: Any,
    invalid: Any,
) -> None:
    range_mask, range_shift, data_mask, data_shift = numbers[0], numbers[1], numbers[2], numbers[3]
    lowest, highest = numbers[4], numbers[5]
    size = words.shape[1]
    for part in range(words.shape[0]):
        pixels = words[part]
        plane = usual_plane(pixels, planes, range_mask, range_shift, len(count))
        for k in range(size):
            word = np.int64(pixels[k])
            i = part * size + k
            code = planes[(word & range_mask) >> range_shift]
            if code < 0:
                invalid[i] += np.uint32(1)
            if code != plane:
                continue
            value = (word & data_mask) >> data_shift
            if value < lowest:
                low[plane, i] += np.uint32(1)
            elif value > highest:
                high[plane, i] += np.uint32(1)
            else:
                count[plane, i] += np.uint32(1)
                total[plane, i] += np.uint64(value)
                squares[plane, i] += np.uint64(value * value)


@njit(cache=True, nogil=True)
def usual_plane(pixels: Any, planes: Any, range_mask: Any, range_shift: Any, n_planes: Any) -> Any:
    """Return the plane that most pixels are in; of several, the first."""
    if n_planes == 1:
        return 0
    codes = np.zeros(len(planes), np.int64)
    for word in pixels:
        codes[(np.int64(word) & range_mask) >> range_shift] += 1
    counts = np.zeros(n_planes, np.int64)
    for code in range(len(planes)):
        if planes[code] >= 0:
            counts[planes[code]] += codes[code]
    return np.argmax(counts)
