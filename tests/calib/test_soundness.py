"""What is wrong with constants that fit: which pixels give no numbers, in the ranges that the detector uses, and how many are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calib.detectors import DetectorSetup, correction_type
from calib.detectors.facts import Panel
from calib.soundness import Soundness, soundness

ROWS, COLS = 512, 1024
PIXELS = ROWS * COLS


def judged(dettype: str = "jungfrau", panels: int = 1, **changed: Any) -> Soundness:
    """Return what is said of good constants but for those changed; None leaves one out."""
    kind = correction_type(DetectorSetup("det", dettype, "raw", (0, 0, 0), (), (0, 0)))
    setup = DetectorSetup(
        "det",
        dettype,
        "raw",
        (0, 0, 0),
        tuple(Panel(2 * at, f"s{at}", {}) for at in range(panels)),
        kind.panel_shape,
    )
    shape = (kind.ranges[0], panels, *(kind.panel_shape if any(kind.panel_shape) else (4, 6)))
    good: dict[str, Any] = {
        "pedestals": np.ones(shape, np.float32),
        "pixel_gain": np.ones(shape, np.float32),
        "pixel_status": np.zeros(shape, np.uint64),
    }
    constants = {name: value for name, value in (good | changed).items() if value is not None}
    return soundness(setup, constants, kind.derive(setup, constants))


def ones(
    *at: tuple[Any, float], ranges: int = 3, panels: int = 1, shape: tuple[int, int] = (ROWS, COLS)
) -> Any:
    value = np.ones((ranges, panels, *shape), np.float32)
    for where, number in at:
        value[where] = number
    return value


def test_of_good_constants_nothing_is_said() -> None:
    found = judged()
    assert (found.usable, found.pixels, found.faults, str(found)) == (PIXELS, PIXELS, (), "")


def test_each_ctype_and_range_is_counted_with_what_calib_gives() -> None:
    found = judged(
        pedestals=ones((np.s_[1, 0, :2], np.nan), (np.s_[2, 0, 0, :5], np.inf)),
        pixel_gain=ones((np.s_[0, 0, 0, :3], 0), (np.s_[0, 0, 1, :7], np.inf), (np.s_[2, 0, 2, :9], np.nan)),
    )
    assert found.usable == PIXELS - 3
    assert found.faults == (
        f"pedestals g1 is NaN in {2 * COLS:,} of {PIXELS:,} pixels (calib gives NaN)",
        f"pedestals g2 is infinite in 5 of {PIXELS:,} pixels (calib gives infinities)",
        f"pixel_gain g0 is infinite in 7 of {PIXELS:,} pixels (calib gives 0)",
        f"pixel_gain g0 is 0 in 3 of {PIXELS:,} pixels (calib gives 0)",
        f"pixel_gain g2 is NaN in 9 of {PIXELS:,} pixels (calib gives NaN)",
    )
    assert str(found).endswith(f"; {PIXELS - 3:,} of {PIXELS:,} pixels can be used in some gain range")


def test_pixels_that_are_masked_anyway_are_not_counted() -> None:
    status = np.zeros((3, 1, ROWS, COLS), np.uint64)
    status[0, 0, :2] = 1
    found = judged(pedestals=ones((np.s_[1, 0, :3], np.nan)), pixel_status=status)
    assert found.faults == (
        f"pedestals g1 is NaN in {COLS:,} of {PIXELS - 2 * COLS:,} pixels (calib gives NaN)",
    )
    assert found.usable == PIXELS - 2 * COLS


def test_pixels_without_any_range_that_gives_numbers_are_of_no_use() -> None:
    assert judged(pedestals=ones((np.s_[:, 0, :10], np.nan))).usable == PIXELS - 10 * COLS
    assert judged(pixel_gain=ones((np.s_[:], 0))).usable == 0


def test_ranges_that_the_configuration_does_not_use_are_not_counted() -> None:
    """The emulated epixhr is all in AML; a dark run leaves the other ranges NaN."""
    shape = (144, 768)
    unused = [ones((np.s_[[0, 1, 2, 3, 5]], np.nan), ranges=7, shape=shape) for _ in range(2)]
    assert judged("epixhremu", pedestals=unused[0], pixel_gain=unused[1]).faults == ()
    used = ones((np.s_[6, 0, 0], np.nan), ranges=7, shape=shape)
    assert judged("epixhremu", pedestals=used).faults == (
        "pedestals AML_L is NaN in 768 of 110,592 pixels (calib gives NaN)",
    )


def test_panels_with_most_pixels_masked_are_told_by_segment() -> None:
    status = np.zeros((3, 6, ROWS, COLS), np.uint64)
    status[0, 0, :300] = 1
    status[1, 1, :10] = 1
    status[0, 2:] = 1
    found = judged(
        panels=6, pixel_status=status, **{name: ones(panels=6) for name in ("pedestals", "pixel_gain")}
    )
    told = "of 524,288 pixels of segment {} are masked (calib gives 0)"
    assert found.faults == (
        f"307,200 {told.format(0)}",
        *(f"524,288 {told.format(segment)}" for segment in (4, 6, 8)),
        "other segments with most pixels masked: 1",
    )
    assert found.usable == 6 * PIXELS - 300 * COLS - 10 * COLS - 4 * PIXELS


@pytest.mark.parametrize(("dettype", "told"), [("jungfrau", 1), ("epix100", 1), ("cam", 1)])
def test_that_there_is_no_status_is_said(dettype: str, told: int) -> None:
    found = judged(dettype, pixel_status=None)
    assert found.faults == ("there is no pixel_status, so no bad pixel is masked",) * told
    assert found.usable == found.pixels


def test_a_detector_of_one_range_needs_no_name_for_it() -> None:
    value = np.ones((1, 1, 4, 6), np.float32)
    value[..., 0, 0] = np.nan
    found = judged("cam", pedestals=value[0])
    assert str(found) == "pedestals is NaN in 1 of 24 pixels (calib gives NaN); 23 of 24 pixels can be used"
