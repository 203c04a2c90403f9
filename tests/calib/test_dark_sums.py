"""Sums of dark frames: the same as plain NumPy's, whoever adds which frame, and with the pixels' bits as the corrections read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import ConstantsMisshapen
from calib.dark import DarkSums, Limits, coding_of, range_names
from calib.dark.ranges import ranges_of
from calib.detectors import Coding, DetectorSetup, Panel

JUNGFRAU = Coding(0x3FFF, range_mask=0xC000, range_shift=14, planes=(0, 1, -1, 2))
SHIFTED = Coding(0x0FFE, data_shift=1, range_mask=1, planes=(0, 1))
PLAIN = Coding(0xFFFF)


def plain_sums(frames: np.ndarray, coding: Coding, lowest: int, highest: int) -> dict[str, np.ndarray]:
    """Return the arrays of DarkSums for frames (frames, segments, rows, cols), as one reads them in its docstring."""
    planes = np.array(coding.planes)[(frames.astype(int) & coding.range_mask) >> coding.range_shift]
    usual = np.stack([(planes == plane).sum(axis=(2, 3)) for plane in range(coding.n_planes)]).argmax(axis=0)
    values = (frames.astype(int) & coding.data_mask) >> coding.data_shift
    out: dict[str, Any] = {name: [] for name in ("count", "low", "high", "sum", "sumsq")}
    for plane in range(coding.n_planes):
        here = (planes == plane) & (usual == plane)[:, :, None, None]
        low, high = here & (values < lowest), here & (values > highest)
        good = here & ~low & ~high
        out["count"].append(good.sum(axis=0))
        out["low"].append(low.sum(axis=0))
        out["high"].append(high.sum(axis=0))
        out["sum"].append((values * good).sum(axis=0))
        out["sumsq"].append((values * values * good).sum(axis=0))
    sums = {name: np.stack(value) for name, value in out.items()}
    return {**sums, "invalid": (planes < 0).sum(axis=0), "frames": np.full(frames.shape[1], len(frames))}


def random_frames(seed: int, count: int, segments: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 1 << 16, (count, segments, 3, 5)).astype(np.uint16)
    frames[:, :, 0, 0] = 0
    frames[:, :, 0, 1] = 0xFFFF
    return frames


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(1, 6),
    coding=st.sampled_from([JUNGFRAU, SHIFTED, PLAIN]),
    lowest=st.integers(0, 500),
    highest=st.integers(501, 0xFFFF),
)
def test_sums_are_those_of_plain_numpy(
    seed: int, count: int, coding: Coding, lowest: int, highest: int
) -> None:
    frames = random_frames(seed, count)
    sums = DarkSums(coding, 2, (3, 5), Limits(lowest, highest))
    for frame in frames:
        sums.add(list(frame))
    expected = plain_sums(frames, coding, lowest, highest)
    assert sums.arrays.keys() == expected.keys()
    for name, value in sums.arrays.items():
        assert np.array_equal(value, expected[name]), name


def test_it_does_not_matter_who_adds_which_frame() -> None:
    frames = random_frames(4, 12)
    whole = DarkSums(JUNGFRAU, 2, (3, 5))
    parts = [DarkSums(JUNGFRAU, 2, (3, 5)) for _ in range(3)]
    for number, frame in enumerate(frames):
        whole.add(list(frame))
        parts[number * number % 3].add(list(frame))
    merged = DarkSums(JUNGFRAU, 2, (3, 5))
    for part in reversed(parts):
        merged.merge(part.pieces)
    assert all(np.array_equal(merged.arrays[name], value) for name, value in whole.arrays.items())
    merged.reset()
    assert not any(value.any() for value in merged.arrays.values())


def test_read_only_frames_are_added_as_they_come() -> None:
    frame = random_frames(1, 1)[0]
    frame.flags.writeable = False
    sums = DarkSums(PLAIN, 2, (3, 5))
    sums.add(list(frame))
    assert sums.arrays["frames"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "frame",
    [
        [np.zeros((3, 5), np.uint16)],
        [np.zeros((3, 5), np.uint16), np.zeros((5, 3), np.uint16)],
        [np.zeros((3, 5), np.uint16), np.zeros((3, 5), np.float32)],
    ],
)
def test_a_frame_of_another_shape_or_type_is_refused(frame: list[np.ndarray]) -> None:
    with pytest.raises(ConstantsMisshapen):
        DarkSums(PLAIN, 2, (3, 5)).add(frame)


def test_sums_of_another_detector_are_not_merged_and_nothing_is_added() -> None:
    own = DarkSums(PLAIN, 2, (3, 5))
    other = DarkSums(PLAIN, 2, (3, 5))
    other.add(list(random_frames(2, 1)[0]))
    with pytest.raises(ConstantsMisshapen, match="'sum_0'"):
        own.merge({**other.pieces, "sum_0": np.zeros((2, 3, 4), np.uint64)})
    assert not own.arrays["count"].any()


def test_planes_that_no_frame_is_of_stay_as_they_are_and_need_not_be_merged() -> None:
    frames = (random_frames(3, 4) & 0x3FFF) | 0x4000
    frames[1, 0, 1, 2] |= 0xC000
    frames[2, 1, 2, 2] = 0x8000
    sums = DarkSums(JUNGFRAU, 2, (3, 5), Limits(0, 0x3FFF))
    for frame in frames:
        sums.add(list(frame))
    touched = {name for name, one in sums.pieces.items() if one.any()}
    assert touched == {"frames", "invalid", "count_1", "sum_1", "sumsq_1"}
    assert sums.arrays["count"][1, :, :, 2].tolist() == [[4, 3, 4], [4, 4, 3]]
    empty = {name: one if name in touched else one[:0] for name, one in sums.pieces.items()}
    merged = DarkSums(JUNGFRAU, 2, (3, 5))
    merged.merge(empty)
    assert all(np.array_equal(merged.arrays[name], one) for name, one in sums.arrays.items())


def test_each_part_of_a_panel_is_in_a_plane_of_its_own() -> None:
    frame = np.full((1, 4, 5), 7, np.uint16)
    frame[0, 2:] |= 0x4000
    sums = DarkSums(JUNGFRAU, 1, (4, 5), parts=2)
    sums.add(list(frame))
    assert sums.arrays["count"][:, 0, :, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]


def setup_of(dettype: str, config: dict[str, object] | None = None) -> DetectorSetup:
    return DetectorSetup("det", dettype, "raw", (1, 0, 0), (Panel(0, "a", config or {}),), (0, 0))


def test_the_codes_of_a_detector_are_named_as_its_constants_have_them() -> None:
    assert range_names(setup_of("jungfrau")) == ("g0", "g1", "g2")
    assert range_names(setup_of("epixm320")) == ("g0", "g1")
    assert range_names(setup_of("opal")) == ("all",)
    assert coding_of(setup_of("opal")).data_mask == 0xFFFF
    assert len(range_names(setup_of("epixhremu"))) == 7


def test_an_emulated_epixhr_is_in_its_automatic_medium_and_low_gain() -> None:
    setup = setup_of("epixhremu")
    ranges = ranges_of(setup, (2, 1, 144, 768))
    names = range_names(setup)
    assert {names[number] for number in np.unique(ranges[0])} == {"AML_M"}
    assert {names[number] for number in np.unique(ranges[1])} == {"AML_L"}


def test_the_configuration_of_a_panel_says_which_range_its_pixels_are_in() -> None:
    pixels = np.zeros((4, 178, 192), np.uint8)
    pixels[2] = 12  # fixed gain, high or medium by trbit
    setup = setup_of("epix10ka", {"asicPixelConfig": pixels, "trbit": np.array([1, 0, 1, 0], np.uint8)})
    ranges = ranges_of(setup, (2, 1, 352, 384))
    names = range_names(setup)
    assert names[ranges[0, 0, 0, 0]] == "FH"
    assert names[ranges[0, 0, 0, 383]] == "AML_M"
    assert names[ranges[1, 0, 351, 383]] == "AHL_L"


def test_a_uhr_panel_is_summed_in_the_order_of_its_calibrated_pixels() -> None:
    setup = DetectorSetup("uhr", "epixuhr3x2", "raw", (0, 1, 0), (Panel(0, "a", {}),), (336, 576))
    sums = DarkSums.of(setup)
    raw = (np.arange(6 * 32256, dtype=np.uint32) % 2000 + 1 << 1).astype(np.uint16).reshape(6, 32256)
    sums.add([raw])
    total = sums.arrays["sum"][0, 0]
    assert total.shape == (336, 576)
    # ASIC 0 is the upper left one, turned left to right.
    assert np.array_equal(total[:168, :192], (raw[0].reshape(168, 192)[:, ::-1] >> 1))
