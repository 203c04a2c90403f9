"""The calibrated frames that algorithms take: one array, or segments that are calibrated as they are asked for.

`det.raw.calib(evt)` gives the first, `det.raw.calib_segments(evt)` the second, with the same values. Algorithms pass over the
segments once, in order, so that those of the second kind are never in memory together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from drp.fex.errors import FexError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Shape = tuple[int, int, int]


@runtime_checkable
class Segments(Protocol):
    """A frame of `shape` (segments, rows, cols) that gives its segments one after the other, each float32 (rows, cols) and valid until the next.

    `pixels` fills `out` with the pixels at `index` (flat, rising, int64), where `calibrates_pixels` says that it can.
    """

    @property
    def shape(self) -> Shape: ...
    @property
    def calibrates_pixels(self) -> bool: ...
    def __iter__(self) -> Iterator[Floats]: ...
    def pixels(self, index: npt.NDArray[np.int64], out: Floats) -> Floats: ...


Frame = Array | Segments


def segments_of(frame: Frame, shape: Shape) -> Iterator[Floats]:
    """Return the segments of a frame, each a read-only float32 (rows, cols) in C order; FexError where it is not float32 of `shape`.

    A frame of one segment may come without the axis of segments.
    """
    if isinstance(frame, np.ndarray):
        return iter(frame_array(frame, shape))
    if not isinstance(frame, Segments):
        raise FexError(
            f"a frame is a {type(frame).__name__}, neither an array nor calibrated segments",
            "Give what det.raw.calib(evt) or det.raw.calib_segments(evt) returns, and pass over events without it",
        )
    if frame.shape != shape:
        raise _misfit(f"float32 {frame.shape}", shape)
    return map(read_only, frame)


def frame_array(frame: Array, shape: Shape) -> Floats:
    """Return a frame's array read-only and of `shape`; FexError where it is not float32 of it in C order."""
    fits = frame.shape == shape or (shape[0] == 1 and frame.shape == shape[1:])
    if not fits or frame.dtype != np.float32:
        raise _misfit(f"{frame.dtype} {frame.shape}", shape)
    if not frame.flags.c_contiguous:
        raise FexError("a frame does not lie in C order", "Give numpy.ascontiguousarray(frame)")
    return read_only(frame.reshape(shape))


def read_only(array: Array) -> Array:
    """Return a view that cannot be written through: what kernels are compiled for."""
    view = array.view()
    view.flags.writeable = False
    return view


def _misfit(found: str, shape: Shape) -> FexError:
    return FexError(f"a frame is {found}, expected is float32 {shape} (segments, rows, columns)")
