"""Radial backgrounds are those of the plain twin, however wrong the guess; a sample's are close to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.fex.frames import Floats
from drp.fex.radial import GUESS_PER_BIN, RadialBackground, sample_of
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of
from tests.fex.plain_peakfinder8 import Array, radial

SHAPE = (2, 30, 64)


def check(background: RadialBackground, frame: Array, radius: Array, mask: Array) -> None:
    """Compare with the twin."""
    bins = np.where(mask != 0, np.rint(radius), 0).astype(int)
    mean, deviation, _, threshold = radial(frame, bins, mask != 0, *background.clipping[:2])
    assert background.mean.dtype == background.deviation.dtype == np.float32
    np.testing.assert_allclose(background.mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(background.deviation, deviation, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(background.threshold, threshold, rtol=1e-5, atol=1e-2)


def rings(seed: int, bins: int) -> tuple[Array, Array, Array]:
    """A frame of normal noise with outliers, radii, and a mask with holes."""
    rng = np.random.default_rng(seed)
    radius = np.broadcast_to(np.arange(SHAPE[2]) % bins, SHAPE).astype(np.float32)
    frame = rng.normal(rng.choice([-20, 0, 3]), rng.choice([0.5, 4]), SHAPE)
    frame += rng.exponential(30, SHAPE) * (rng.random(SHAPE) < rng.choice([0, 0.02, 0.3]))
    return frame.astype(np.float32), radius, (rng.random(SHAPE) > 0.1).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 5, 64]),
    st.sampled_from([1.5, 3.0, 6.0]),
    st.sampled_from([0.0, 9.0]),
)
def test_backgrounds_are_the_plain_twins(seed: int, bins: int, min_snr: float, adc_thresh: float) -> None:
    frame, radius, mask = rings(seed, bins)
    background = RadialBackground(radius, mask, min_snr=min_snr, adc_thresh=adc_thresh)
    for one in (frame, frame[::-1].copy()):
        background.update(one)
        check(background, one, radius, mask)


@pytest.mark.parametrize("factor", [0.0, 0.1, 30.0])
def test_a_sample_unlike_the_rest_spoils_nothing(factor: float) -> None:
    frame, radius, _ = rings(3, 3)
    mask = np.ones(SHAPE, np.uint8)
    background = RadialBackground(radius, mask)
    bins = background.bins.reshape(-1)
    looked_at = sample_of(bins, 3, GUESS_PER_BIN)
    frame.reshape(-1)[looked_at] *= factor
    background.update(frame)
    check(background, frame, radius, mask)
    if factor > 1:
        assert background.survey.n == frame.size  # each guess failed, so all pixels of its bin are listed


def test_bins_without_pixels_and_frames_without_mask() -> None:
    radius = np.full(SHAPE, 7.4, np.float32)
    radius[0] = 3.5
    background = RadialBackground(radius)
    background.update(np.ones(SHAPE, np.float32))
    assert background.mean.tolist() == [0, 0, 0, 0, 1, 0, 0, 1]
    assert background.deviation.tolist() == [0] * 8
    assert not RadialBackground(radius, np.zeros(SHAPE)).mean.any()


def test_a_sample_is_always_the_same_and_close() -> None:
    rng = np.random.default_rng(5)
    radius = np.broadcast_to(np.arange(SHAPE[2]), SHAPE).astype(np.float32)
    frame = (rng.normal(radius / 50, 1) + 500 * (rng.random(SHAPE) < 0.003)).astype(np.float32)
    first, second = (RadialBackground(radius, per_bin=20, min_snr=6) for _ in range(2))
    for one in (first, second):
        one.update(frame)
    assert np.array_equal(first.mean, second.mean)
    assert (
        abs(first.mean - np.arange(SHAPE[2]) / 50) < 5 / np.sqrt(60)
    ).all()  # at an end three bins are pooled
    assert (abs(first.deviation - 1) < 5 / np.sqrt(2 * 60)).all()


def test_a_sample_has_as_many_pixels_of_each_bin_as_there_are() -> None:
    bins = np.repeat(np.arange(5), [0, 1, 10, 100, 50]).astype(np.uint16)
    index = sample_of(bins, 4, 20)
    assert np.bincount(bins[index]).tolist() == [0, 1, 10, 20]
    assert (np.diff(index) > 0).all()


@pytest.mark.parametrize("per_bin", [None, 50])
def test_calibrated_segments_have_the_background_of_their_array(per_bin: int | None) -> None:
    shape = (2, 512, 1024)
    raw = frame_of(shape, [1, 2, 3], 14, 0x3FFF)
    correction = made(setup_of("jungfrau", 2), constants_of((3, *shape), [41.5, -1.39, -0.11]))
    radius = np.hypot(*np.indices(shape)[1:]).astype(np.float32)
    background = RadialBackground(radius, correction.mask(), per_bin=per_bin)

    def means(frame: object) -> Floats:
        background.update(frame)  # type: ignore[arg-type]
        return background.mean.copy()

    assert np.array_equal(means(correction.calib(raw)), means(correction.segments(raw)))
    assert means(correction.calib(raw)).any()
