"""The codec `bslz4`: bitshuffle, then LZ4, without loss. The bytes are those of the HDF5 filter 32008 behind its header, in blocks of 8192 bytes.

The library (Masui et al., "A compression scheme for radio data in high performance computing", Astronomy and Computing 12 (2015) 181) releases the
GIL. It believes the length that stands before each block, so what is to be decoded is walked through first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.fex.errors import FexError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
BLOCK_BYTES = 8192
LENGTH_BYTES = 4
WHOLE = 8
"""Elements that bitshuffle takes at once; what is left at the end stands there as it is."""


def library() -> Any:
    """Return bitshuffle, or what does the same by imagecodecs; FexError where neither is installed."""
    try:
        import bitshuffle  # noqa: PLC0415 - an extra: only who compresses needs it
    except ImportError:
        try:
            from drp.fex import _bitshuffle  # noqa: PLC0415 - as above
        except ImportError as error:
            raise FexError(
                f"neither bitshuffle nor imagecodecs can be imported: {error}", "pip install 'drp[compress]'"
            ) from None
        return _bitshuffle
    return bitshuffle


def encoder(_shape: tuple[int, int], dtype: np.dtype[Any], _bound: float) -> Callable[[Array], Bytes]:
    """Return what encodes a segment; nothing is lost, whatever the bound."""
    compress, block = library().compress_lz4, BLOCK_BYTES // dtype.itemsize

    def encode(segment: Array) -> Bytes:
        piece: Bytes = compress(segment, block)
        return piece

    return encode


def decode(piece: Bytes, shape: tuple[int, int], dtype: np.dtype[Any], _bound: float) -> Array:
    """Return the segment of a piece; FexError where it is damaged."""
    size = math.prod(shape)
    check_blocks(piece, size, dtype.itemsize)
    try:
        segment: Array = library().decompress_lz4(piece, shape, dtype, BLOCK_BYTES // dtype.itemsize)
    except RuntimeError as error:
        raise FexError(f"the bytes are damaged: {error}") from None
    return segment


def check_blocks(piece: Bytes, size: int, itemsize: int) -> None:
    """Raise FexError unless the lengths of the blocks of `size` elements come to the length of the piece."""
    whole, at = size - size % WHOLE, 0
    for _ in range(-(-whole * itemsize // BLOCK_BYTES)):
        at += LENGTH_BYTES + int.from_bytes(piece[at : at + LENGTH_BYTES].tobytes(), "big")
        if at > len(piece):
            break
    expected = at + size % WHOLE * itemsize
    if expected != len(piece):
        raise FexError(f"the bytes are damaged: the blocks end at {expected}, there are {len(piece)} bytes")
