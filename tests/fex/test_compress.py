"""Compressed frames come back: all of it, or within the bound; what does not come from us is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drp.fex import Compressed, Compressor, FexError, codecs, decompress, register_codec

try:
    codecs.codec_of("bslz4").encoder((1, 1), np.dtype(np.uint8), 0)
except FexError as error:
    pytest.skip(str(error), allow_module_level=True)

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 90))
WHOLE = ("uint8", "uint16", "int16", "uint32", "int32")


def back(found: Compressed, **others: Any) -> Any:
    """A frame decompressed from its fields, some of them others."""
    fields = {name: getattr(found, name) for name in Compressor.fields}
    return decompress(**(fields | others))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), shape=SHAPES, dtype=st.sampled_from([*WHOLE, "float32"]))
def test_nothing_is_lost_without_a_bound(data: st.DataObject, shape: Any, dtype: str) -> None:
    event = data.draw(arrays(dtype, shape))
    found = back(Compressor(shape, dtype).of(event))
    assert found.dtype == event.dtype
    assert found.shape == event.shape
    assert found.tobytes() == event.tobytes()


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(), shape=SHAPES, bound=st.floats(1e-6, 1e6), scale=st.sampled_from([1e-3, 1, 100, 1e5, 1e9])
)
def test_no_pixel_is_further_away_than_the_bound(
    data: st.DataObject, shape: Any, bound: float, scale: float
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    event = rng.normal(0, bound * scale, shape).astype(np.float32)
    odd = data.draw(st.lists(st.floats(width=32), max_size=9))
    at = data.draw(st.integers(0, event.size))
    event.reshape(-1)[at : at + len(odd)] = odd[: event.size - at]
    found = back(Compressor(shape, bound=bound).of(event))
    finite = np.isfinite(event)
    with np.errstate(invalid="ignore"):
        away = np.abs(found.astype(np.float64) - event.astype(np.float64))
    assert (away[finite] <= bound).all()
    assert found[~finite].tobytes() == event[~finite].tobytes()


def test_pixels_half_way_between_steps_stay_within_the_bound() -> None:
    bound = 0.25
    event = (np.arange(-(1 << 16), 1 << 16, dtype=np.float32) * np.float32(0.25)).reshape(2, 256, 256)
    for one in (event, np.nextafter(event, np.float32(np.inf)), event * np.float32(0.9921875)):
        found = back(Compressor(one.shape, bound=bound).of(one))
        assert np.abs(found.astype(float) - one).max() <= bound


def test_frames_of_noise_and_photons_become_several_times_smaller() -> None:
    rng = np.random.default_rng(5)
    event = (rng.poisson(0.1, (4, 100, 700)) * 9.5 + rng.normal(0, 0.3, (4, 100, 700))).astype(np.float32)
    event[0, 3, 5:9] = [np.nan, np.inf, 1e7, -40_000]
    found = Compressor(event.shape, bound=0.25).of(event)
    assert event.nbytes / len(found.data) > 5
    assert found.codec == "quantized"


def test_what_cannot_be_quantized_is_kept_without_loss() -> None:
    event = np.random.default_rng(1).normal(0, 1, (2, 40, 50)).astype(np.float32)
    for bound in (1e-6, 1e-9):
        assert np.array_equal(back(Compressor(event.shape, bound=bound).of(event)), event)


def test_an_event_that_does_not_become_smaller_is_compressed_all_the_same() -> None:
    event = np.random.default_rng(1).integers(0, 1 << 32, (1, 300, 500), np.uint32)
    made = Compressor(event.shape, np.uint32)
    for _ in range(2):
        assert np.array_equal(back(made.of(event)), event)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bound": -1}, "absolute error of -1"),
        ({"bound": float("nan")}, "absolute error of nan"),
        ({"bound": float("inf")}, "absolute error of inf"),
        ({"bound": 1e-35}, "float32 can keep to"),
        ({"bound": 1e35}, "float32 can keep to"),
        ({"bound": 0.5, "dtype": np.uint16}, "uint16 cannot be quantized"),
        ({"codec": "quantized"}, "float32 can keep to"),
        ({"dtype": np.float64}, "float64 cannot be worked with"),
        ({"codec": "bslz5"}, "there is no codec 'bslz5'. Known are bslz4"),
        ({"shape": (5000, 1, 1)}, "too large"),
        ({"shape": (1, 1 << 15, 1 << 15)}, "too large"),
    ],
)
def test_what_cannot_be_compressed_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(FexError, match=words):
        Compressor(**({"shape": (2, 3, 4)} | options))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitshuffle", "imagecodecs"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "drp.fex._bitshuffle", raising=False)
    monkeypatch.delattr("drp.fex._bitshuffle", raising=False)
    for bound in (0, 1):
        with pytest.raises(FexError, match=r"pip install 'drp\[compress\]'"):
            Compressor((1, 2, 3), bound=bound)


SAMPLE = np.random.default_rng(3).normal(0, 3, (2, 60, 90)).astype(np.float32)
SAMPLE[1, 7, 7] = 1e9
SAMPLES = {bound: Compressor(SAMPLE.shape, bound=bound).of(SAMPLE) for bound in (0.0, 0.5, 1e-7)}


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"shape": [2, 60]}, "no compressed frame"),
        ({"shape": [2, 60, 91]}, "damaged"),
        ({"shape": [3, 60, 90]}, "are not the 2 pieces of 3 segments"),
        ({"shape": [0, 60, 90]}, "no shape of a detector"),
        ({"shape": [-2, 60, 90]}, "no shape of a detector"),
        ({"shape": [2, 1 << 31, 1 << 31]}, "The limits are"),
        ({"shape": [1 << 31, 1, 1]}, "The limits are"),
        ({"shape": [2.0, 60.0, 90.0]}, "no compressed frame"),
        ({"dtype": "float64"}, "says that it is 'float64'"),
        ({"dtype": "O"}, "says that it is 'O'"),
        ({"dtype": "uint16"}, "damaged"),
        ({"codec": "os:system"}, "there is no codec"),
        ({"codec": ""}, "there is no codec"),
        ({"bound": -1.0}, "absolute error is -1"),
        ({"bound": np.nan}, "absolute error is nan"),
        ({"bound": 1e-4}, "for a bound of"),
        ({"sizes": np.array([-5, 10], np.int64)}, "are not the 2 pieces"),
        ({"sizes": np.array([1, 1], np.uint32)}, "are not the 2 pieces"),
        ({"data": np.zeros((2, 3), np.uint8)}, "no compressed frame"),
        ({"data": np.zeros(0, np.uint8), "sizes": np.zeros(2, np.uint32)}, "damaged"),
    ],
)
def test_fields_that_do_not_belong_together_are_refused(others: dict[str, Any], words: str) -> None:
    found = Compressor(SAMPLE.shape, bound=0.5).of(SAMPLE)
    with pytest.raises(FexError, match=words):
        back(found, **others)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), bound=st.sampled_from(sorted(SAMPLES)))
def test_damaged_bytes_are_refused_or_read_as_a_frame(data: st.DataObject, bound: float) -> None:
    found = SAMPLES[bound]
    damaged = found.data.copy()
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(damaged) - 1)))
        damaged[place] = data.draw(st.integers(0, 255))
    sizes = found.sizes.copy()
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, int(sizes[1])))
        damaged, sizes[1] = damaged[: len(damaged) - cut], sizes[1] - cut
    try:
        frame = back(found, data=damaged, sizes=sizes)
    except FexError as error:
        assert "of 2 (" in str(error)
        return
    assert frame.shape == SAMPLE.shape


@settings(max_examples=200, deadline=None)
@given(data=arrays(np.uint8, st.integers(0, 200)), codec=st.sampled_from(["bslz4", "quantized"]))
def test_any_bytes_are_refused_or_read_as_a_frame(data: Any, codec: str) -> None:
    with pytest.raises(FexError) if len(data) < 8 else _either():
        decompress(data, [len(data)], [1, 5, 7], "float32", codec, 1.0)


class _either:
    """Lets a FexError pass, and no error too."""

    def __enter__(self) -> None: ...
    def __exit__(self, kind: Any, *_: Any) -> bool:
        return kind is FexError


class Halves:
    """A codec of a user's: bytes as they are."""

    def encoder(self, shape: Any, dtype: Any, bound: float) -> Callable[[Any], Any]:
        return lambda segment: np.frombuffer(segment.tobytes(), np.uint8)

    def decode(self, piece: Any, shape: Any, dtype: Any, bound: float) -> Any:
        return piece.view(dtype).reshape(shape)


