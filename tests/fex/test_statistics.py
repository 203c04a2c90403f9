"""Statistics of a region are those of NumPy, whatever the pixels are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drp.fex import FexError, Roi, RoiStatistics
from tests.fex.plain_statistics import statistics

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 40))
USUAL = st.floats(-1e4, 1e4, width=32)
ANY = st.one_of(USUAL, st.floats(width=32), st.sampled_from([np.nan, np.inf, -np.inf, 1e-30, 3e38, -0.0]))


def close(found: float, expected: float, scale: float) -> bool:
    """Whether two numbers are the same in float32, next to what was added up."""
    return bool(found == pytest.approx(expected, rel=1e-5, abs=2e-6 * scale + 1e-40))


@settings(max_examples=120, deadline=None)
@given(data=st.data(), shape=SHAPES, pixels=st.sampled_from([USUAL, ANY]))
def test_statistics_are_those_of_the_finite_pixels_that_are_used(
    data: st.DataObject, shape: tuple[int, int, int], pixels: Any
) -> None:
    frame = data.draw(arrays(np.float32, shape, elements=pixels))
    used = data.draw(arrays(bool, shape))
    used[0, 0, 0] = True
    found = RoiStatistics(shape, used).of(frame)
    for s in (*range(shape[0]), None):
        at = slice(None) if s is None else s
        plain = statistics(frame[at], used[at])
        mine = (
            found.whole._asdict()
            if s is None
            else {one: getattr(found, one)[s] for one in ("n", "sum", "mean", "std", "min", "max")}
        )
        good = frame[at][used[at] & np.isfinite(frame[at])].astype(np.float64)
        assert mine["n"] == plain["n"]
        if not plain["n"]:
            assert mine["sum"] == 0
            assert all(np.isnan(mine[one]) for one in ("mean", "std", "min", "max"))
            continue
        assert (mine["min"], mine["max"]) == (plain["min"], plain["max"])
        scale = float(np.abs(good).sum())
        assert close(mine["sum"], plain["sum"], scale)
        assert close(mine["mean"], plain["mean"], scale / len(good))
        assert close(mine["std"], plain["std"], float(np.abs(good).max()))
        if s is not None and mine["sum"]:
            # The sum itself is only known to float32, so the moments are compared, not the quotients.
            for axis, size in (("row", shape[1]), ("col", shape[2])):
                assert close(getattr(found, axis)[s] * mine["sum"], plain[f"{axis}s"], scale * size)


def test_a_bright_spot_is_the_centre_of_mass() -> None:
    frame = np.zeros((2, 30, 40), np.float32)
    frame[0, 10, 7] = frame[0, 12, 7] = 5
    frame[1, 3, 39] = 2
    found = RoiStatistics(frame.shape).of(frame)
    assert (found.row.tolist(), found.col.tolist()) == ([11, 3], [7, 39])


def test_a_deviation_far_from_zero_keeps_its_digits() -> None:
    rng = np.random.default_rng(4)
    frame = rng.normal(1e4, 0.5, (2, 60, 700)).astype(np.float32)
    assert RoiStatistics(frame.shape).of(frame).whole.std == pytest.approx(
        frame.std(dtype=np.float64), rel=1e-5
    )


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-12, 1e12, 1e20, 1e37])
def test_a_deviation_is_that_of_numpy_where_squares_leave_the_range_of_float32(scale: float) -> None:
    frame = (np.random.default_rng(5).normal(2, 1, (1, 20, 70)) * scale).astype(np.float32)
    whole = RoiStatistics(frame.shape).of(frame).whole
    assert whole.std == pytest.approx(frame.std(dtype=np.float64), rel=1e-5, abs=0)
    assert whole.sum == pytest.approx(frame.sum(dtype=np.float64), rel=1e-5, abs=0)


def test_regions_are_rows_and_columns_of_every_segment_less_the_mask() -> None:
    frame = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)
    mask = np.ones(frame.shape, np.uint8)
    mask[1, 2, 3] = 0
    for region in (Roi("1:4,2:6"), (slice(1, 4), slice(2, 6))):
        whole = RoiStatistics(frame.shape, region, mask).of(frame).whole
        assert whole.n == 23
        assert whole.sum == frame[:, 1:4, 2:6].sum() - frame[1, 2, 3]


@pytest.mark.parametrize(
    ("region", "mask", "words"),
    [
        (Roi("1:9,2:6"), None, "does not fit segments of 6 rows"),
        ((slice(3, 3), slice(0, 1)), None, "first, beyond the last"),
        ((slice(0, 9), slice(0, 1)), None, "does not fit segments of 6 rows"),
        ((slice(0, 4, 2), slice(0, 1)), None, "first, beyond the last"),
        ((slice(-2, None), slice(0, 1)), None, "first, beyond the last"),
        (np.ones((2, 6)), None, "the region has shape"),
        (None, np.ones((6, 8)), "the mask has shape"),
        (None, np.zeros((2, 6, 8)), "no pixel that is used"),
    ],
)
def test_a_region_that_does_not_fit_is_told(region: Any, mask: Any, words: str) -> None:
    with pytest.raises(FexError, match=words):
        RoiStatistics((2, 6, 8), region, mask)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((2, 6, 9), np.float32), np.zeros((2, 6, 8)), np.zeros((4, 6, 8), np.float32)[::2], None],
)
def test_a_frame_that_does_not_fit_is_told(frame: Any) -> None:
    with pytest.raises(FexError):
        RoiStatistics((2, 6, 8)).of(frame)


@pytest.mark.parametrize("shape", [(1, 2), (0, 2, 2), (1, 2, 2, 2)])
def test_a_shape_that_is_none_is_told(shape: Any) -> None:
    with pytest.raises(FexError, match="no shape of a detector"):
        RoiStatistics(shape)
