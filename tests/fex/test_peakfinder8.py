"""Peaks are those of the plain twin, whatever the frame, and what goes wrong is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.fex import _peak_kernels, _radial_kernels
from drp.fex.errors import FexError
from drp.fex.peakfinder8 import PeakFinder8, Peaks
from drp.fex.radial import radius_in_pixels
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from tests.calib.detector_frames import constants_of, frame_of, setup_of
from tests.calib.detector_frames import made as calibration
from tests.fex.plain_peakfinder8 import Array, Parameters, find

SHAPE = (2, 24, 33)
ODD = [np.nan, np.inf, -np.inf, 3e9, -3e9, 9e29, 3e38, -3e38]


def columns(peaks: Peaks) -> Array:
    """A row for each peak, as the twin has them."""
    fields = peaks.x, peaks.y, peaks.intensity, peaks.maximum, peaks.sigma, peaks.snr, peaks.pixels
    return np.stack(fields, axis=1).astype(float)


def twin(
    frame: Array, radius: Array, mask: Array, parameters: Parameters, state: Array | None = None
) -> Array:
    """The twin's peaks, segments one below the other."""
    flat = (-1, frame.shape[-1])
    bins = np.rint(radius).astype(int).reshape(flat)
    peaks = find(frame.reshape(flat), bins, mask.reshape(flat), parameters, state)
    return np.array(peaks, float).reshape(-1, 7)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array, Array, Parameters]:
    """A frame in eighths (so that no order of sums matters), a few bins, bad pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bins = draw(st.sampled_from([1, 3, 40]))
    radius = np.minimum(np.hypot(*np.indices(SHAPE)[1:] - rng.uniform(-5, 30, (2, 1, 1, 1))), bins).astype(
        np.float32
    )
    noise, mean = draw(st.sampled_from([(8, 0), (8, 40), (16, -30), (0, 0), (0, 24)]))
    eighths = rng.normal(mean, noise, SHAPE) + rng.integers(0, 2000, SHAPE) * (
        rng.random(SHAPE) < draw(st.sampled_from([0, 0.01, 0.1]))
    )
    frame = (np.rint(eighths) / 8).astype(np.float32)
    for odd in draw(st.lists(st.sampled_from(ODD), max_size=4)):
        frame[tuple(rng.integers(0, SHAPE))] = odd
    mask = (rng.random(SHAPE) >= draw(st.sampled_from([0, 0.1, 0.9, 1]))).astype(np.uint8)
    parameters = Parameters(
        draw(st.sampled_from([(24, 33), (12, 11), (6, 33), (2, 3), (24, 1)])),
        draw(st.sampled_from([2.0, 4.0, 6.5])),
        draw(st.sampled_from([0.0, 7.0, -9.0])),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([2, 200])),
        draw(st.integers(0, 4)),
    )
    return frame, radius, mask, parameters


def made(radius: Array, mask: Array | None, one: Parameters, **more: Any) -> PeakFinder8:
    """A finder with the twin's parameters."""
    names = ("min_snr", "adc_thresh", "min_pix_count", "max_pix_count", "local_bg_radius")
    return PeakFinder8(
        radius, mask, asic_shape=one.asic, **{name: getattr(one, name) for name in names}, **more
    )


@settings(max_examples=60, deadline=None)
@given(cases())
def test_peaks_are_the_plain_twins(case: tuple[Array, Array, Array, Parameters]) -> None:
    frame, radius, mask, parameters = case
    finder = made(radius, mask, parameters)
    expected = twin(frame, radius, mask, parameters)
    for _ in range(2):
        found = columns(finder.find(frame))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([1, 50]))
def test_peaks_above_a_sampled_background_are_the_plain_twins(
    case: tuple[Array, Array, Array, Parameters], per_bin: int
) -> None:
    frame, radius, mask, parameters = case
    finder = made(radius, mask, parameters, per_bin=per_bin)
    found = columns(finder.find(frame))
    state = np.zeros((4, int(np.rint(radius.max())) + 1), np.float32)
    state[:, : finder.background.n_bins] = finder.background.state[:, :-1]
    expected = twin(frame, radius, mask, replace(parameters, stray=False), state)
    assert found.shape == expected.shape
    np.testing.assert_allclose(in_order(found), in_order(expected), rtol=1e-4, atol=1e-4)


