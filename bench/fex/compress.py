"""Compression of 2.2 Mpixel frames beside the libraries alone: speed of both ways, ratio, and the largest error.

    python -m bench.fex.compress [--short]

The same frames go through drp.fex.Compressor, through bitshuffle by itself, and, where imagecodecs is installed, through its error-bounded codecs.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bench._common import say_where, setting
from bench.fex._frames import Camera, both_cores
from drp.fex import Compressor, decompress

Way = tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], int]]
"""What encodes an event, what decodes it, and the bytes of what was encoded."""


def ours(shape: tuple[int, int, int], dtype: str, bound: float) -> Way:
    """Return our way."""
    made = Compressor(shape, dtype, bound)
    return (
        made.of,
        lambda c: decompress(c.data, c.sizes, c.shape, c.dtype, c.codec, c.bound),
        lambda c: len(c.data),
    )


def each(encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> Way:
    """Return the way of a library, segment by segment."""
    return (
        lambda event: [encode(segment) for segment in event],
        lambda pieces: np.stack([decode(piece) for piece in pieces]),
        lambda pieces: sum(len(piece) for piece in pieces),
    )


def bitshuffle_alone(shape: tuple[int, int, int], dtype: str) -> Way:
    """Return bitshuffle's way."""
    import bitshuffle  # noqa: PLC0415 - it starts as many threads as OMP_NUM_THREADS said when it was loaded

    kind = np.dtype(dtype)
    return each(bitshuffle.compress_lz4, lambda piece: bitshuffle.decompress_lz4(piece, shape[1:], kind))


def others(shape: tuple[int, int, int], bound: float) -> Iterator[tuple[str, Way]]:
    """Yield the ways of imagecodecs."""
    try:
        import imagecodecs as ic  # noqa: PLC0415 - it need not be there
    except ImportError:
        print("  imagecodecs is not installed: no SZ3, zfp and LERC")
        return
    yield (
        "SZ3",
        each(lambda s: ic.sz3_encode(s, "abs", bound), lambda c: ic.sz3_decode(c, shape[1:], np.float32)),
    )
    yield "zfp", each(lambda s: ic.zfp_encode(s, level=bound, mode="a"), ic.zfp_decode)
    yield "LERC", each(lambda s: ic.lerc_encode(s, level=bound), ic.lerc_decode)


def measure(name: str, way: Way, events: Sequence[Any], turns: int) -> None:
    """Print the figures of one way."""
    encode, decode, size = way
    there, back = [], []
    for turn in range(turns):
        event = events[turn % len(events)]
        began = time.thread_time()
        made = encode(event)
        between = time.thread_time()
        found = decode(made)
        there.append(between - began)
        back.append(time.thread_time() - between)
    bytes_in, away = event.nbytes, np.abs(found.astype(np.float64) - event).max()
    loaded = both_cores(lambda: lambda number: encode(events[number % len(events)]), max(2, turns // 2))
    print(
        f"  {name:34}{1e3 * min(there):9.2f}{1e3 * statistics.median(there):9.2f}{bytes_in / min(there) / 1e6:9.0f}"
        f"{1e3 * loaded:11.2f}{bytes_in / min(back) / 1e6:13.0f}{bytes_in / size(made):8.2f}{away:9.4f}",
        flush=True,
    )


def main(argv: list[str] | None = None) -> None:
    """Measure everything and print it."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as workers have it
    turns = 4 * setting(argv, doc=__doc__).turns
    say_where()
    camera = Camera(frames=6)
    raw = [np.stack(camera.event(number)) for number in range(6)]
    frames = [camera.correction.calib(camera.event(number)) for number in range(6)]
    shape = camera.shape
    print(
        f"\n{shape}\n  {'':34}{'least ms':>9}{'med. ms':>9}{'MB/s':>9}{'both cores':>11}{'decode MB/s':>13}{'ratio':>8}{'error':>9}"
    )
    measure("raw uint16: bslz4", ours(shape, "uint16", 0), raw, turns)
    measure("  bitshuffle alone", bitshuffle_alone(shape, "uint16"), raw, turns)
    measure("calibrated float32: bslz4", ours(shape, "float32", 0), frames, turns)
    for bound in (0.05, 0.5):
        measure(f"calibrated, {bound} keV: quantized", ours(shape, "float32", bound), frames, turns)
        steps = [np.clip(np.rint(one / (2 * bound)), -32768, 32767).astype(np.int16) for one in frames]
        measure("  bitshuffle alone, of its int16", bitshuffle_alone(shape, "int16"), steps, turns)
        for name, way in others(shape, bound):
            measure(f"  {name}", way, frames, max(2, turns // 6))


if __name__ == "__main__":
    main()
