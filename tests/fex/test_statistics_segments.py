"""Everything that takes a frame takes segments that come one after the other in one buffer, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from drp.fex import (
    Compressor,
    Histogram,
    Profile,
    Rebin,
    RoiStatistics,
    RunningAverage,
    StepAverage,
    Threshold,
    decompress,
)

SHAPE = (3, 20, 50)
Y, X = (one.reshape(SHAPE) for one in np.mgrid[-30.0:30.0, -25.0:25.0])


class Parts:
    """Segments of a frame, each in the buffer of the one before, which is spoilt after the last."""

    calibrates_pixels = False

    def __init__(self, frame: Any) -> None:
        self.shape = frame.shape
        self._frame = frame

    def __iter__(self) -> Iterator[Any]:
        buffer = np.zeros(self.shape[1:], np.float32)
        for segment in self._frame:
            buffer[...] = segment
            yield buffer
        buffer[...] = np.nan

    def pixels(self, index: Any, out: Any) -> Any:
        raise NotImplementedError


def step_average(frame: Any) -> list[Any]:
    """The sums of two events."""
    kept: dict[str, Any] = {}
    made = StepAverage(SHAPE, lambda name, array, _op, **_: kept.setdefault(name, array))
    made.add(frame)
    made.add(frame)
    return list(kept.values())


def compressed(frame: Any) -> list[Any]:
    """A frame there and back."""
    pytest.importorskip("bitshuffle")
    found = Compressor(SHAPE, bound=0.25).of(frame)
    return [decompress(found.data, found.sizes, found.shape, found.dtype, found.codec, found.bound)]


WAYS: dict[str, Callable[[Any], list[Any]]] = {
    "statistics": lambda f: [RoiStatistics(SHAPE).of(f).std, RoiStatistics(SHAPE).of(f).whole],
    "columns": lambda f: [Profile.along_columns(SHAPE).of(f).mean],
    "radial": lambda f: [Profile.radial(X, Y, 12).of(f).sum],
    "histogram": lambda f: [Histogram(SHAPE, 30, (-3, 9)).of(f).counts],
    "rebin": lambda f: [Rebin(SHAPE, (4, 5), "mean").of(f)],
    "threshold": lambda f: [Threshold(SHAPE, 1.5).of(f).index, Threshold(SHAPE, 1.5).of(f).value],
    "weight": lambda f: [RunningAverage(SHAPE, weight=0.5).of(f)],
    "window": lambda f: [RunningAverage(SHAPE, window=2).of(f)],
    "step": step_average,
    "compressed": compressed,
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("odd", [False, True])
def test_segments_give_what_the_frame_gives(name: str, odd: bool) -> None:
    frame = np.random.default_rng(2).normal(0, 2, SHAPE).astype(np.float32)
    if odd:
        frame[1, 3, 4:7] = [np.nan, np.inf, 1e30]
    before = frame.copy()
    with np.errstate(invalid="ignore"):
        pairs = zip(WAYS[name](frame), WAYS[name](Parts(frame)), strict=True)
    for one, other in pairs:
        assert np.array_equal(one, other, equal_nan=True)
    assert frame.tobytes() == before.tobytes()
