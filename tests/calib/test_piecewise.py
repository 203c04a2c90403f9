"""An event calibrated a segment at a time, and single pixels of it, beside the whole event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import CalibError
from calib.detectors import Correction
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of

JUNGFRAU = (3, 2, 512, 1024)


@pytest.fixture(scope="module")
def jungfrau() -> tuple[Correction, np.ndarray]:
    constants = constants_of(JUNGFRAU, [41.5, -1.39, -0.11])
    return made(setup_of("jungfrau", 2), constants), frame_of(JUNGFRAU[1:], [1, 2, 3], 14, 0x3FFF)


@pytest.mark.parametrize("cmpars", [None, (7, 3, 200, 10)])
@pytest.mark.parametrize("as_list", [True, False])
def test_segments_are_those_of_the_whole_event(
    jungfrau: tuple[Correction, np.ndarray], cmpars: tuple[int, ...] | None, as_list: bool
) -> None:
    correction, raw = jungfrau
    segments = correction.segments(list(raw) if as_list else raw, cmpars=cmpars)
    assert segments.shape == raw.shape
    assert len(segments) == 2
    buffers = set()
    for one, whole in zip(segments, correction.calib(raw, cmpars=cmpars), strict=True):
        assert np.array_equal(one, whole)
        buffers.add(one.ctypes.data)
    assert len(buffers) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2 * 512 * 1024 - 1), max_size=40), st.booleans())
def test_single_pixels_are_those_of_the_whole_event(
    jungfrau: tuple[Correction, np.ndarray], wanted: list[int], as_list: bool
) -> None:
    correction, raw = jungfrau
    index = np.array(sorted(wanted), np.int64)
    out = np.full(len(index), np.nan, np.float32)
    found = correction.segments(list(raw) if as_list else raw).pixels(index, out)
    assert found is out
    assert np.array_equal(out, correction.calib(raw).reshape(-1)[index])


def test_detectors_without_ranges_and_with_parts_of_segments_do_it_too() -> None:
    constants = constants_of((3, 40, 50), [2.0])
    raw = np.random.default_rng(0).integers(0, 200, (3, 40, 50)).astype(np.uint8)
    correction = made(setup_of("opal", 3), constants)
    whole = correction.calib(raw)
    assert np.array_equal(np.stack([one.copy() for one in correction.segments(list(raw))]), whole)
    index = np.arange(1990, 2100, 3)
    found = correction.segments(list(raw)).pixels(index, np.empty(len(index), np.float32))
    assert np.array_equal(found, whole.reshape(-1)[index])
    parts = constants_of((2, 8, 192, 384), [1.0, 1.0])
    frame = frame_of((2, 4, 192, 384), [1], 15, 0x7FFF)
    epixm = made(setup_of("epixm320", 2), parts)
    assert np.array_equal(np.stack([one.copy() for one in epixm.segments(list(frame))]), epixm.calib(frame))


def test_pixels_that_are_none_and_common_mode_are_refused(jungfrau: tuple[Correction, np.ndarray]) -> None:
    correction, raw = jungfrau
    out = np.empty(1, np.float32)
    for index in ([-1], [raw.size], [5, raw.size, 7], [5, -1, 7], [600_000, 3, 700_000], [0, 1]):
        with pytest.raises(CalibError, match="are not all among"):
            correction.segments(list(raw)).pixels(np.array(index), out)
    for index in ([-1], [raw.size], [5, raw.size, 7], [5, -1, 7]):
        with pytest.raises(CalibError, match="are not all among"):
            correction.segments(raw).pixels(np.array(index), np.empty(3, np.float32))
    corrected = correction.segments(raw, cmpars=(7, 1, 200, 10))
    assert not corrected.calibrates_pixels
    with pytest.raises(CalibError, match="with common mode"):
        corrected.pixels(np.array([0]), out)


def test_misfits_are_told_before_any_segment(jungfrau: tuple[Correction, np.ndarray]) -> None:
    correction, raw = jungfrau
    with pytest.raises(CalibError, match="are not those of"):
        correction.segments(raw[:1])


@pytest.mark.parametrize(
    ("dettype", "raw_dtype", "dtype"), [("epixm320", "u2", "u2"), ("opal", "u1", "f4"), ("opal", "f8", "f4")]
)
def test_raw_pixels_are_laid_out_as_they_are_calibrated(dettype: str, raw_dtype: str, dtype: str) -> None:
    shape = (8, 192, 384) if dettype == "epixm320" else (2, 8, 16)
    correction = made(
        setup_of(dettype, 2), constants_of((2, *shape) if dettype == "epixm320" else shape, [1.0])
    )
    raw = np.random.default_rng(1).integers(0, 255, shape).astype(raw_dtype)
    out = np.full((shape[0], shape[1] * shape[2]), 7, dtype)
    correction.lay_out(list(raw.reshape(2, -1, *shape[1:]).squeeze()), out)
    assert np.array_equal(out.reshape(shape), raw)
    with pytest.raises(CalibError, match="are not those of"):
        correction.lay_out([raw[0]], out)