def test_a_codec_of_ones_own_is_used_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_registered", {})
    with pytest.raises(FexError, match="one of drp's own"):
        register_codec("bslz4", Halves())
    with pytest.raises(FexError, match="without encoder and decode"):
        register_codec("halves", "x")  # type: ignore[arg-type]
    register_codec("halves", Halves())
    found = Compressor(SAMPLE.shape, codec="halves").of(SAMPLE)
    assert len(found.data) == SAMPLE.nbytes
    assert np.array_equal(back(found), SAMPLE)


def test_a_codec_of_a_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"mine": "drp.fex:_bslz4", "gone": "drp.fex:nothing", "none": "drp.fex.errors:FexError"}

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [EntryPoint(one, value, group) for one, value in points.items() if name in (None, one)]

    monkeypatch.setattr(codecs, "entry_points", entry_points)
    monkeypatch.setattr(codecs, "_registered", {})
    found = Compressor(SAMPLE.shape, codec="mine").of(SAMPLE)
    assert np.array_equal(back(found), SAMPLE)
    assert codecs.codec_names() == ["bslz4", "gone", "mine", "none", "quantized"]
    with pytest.raises(FexError, match=r"'gone' \(drp.fex:nothing\) cannot be loaded"):
        Compressor(SAMPLE.shape, codec="gone")
    with pytest.raises(FexError, match="without encoder and decode"):
        Compressor(SAMPLE.shape, codec="none")