def in_order(peaks: Array) -> Array:
    """Rows by place, as ASICs are not gone through one by one."""
    return peaks[np.lexsort(np.round(peaks[:, :2], 2).T)]


def field(seed: int = 0, peaks: int = 30) -> tuple[Array, Array, Array]:
    """Noise with spots of 3 x 3 pixels; the spots' (segment, row, col), and the radius of each pixel."""
    rng = np.random.default_rng(seed)
    shape = (3, 96, 160)
    frame = rng.normal(1, 1, shape).astype(np.float32)
    cells = rng.choice(3 * 8 * 13, peaks, replace=False)
    places = np.stack([cells // 104, cells % 104 // 13 * 12 + 5, cells % 13 * 12 + 5], axis=1)
    for s, row, col in places:
        frame[s, row - 1 : row + 2, col - 1 : col + 2] += np.float32(rng.uniform(20, 100))
    return frame, places, np.hypot(*np.indices(shape)[1:] - 40).astype(np.float32)


def test_spots_are_found_where_they_are() -> None:
    frame, places, radius = field()
    peaks = PeakFinder8(radius).find(frame)
    found = np.stack([peaks.segment, peaks.row, peaks.col], axis=1)
    assert sorted(found.tolist()) == sorted(places.tolist())
    assert np.allclose(peaks.y, found[:, 0] * 96 + found[:, 1], atol=0.3)
    assert peaks.found == 30
    assert {name: values.dtype for name, values in peaks.cxi().items()} == peaks.cxi_types


def test_a_sampled_background_finds_the_same_spots() -> None:
    frame, places, radius = field(3)
    peaks = PeakFinder8(radius, per_bin=50).find(frame)
    assert sorted(zip(peaks.segment, peaks.row, peaks.col, strict=True)) == sorted(
        map(tuple, places.tolist())
    )


def test_simulated_peaks_are_found_and_a_sampled_background_finds_those_of_all_pixels() -> None:
    truth = SimTruth(parse("epixhr,segments=4,photons=0.02,ring=0.5,peaks=80"))
    radius = radius_in_pixels(*truth.positions_um)
    finders = [PeakFinder8(radius, min_snr=6, adc_thresh=30, per_bin=per_bin) for per_bin in (None, 32)]
    kept: list[list[Array]] = [[], []]
    true = []
    for number in range(10):
        frame = np.maximum(truth.raw(number) & 0x3FFF, 0) - truth.pedestals[0]
        frame = np.where(truth.raw(number) >> 15, 600, frame / truth.gains[0]).astype(
            np.float32
        )  # of low gain: bright
        for one, finder in zip(kept, finders, strict=True):
            peaks = finder.find(frame)
            one.append(np.stack([peaks.segment * 1000, peaks.row, peaks.col], axis=1))
        peaks = truth.peaks(number)
        true.append(np.stack([peaks["segment"] * 1000.0, peaks["row"], peaks["col"]], axis=1))
    exact, sampled = kept
    for found in kept:
        assert share(true, found) >= 0.98  # recall
        assert share(found, true) >= 0.98  # precision
    assert share(exact, sampled) >= 0.99
    assert share(sampled, true) >= share(exact, true) - 0.005  # at an equal false rate


def share(here: list[Array], there: list[Array]) -> float:
    """How many of the places here are there too, to three pixels."""
    near = [np.abs(a[:, None] - b).max(axis=2).min(axis=1) < 3 for a, b in zip(here, there, strict=True)]
    return float(np.concatenate(near).mean())


@pytest.mark.parametrize("per_bin", [None, 50])
def test_segments_that_are_calibrated_one_by_one_have_the_peaks_of_their_array(per_bin: int | None) -> None:
    shape = (2, 512, 1024)
    raw = frame_of(shape, [1], 14, 0x3FFF)
    correction = calibration(setup_of("jungfrau", 2), constants_of((3, *shape), [41.5, -1.39, -0.11]))
    radius = np.hypot(*np.indices(shape)[1:]).astype(np.float32)
    finder = PeakFinder8(radius, correction.mask(), min_snr=3.5, min_pix_count=1, per_bin=per_bin)
    expected = columns(finder.find(correction.calib(raw)))
    assert len(expected) > 5
    for cmpars in (None, (7, 2, 1e6, 1)):  # single pixels cannot be calibrated with common mode
        finder.find(np.zeros(shape, np.float32))
        found = columns(finder.find(correction.segments(raw, cmpars=cmpars)))
        expected = columns(finder.find(correction.calib(raw, cmpars=cmpars)))
        assert np.array_equal(found, expected)


def test_more_peaks_than_room_are_counted() -> None:
    frame, _, radius = field()
    all_of_them = columns(PeakFinder8(radius).find(frame))
    few = PeakFinder8(radius, max_num_peaks=7).find(frame)
    assert (len(few), few.found) == (7, 30)
    assert np.array_equal(columns(few), all_of_them[:7])


def test_resolution_and_mask_leave_peaks_out() -> None:
    frame, places, radius = field()
    mask = np.ones(frame.shape, np.uint8)
    mask[1] = 0
    peaks = PeakFinder8(radius, mask, min_res=40, max_res=90).find(frame)
    found = {
        (int(s), int(row), int(col)) for s, row, col in zip(peaks.segment, peaks.row, peaks.col, strict=True)
    }
    distance = {(int(s), int(row), int(col)): radius[s, row, col] for s, row, col in places if s != 1}
    assert {one for one, away in distance.items() if 42 < away < 88} <= found
    assert all(39 < radius[one] < 91 and one[0] != 1 for one in found)
    mask[:] = 0
    assert PeakFinder8(radius, mask).find(frame).found == 0


def test_nothing_is_left_of_a_frame_in_the_next() -> None:
    first, other = field(1)[0], field(2)[0]
    radius = field()[2]
    finder = PeakFinder8(radius)
    expected = columns(PeakFinder8(radius).find(other))
    finder.find(first)
    assert np.array_equal(columns(finder.find(other)), expected)


def test_kernels_are_compiled_before_the_first_event() -> None:
    kernels = [
        one
        for module in (_peak_kernels, _radial_kernels)
        for one in vars(module).values()
        if hasattr(one, "signatures")
    ]
    frame, _, radius = field()
    finders = [PeakFinder8(radius, per_bin=per_bin) for per_bin in (None, 50)]
    before = [len(one.signatures) for one in kernels]
    for finder in finders:
        assert finder.find(frame).found
    assert [len(one.signatures) for one in kernels] == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"asic_shape": (7, 8)}, "do not consist of ASICs"),
        ({"asic_shape": (0, 8)}, "do not consist of ASICs"),
        ({"min_snr": 0}, "min_snr 0"),
        ({"min_snr": np.nan}, "min_snr nan"),
        ({"adc_thresh": np.inf}, "adc_thresh inf"),
        ({"min_pix_count": 5, "max_pix_count": 4}, "peaks of 5 to 4 pixels"),
        ({"max_num_peaks": 0}, "0 at most"),
        ({"local_bg_radius": -1}, "radius -1"),
        ({"per_bin": 0}, "0 pixels of each radius"),
        ({"min_res": 9, "max_res": 8}, "no pixel is from 9 to 8"),
        ({"min_res": np.nan}, "no pixel is from nan to None"),
        ({"mask": np.ones((2, 6, 9))}, r"mask \(2, 6, 9\)"),
        ({"radius": np.zeros(8)}, r"radius is \(8,\)"),
        ({"radius": np.full((2, 6, 8), 1e6)}, "radii are from 1e"),
        ({"radius": np.full((2, 6, 8), -1.0)}, "radii are from -1"),
        ({"radius": np.full((2, 6, 8), np.nan)}, "radii are from nan"),
    ],
)
def test_what_cannot_be_used_is_told(change: dict[str, Any], says: str) -> None:
    given = {"radius": np.zeros((2, 6, 8)), "mask": np.ones((2, 6, 8)), **change}
    with pytest.raises(FexError, match=says):
        PeakFinder8(**given)


def test_a_frame_of_another_shape_is_told() -> None:
    with pytest.raises(FexError, match=r"expected is float32 \(2, 6, 8\)"):
        PeakFinder8(np.zeros((2, 6, 8))).find(np.zeros((2, 8, 6), np.float32))
