"""Compression of frames, segment by segment: without loss, or within an absolute error. What is recorded says how it is read back.

The fields of an event are `FIELDS`: `data`, the pieces of all segments one after the other, and `sizes`, how long each is; `shape` and `dtype` of the
frame, the name of the codec, and `bound`, the largest absolute error, 0 for none. `decompress` needs nothing else. It takes what a file says, so each
number is checked against a limit before memory is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.fex import _quantized
from drp.fex._regions import checked_dtype, checked_shape, input_segments
from drp.fex.codecs import codec_of
from drp.fex.errors import FexError
from drp.fex.frames import Frame, Shape, read_only

Array = npt.NDArray[Any]
DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32")
FIELDS: dict[str, tuple[Any, int]] = {
    "data": (np.uint8, 1),
    "sizes": (np.uint32, 1),
    "shape": (np.uint32, 1),
    "dtype": (str, 1),
    "codec": (str, 1),
    "bound": (np.float64, 0),
}
"""The fields of compressed data and their types."""
LOSSLESS, LOSSY = "bslz4", "quantized"
MOST_SEGMENTS = 4096
MOST_BYTES = 1 << 30
"""What a compressed frame may come to; the largest detector has 67 MB."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed frame: its fields, valid until the next call of what made it."""

    data: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.uint32]
    shape: npt.NDArray[np.uint32]
    dtype: str
    codec: str
    bound: float

    def fill(self, container: Any) -> None:
        """Assign all fields of what `add_detector` returned for `FIELDS`."""
        for name in FIELDS:
            setattr(container, name, getattr(self, name))


class Compressor:
    """Compresses every event in the same way; `fields` is what `run.add_detector` is to declare for it. One instance for each thread."""

    fields = FIELDS

    def __init__(
        self, shape: Shape, dtype: npt.DTypeLike = np.float32, bound: float = 0.0, codec: str | None = None
    ) -> None:
        """Prepare for events of `shape` (segments, rows, cols) and `dtype` (whole numbers of at most 32 bits, or float32).

        `bound` is the largest absolute error, in the unit of the pixels; 0: nothing is lost. `codec` is by default "bslz4" without loss and
        "quantized" with; others by the names that are registered. Raises FexError, also where the library is not installed.
        """
        self.shape = checked_shape(shape)
        self._dtype = checked_dtype(dtype, DTYPES)
        if not 0 <= bound < np.inf:
            raise FexError(f"an absolute error of {bound}", "Give a number of at least 0")
        size = math.prod(self.shape) * self._dtype.itemsize
        if size > MOST_BYTES or self.shape[0] > MOST_SEGMENTS:
            raise FexError(f"frames of {size:,} bytes in {self.shape[0]} segments are too large", _LIMITS)
        self.codec = codec or (LOSSY if bound else LOSSLESS)
        self.bound = float(bound)
        self._encode = codec_of(self.codec).encoder(self.shape[1:], self._dtype, self.bound)
        self._data = np.zeros(size + size // 16 + 1024, np.uint8)
        self._sizes = np.zeros(self.shape[0], np.uint32)
        self._told = np.array(self.shape, np.uint32)
        self.of(np.zeros(self.shape, self._dtype))

    def of(self, event: Frame) -> Compressed:
        """Return an event compressed. FexError where it is not of the shape and dtype given before."""
        end = 0
        for number, segment in enumerate(input_segments(event, self.shape, self._dtype)):
            piece = self._encode(segment)
            begin, end = end, end + len(piece)
            if end > len(self._data):
                self._data = np.concatenate([self._data, np.zeros(end, np.uint8)])
            self._data[begin:end] = piece
            self._sizes[number] = len(piece)
        return Compressed(self._data[:end], self._sizes, self._told, self._dtype.name, self.codec, self.bound)


_LIMITS = f"The limits are {MOST_BYTES:,} bytes and {MOST_SEGMENTS} segments"


def decompress(
    data: Array, sizes: npt.ArrayLike, shape: npt.ArrayLike, dtype: str, codec: str, bound: float
) -> Array:
    """Return a frame (segments, rows, cols) from its fields.

    Raises FexError for fields that do not belong together or ask for too much, a codec that is not known, and damaged bytes.
    """
    if dtype not in DTYPES:
        raise FexError(f"a compressed frame says that it is {dtype!r}", f"Known are {', '.join(DTYPES)}")
    kind = np.dtype(dtype)
    sizes, pieces = np.asarray(sizes), np.ascontiguousarray(data)
    told = np.asarray(shape)
    if pieces.dtype != np.uint8 or pieces.ndim != 1 or told.shape != (3,) or told.dtype.kind not in "iu":
        raise FexError(f"no compressed frame: {pieces.dtype} of rank {pieces.ndim}, shape {told.tolist()}")
    segments, rows, cols = checked_shape(told)
    size = segments * rows * cols * kind.itemsize
    if segments > MOST_SEGMENTS or size > MOST_BYTES:
        raise FexError(f"a compressed frame says that it is {size:,} bytes in {segments} segments", _LIMITS)
    if (
        sizes.shape != (segments,)
        or sizes.dtype.kind not in "iu"
        or sum(sizes.tolist()) != len(pieces)
        or (sizes < 0).any()
    ):
        raise FexError(f"{len(pieces)} bytes of data are not the {sizes.size} pieces of {segments} segments")
    if not 0 <= bound < np.inf:
        raise FexError(f"a compressed frame says that its absolute error is {bound}")
    decode, frame, at = codec_of(codec).decode, np.zeros((segments, rows, cols), kind), 0
    for number, length in enumerate(sizes.tolist()):
        try:
            frame[number] = decode(read_only(pieces[at : at + length]), (rows, cols), kind, bound)
        except FexError as error:
            raise FexError(f"segment {number} of {segments} ({codec}): {error.what}", error.hint) from None
        at += length
    return frame


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    _quantized.warm_up()
