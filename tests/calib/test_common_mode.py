"""Common mode beside its plain twin, and medians by counting beside NumPy's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import CalibError
from calib.detectors import DetectorSetup, MaskOptions, correction_type
from calib.detectors._lanes import WIDTH, store
from calib.detectors._medians import column_medians, table_median
from calib.detectors.commonmode import CommonMode
from calib.detectors.jungfrau import Jungfrau
from tests.calib import plain_corrections as plain
from tests.calib.detector_frames import Array, constants_of, frame_of, made, setup_of

LIMIT = np.float32(200)


@numba.njit
def search(table: Array, limit: np.float32, found: Array, whole: Array) -> None:
    """Fill `found` (2, columns) with the medians of the columns and how many values they have, and `whole` with the median of all."""
    stride, depth = np.uintp(table.strides[0]), len(table)
    for first in range(0, table.shape[1], WIDTH):
        median, n = column_medians(
            np.uintp(table.ctypes.data) + np.uintp(4 * first), stride, depth, np.float32(limit)
        )
        store(np.uintp(found.ctypes.data) + np.uintp(4 * first), median)
        store(np.uintp(found.ctypes.data) + np.uintp(found.strides[0]) + np.uintp(4 * first), n)
    groups = table.shape[1] // WIDTH
    whole[0] = table_median(np.uintp(table.ctypes.data), stride, depth, groups, np.float32(limit), 1)


def medians(table: Array, limit: np.float32 = LIMIT) -> tuple[Array, Array, float]:
    """The medians of the columns of a table, how many values each has, and the median of all."""
    columns = table.shape[1]
    wide = np.full((len(table), -(-columns // WIDTH) * WIDTH), np.inf, np.float32)
    wide[:, :columns] = table
    found, whole = np.zeros((2, wide.shape[1]), np.float32), np.zeros(1, np.float32)
    search(wide, limit, found, whole)
    assert (found[0, columns:] == np.inf).all()
    return found[0, :columns], found[1, :columns], float(whole[0])


def plain_median(values: Array, limit: float) -> float:
    """The median, +inf where it is not within the limit."""
    there = values[values < np.inf]
    found = float(np.median(there)) if there.size else np.inf
    return found if abs(found) < limit else np.inf


@pytest.mark.parametrize("shape", [(256, 64), (48, 20), (7, 3), (1, 1), (2, 1)])
@pytest.mark.parametrize("kind", ["noise", "ties", "holes", "photons", "outside"])
def test_medians_of_lanes_are_numpys(shape: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(3)
    table = (rng.normal(0, 3, shape) + rng.normal(0, 20, shape[1])).astype(np.float32)
    if kind == "ties":
        table = np.round(table)
    if kind == "holes":
        table[rng.random(shape) < 0.6] = np.inf
    if kind == "photons":
        table[rng.random(shape) < 0.05] += 3000
    if kind == "outside":
        table += np.float32(rng.choice([-900, 900]))
    found, counted, whole = medians(table)
    assert np.array_equal(counted, (table < np.inf).sum(axis=0))
    assert found.tolist() == [plain_median(lane, 200) for lane in table.T]
    assert whole == plain_median(table, 200)


@given(st.lists(st.floats(-300, 300, width=32) | st.just(float("inf")), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_median_of_any_values_is_numpys(values: list[float]) -> None:
    lane = np.array(values, np.float32)[:, None]
    expected = np.float32(plain_median(lane[:, 0], 200))
    found, _, whole = medians(lane)
    assert found[0] == expected
    assert whole == expected


DETECTORS = {"jungfrau": (3, 14), "epixhr2x2": (7, 15), "epixhremu": (7, 15), "epix100": (1, 0)}


@pytest.mark.parametrize("dettype", DETECTORS)
@pytest.mark.parametrize("mode", range(1, 8))
def test_common_mode_is_as_its_twin(dettype: str, mode: int) -> None:
    ranges, shift = DETECTORS[dettype]
    bits = np.random.default_rng(8).choice([0, 8, 12], (288, 384)).astype(np.uint8)
    setup = setup_of(dettype, 1, config=[{"asicPixelConfig": bits, "trbit": np.array([1, 0, 0, 1])}])
    kind = correction_type(setup)
    constants = constants_of((ranges, 1, *setup.panel_shape), [3.0])
    raw = frame_of((1, *setup.panel_shape), [1] if shift else [], shift, 0x3FFF)
    raw[0, 20:40, :100] += 30
    options = MaskOptions(edges=True, edge_rows=12, edge_cols=3)
    correction = kind(setup, constants, kind.derive(setup, constants), options)
    derived = kind.derive(setup, constants)
    assert kind.coding is not None
    assert kind.banks is not None
    plane = np.array(kind.coding.planes)[(raw & kind.coding.range_mask) >> kind.coding.range_shift]
    offset, factor = kind.tables(setup, constants, (1, *setup.panel_shape))
    values = ((raw & kind.coding.data_mask) - np.take_along_axis(offset, plane[:, None], 1)[:, 0]).astype(
        np.float32
    )
    counts = (derived["level"] >> plane & 1 & correction.mask()).astype(bool)
    expected = plain.common_mode(values, counts, kind.banks, mode, 180, 10)
    expected = expected * np.take_along_axis(factor, plane[:, None], 1)[:, 0] * correction.mask()
    found = correction.calib(raw, cmpars=(7, mode, 180, 10))
    plain.check(found, expected.astype(float), constants)
    assert (found != correction.calib(raw)).any()


@pytest.mark.parametrize("dettype", ["jungfrau", "epixhremu"])
@pytest.mark.parametrize("longest", [3, 40, 3000, 100_000])
@pytest.mark.parametrize("mode", [0, 7])
def test_ranges_may_change_at_any_place(dettype: str, longest: int, mode: int) -> None:
    ranges, shift = DETECTORS[dettype]
    setup = setup_of(dettype, 2)
    kind = correction_type(setup)
    assert kind.coding is not None
    assert kind.banks is not None
    shape = (2, *setup.panel_shape)
    constants = constants_of((ranges, *shape), [3.0])
    rng = np.random.default_rng(longest)
    raw = rng.integers(1400, 1900, shape).astype(np.uint16)
    flat, at = raw.reshape(-1), 0
    while at < flat.size:
        run = int(rng.integers(1, longest + 1))
        flat[at : at + run] |= np.uint16(int(rng.integers(0, 0x10000 >> shift)) << shift)
        at += run
    plane = np.array(kind.coding.planes)[(raw & kind.coding.range_mask) >> kind.coding.range_shift]
    valid, plane = plane >= 0, np.maximum(plane, 0)
    derived = kind.derive(setup, constants)
    offset, factor = (
        np.take_along_axis(table, plane[:, None], 1)[:, 0] for table in kind.tables(setup, constants, shape)
    )
    values = ((raw & kind.coding.data_mask) - offset).astype(np.float32)
    counts = (derived["level"] >> plane & 1).astype(bool) & valid
    expected = plain.common_mode(values, counts, kind.banks, mode, 180, 10) * factor
    found = made(setup, constants).calib(raw, cmpars=(7, mode, 180, 10))
    plain.check(found, np.where(valid & (derived["mask"] != 0), expected, 0).astype(float), constants)


def test_jungfrau_counts_pixels_in_g0_whatever_the_algorithm() -> None:
    setup = setup_of("jungfrau", 1)
    correction = made(setup, constants_of((3, 1, 512, 1024), [1.0]))
    raw = frame_of((1, 512, 1024), [1], 14, 0x3FFF)
    expected = correction.calib(raw, cmpars=(7, 1, 200, 10))
    assert np.array_equal(correction.calib(raw, cmpars=(6, 1, 200, 10)), expected)


@pytest.mark.parametrize("bit", [0, 1])
def test_a_pixel_without_a_gain_does_not_count_in_any_range(bit: int) -> None:
    config: list[dict[str, object]] = [
        {"asicPixelConfig": np.full((288, 384), 12, np.uint8), "trbit": np.zeros(4)}
    ]
    constants = {
        "pedestals": np.full((7, 1, 288, 384), 1000, np.float32),
        "pixel_gain": np.ones((7, 1, 288, 384), np.float32),
    }
    constants["pixel_gain"][:, 0, 0, :25] = np.nan
    raw = np.full((1, 288, 384), 1005, np.uint16)
    raw[0, 0, :25] = 1105 | bit << 15
    found = made(setup_of("epixhr2x2", 1, config=config), constants).calib(raw, cmpars=(7, 1, 200, 5))
    assert np.isnan(found[0, 0, :25]).all()
    assert (found[0, 0, 25:48] == 0).all()


def test_a_pedestal_that_is_no_number_does_not_switch_its_row_off() -> None:
    constants = constants_of((3, 1, 512, 1024), [1.0])
    constants["pedestals"][:, 0, 0, 0] = np.inf
    correction = made(setup_of("jungfrau", 1), constants)
    raw = frame_of((1, 512, 1024), [], 14, 0x3FFF)
    expected = correction.calib(raw, cmpars=(7, 5, 1e6, 10))
    assert np.array_equal(correction.calib(raw, cmpars=(7, 5, np.inf, 10)), expected, equal_nan=True)
    assert not np.array_equal(expected[0, 0, 1:], correction.calib(raw)[0, 0, 1:])


def test_banks_of_few_rows_are_corrected_too() -> None:
    class Small(Jungfrau):
        panel_shape = (16, 32)
        banks = (2, 1)

    setup = setup_of("jungfrau", 1)
    setup = DetectorSetup("det", "jungfrau", "raw", (0, 0, 0), setup.panels, (16, 32))
    constants = constants_of((3, 1, 16, 32), [1.0])
    small = Small(setup, constants, Small.derive(setup, constants))
    raw = frame_of((1, 16, 32), [1], 14, 0x3FFF)
    plane = (raw >> 14).astype(int)
    offset, factor = (
        np.take_along_axis(table, plane[:, None], 1)[:, 0]
        for table in Small.tables(setup, constants, raw.shape)
    )
    values = ((raw & 0x3FFF) - offset).astype(np.float32)
    counts = (plane == 0) & (small.mask() != 0)
    for mode in (1, 7):
        expected = plain.common_mode(values, counts, (2, 1), mode, 180, 5) * factor * small.mask()
        plain.check(small.calib(raw, cmpars=(7, mode, 180, 5)), expected.astype(float), constants)


def test_two_threads_may_calibrate_with_one_correction() -> None:
    correction = made(setup_of("jungfrau", 1), constants_of((3, 1, 512, 1024), [1.0]))
    frames = [frame_of((1, 512, 1024), [1], 14, 0x3FFF, seed) for seed in range(2)]
    expected = [correction.calib(frame, cmpars=(7, 7, 200, 10)) for frame in frames]

    def again(number: int) -> bool:
        return all(
            np.array_equal(correction.calib(frames[number], cmpars=(7, 7, 200, 10)), expected[number])
            for _ in range(20)
        )

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(again, range(2)))


def test_common_mode_of_the_constants_is_the_default_where_psana_has_it_so() -> None:
    setup = setup_of("epixhremu", 1)
    constants = constants_of((7, 1, 144, 768), [3.0])
    raw = frame_of((1, 144, 768), [1], 15, 0x3FFF)
    assert made(setup, constants).common_mode is None
    explicit = made(setup, constants).calib(raw, cmpars=(7, 2, 100, 10))
    constants["common_mode"] = np.array([7.0, 2.0, 100.0, 10.0])
    correction = made(setup, constants)
    assert correction.common_mode == CommonMode.of((7, 2, 100, 10))
    assert np.array_equal(correction.calib(raw), explicit)
    assert not np.array_equal(correction.calib(raw, cmpars=(7, 0, 100)), explicit)


def test_what_is_no_common_mode_is_refused() -> None:
    setup = setup_of("epixm320", 1)
    constants = constants_of((2, 4, 192, 384), [1.0])
    correction = made(setup, constants)
    raw = np.zeros((4, 192, 384), np.uint16)
    assert correction.calib([raw], cmpars=(7, 0, 100)).shape == raw.shape
    with pytest.raises(CalibError, match="no common mode correction for epixm320"):
        correction.calib([raw], cmpars=(7, 1, 100, 10))


@pytest.mark.parametrize(
    "cmpars",
    [
        (7,),
        (7, 1),
        7,
        "7",
        ("a", "b", "c"),
        (7, 1.5, 100, 10),
        (7, 1, 100, 10.5),
        (np.nan, 1, 100),
        (7, 8, 100, 10),
        (7, -1, 100, 10),
        (-1, 1, 100, 10),
        (7, 1, -100, 10),
        (7, 1, 0, 10),
        (7, 1, np.nan, 10),
        (7, 1, 100, -10),
        (7, None, 100),
        ([7], 1, 100),
    ],
)
def test_parameters_that_mean_nothing_are_refused(cmpars: Any) -> None:
    with pytest.raises(CalibError, match="are no parameters of common mode") as failure:
        CommonMode.of(cmpars)
    assert "(7, 1, 200, 10)" in str(failure.value)


def test_parameters_that_mean_something_are_taken() -> None:
    assert CommonMode.of((7, 1, 200)) == CommonMode(7, 1, 200.0, 10)
    assert CommonMode.of(np.array([6.0, 7.0, np.inf, 0.0, 5.0])) == CommonMode(6, 7, 1e6, 0)
    assert CommonMode.of((7, 4, 200, 1e19)) == CommonMode(7, 4, 200.0, 1_000_000)
    assert CommonMode.of((7, 0, 0)) is None
