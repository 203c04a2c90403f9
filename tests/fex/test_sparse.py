"""Sparse frames: full frames made of them are the frames they were made of, within the noise of the background."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.fex import FexError, SparseBragg, SparseWriter, radius_in_pixels
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from tests.fex.plain_sparse import densify

SHAPE = (2, 40, 50)
RADIUS = np.hypot(*(np.indices(SHAPE)[1:] - 20.3)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    noise=st.sampled_from([0.0, 1.0, 30.0]),
    masked=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    bright=st.sampled_from([0.0, 0.01, 0.2]),
    invalid=st.sampled_from([0.0, 0.05]),
    adc_thresh=st.sampled_from([0.0, 60.0]),
)
def test_bright_are_the_pixels_above_the_threshold_of_their_radius(
    seed: int, noise: float, masked: float, bright: float, invalid: float, adc_thresh: float
) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.normal(10, noise, SHAPE) + rng.uniform(0, 900, SHAPE) * (rng.random(SHAPE) < bright)
    frame[rng.random(SHAPE) < invalid] = np.nan
    frame = frame.astype(np.float32)
    mask = rng.random(SHAPE) >= masked
    bragg = SparseBragg(RADIUS, mask, min_snr=4.0, adc_thresh=adc_thresh)
    found = bragg.find(frame)
    bins = np.rint(RADIUS).astype(int)[mask]
    limit = np.full(SHAPE, np.inf)
    limit[mask] = np.maximum(
        found.background_avg[bins] + np.float32(4) * found.background_std[bins], adc_thresh
    )
    with np.errstate(invalid="ignore"):
        surely, maybe = (frame > limit * part for part in (1 + 1e-5, 1 - 1e-5))
    listed = np.zeros(frame.size, bool)
    listed[found.index] = True
    assert listed[surely.ravel()].all()
    assert not listed[~maybe.ravel()].any()
    assert len(np.unique(found.index)) == len(found.index)
    assert np.array_equal(found.intensity, frame.ravel()[found.index])
    assert np.array_equal(bragg.radius < 0, ~mask)


@pytest.mark.parametrize("per_bin", [None, 64])
def test_a_full_frame_is_within_the_noise_of_the_one_it_was_made_of(per_bin: int | None) -> None:
    truth = SimTruth(parse("epixhr,segments=2,peaks=8"))
    x, y = truth.positions_um
    radius = radius_in_pixels(y, x)
    rng = np.random.default_rng(3)
    mask = rng.random(truth.shape) > 0.01
    frame = (truth.raw(0) & 0x3FFF).astype(np.float32)
    frame = np.where(truth.raw(0) >> 15, 0, (frame - truth.pedestals[0]) / truth.gains[0]).astype(np.float32)
    bragg = SparseBragg(radius, mask, per_bin=per_bin)
    found = bragg.find(frame)
    assert len(found.index) < 0.05 * frame.size
    full = densify(bragg.radius, found.index, found.intensity, found.background_avg)
    assert np.array_equal(np.isnan(full), ~mask)
    away = (frame - full)[mask] / np.maximum(found.background_std[np.rint(radius[mask]).astype(int)], 0.2)
    assert np.percentile(abs(away), 99) < 5
    assert away.max() < 7  # a pixel between two radii has the mean of both, and the threshold of one
    assert abs(away.mean()) < 0.05
    assert 0.8 < away.std() < 1.2


def test_radii_without_a_pixel_have_what_lies_between_their_neighbours() -> None:
    bins = np.rint(RADIUS)
    bragg = SparseBragg(RADIUS, (bins != 12) & (bins != 13) & (bins > 2))
    found = bragg.find((100 - RADIUS).astype(np.float32))
    assert np.allclose(found.background_avg[10:16], 100 - np.arange(10, 16), atol=0.1)
    assert found.background_avg[:3] == pytest.approx(found.background_avg[3])


def test_a_frame_with_enough_peaks_is_a_hit() -> None:
    rng = np.random.default_rng(2)
    frame = rng.normal(0, 1, SHAPE).astype(np.float32)
    for row, col in ((8, 8), (8, 30), (30, 12)):
        frame[1, row : row + 2, col : col + 2] = 500
    for least, hit in ((3, True), (4, False), (0, True)):
        found = SparseBragg(RADIUS, hit_peaks=least, min_snr=3.0, adc_thresh=50.0).find(frame)
        assert len(found.peaks) == 3
        assert found.is_hit is hit
        assert len(found.index) == 12


def test_events_are_independent_of_each_other() -> None:
    rng = np.random.default_rng(2)
    bragg = SparseBragg(RADIUS)
    frame = rng.exponential(5, SHAPE).astype(np.float32)
    first = bragg.find(frame)
    kept = [
        getattr(first, name).copy() for name in ("index", "intensity", "background_avg", "background_std")
    ]
    bragg.find(np.full(SHAPE, np.nan, np.float32))
    again = bragg.find(frame)
    for name, value in zip(("index", "intensity", "background_avg", "background_std"), kept, strict=True):
        assert np.array_equal(getattr(again, name), value)


def test_radius_counts_pixels_from_the_beam() -> None:
    row, col = np.indices((4, 6)) * 75.0
    radius = radius_in_pixels(row[None], col[None], (75.0, 150.0))
    assert radius[0, 1, 2] == 0
    assert radius[0, 1, 5] == pytest.approx(3)
    assert radius[0, 3, 2] == pytest.approx(2)


def test_what_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with pytest.raises(FexError, match=r"-1 peaks"):
        SparseBragg(RADIUS, hit_peaks=-1)
    with pytest.raises(FexError, match=r"expected is float32"):
        SparseBragg(RADIUS).find(np.zeros((1, 40, 50), np.float32))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(FexError, match=r"x\.h5 cannot be written.*pip install h5py"):
        SparseWriter(tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())
