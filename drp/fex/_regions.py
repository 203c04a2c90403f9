"""What the statistics take: frames of float32, or whole numbers such as raw pixels and photon counts; and the regions of them that count.

A region becomes spans, the stretches of pixels in a row that belong to it, so that no event has to read a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.fex.errors import FexError
from drp.fex.frames import Array, Frame, Shape, read_only, segments_of
from drp.fex.roi import Roi

Region = Roi | tuple[slice, slice] | Array | None
FLOAT32 = np.dtype(np.float32)


def input_segments(frame: Frame, shape: Shape, dtype: np.dtype[Any]) -> Iterator[Array]:
    """Return the segments of an event, each read-only (rows, cols) in C order; FexError where it is not of this shape and dtype.

    Segments of whole numbers may lie apart, as those of `det.raw.raw(evt)` do; one that is not in C order, or at an odd address, is copied.
    """
    if dtype == FLOAT32:
        return segments_of(frame, shape)
    if isinstance(frame, np.ndarray) and frame.ndim == 2:
        frame = frame[np.newaxis]
    if not isinstance(frame, np.ndarray) or frame.shape != shape or frame.dtype != dtype:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FexError(f"an event is {found}, expected is an array of {dtype} {shape}")
    return (read_only(np.require(segment, requirements=["C", "A"])) for segment in frame)


def checked_shape(shape: Any) -> Shape:
    """Return a shape (segments, rows, cols) of ints; FexError where it is none."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise FexError(f"{sizes} is no shape of a detector", "Give (segments, rows, cols), each at least 1")
    return sizes


def checked_dtype(dtype: npt.DTypeLike, known: tuple[str, ...]) -> np.dtype[Any]:
    """Return a dtype that is one of `known`; FexError where it is not."""
    found = np.dtype(dtype)
    if found.name not in known or not found.isnative:
        raise FexError(f"events of {found} cannot be worked with", f"Give one of {', '.join(known)}")
    return found


def used_pixels(
    shape: Shape, region: Region = None, mask: npt.ArrayLike | None = None
) -> npt.NDArray[np.bool_]:
    """Return which pixels are in a region and, by the mask, used: bool (segments, rows, cols).

    `region`: a Roi or slices of rows and columns, of every segment; an array of that shape that is not 0 inside; None for all. `mask`: 1 where a
    pixel is used. Raises FexError where they do not fit, or leave no pixel.
    """
    if isinstance(region, Roi | tuple):
        used = np.zeros(shape, bool)
        used[:, *checked_slices(shape, region)] = True
    else:
        used = np.ones(shape, bool) if region is None else _of_shape(shape, region, "region") != 0
    if mask is not None:
        used &= _of_shape(shape, mask, "mask") != 0
    if not used.any():
        raise FexError("the region has no pixel that is used", "Take a larger one, or look at the mask")
    return used


def checked_slices(shape: Shape, region: Roi | tuple[slice, slice]) -> tuple[slice, slice]:
    """Return the rows and columns of a region as slices of first and beyond the last; FexError where they do not fit."""
    if isinstance(region, Roi):
        try:
            return region.slices(shape[1:])
        except ValueError as error:
            raise FexError(str(error)) from None
    found = []
    for one, size, what in zip(region, shape[1:], ("rows", "columns"), strict=True):
        first, beyond = one.start or 0, size if one.stop is None else one.stop
        if not 0 <= first < beyond <= size or one.step not in (None, 1):
            raise FexError(
                f"{one} does not fit segments of {size} {what}", "Give slice(first, beyond the last)"
            )
        found.append(slice(first, beyond))
    return found[0], found[1]


def _of_shape(shape: Shape, given: npt.ArrayLike, what: str) -> Array:
    array = np.asarray(given)
    if array.shape != shape:
        raise FexError(f"the {what} has shape {array.shape}, the detector {shape}")
    return array


def spans_of(used: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int32]]:
    """Return the spans of each segment of a bool (segments, rows, cols): int32 (spans, 3), row, first column, beyond the last, in order."""
    found = []
    for segment in used:
        edges = np.zeros((segment.shape[0], segment.shape[1] + 2), np.int8)
        edges[:, 1:-1] = segment
        change = np.diff(edges, axis=1)
        row, first = np.nonzero(change == 1)
        beyond = np.nonzero(change == -1)[1]
        found.append(np.stack([row, first, beyond], axis=1).astype(np.int32))
    return found
