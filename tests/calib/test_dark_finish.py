"""Pedestals, rms and status: exact where integers are, and each status bit for its reason."""

from __future__ import annotations

import numpy as np
import pytest

from calib.dark import DarkBuilder, DarkSums, Limits, PanelRange, RangeSums, Step, Thresholds, evaluate
from calib.dark.finish import BAD_SWITCH, COLD_RMS, HIGH_AVERAGE, HOT_RMS, LOW, LOW_AVERAGE, SATURATED
from calib.detectors import Coding, DetectorSetup, Panel
from calib.errors import CalibError

TOP = 0x3FFF
SHAPE = (20, 30)


def range_sums(values: np.ndarray, limits: Limits | None = None) -> RangeSums:
    """Return the sums of data values (frames, rows, cols)."""
    coding = Coding(TOP)
    sums = DarkSums(coding, 1, (values.shape[1], values.shape[2]), limits)
    for frame in values.astype(np.uint16):
        sums.add([frame])
    out = RangeSums((values.shape[1], values.shape[2]))
    out.seen[...] = len(values)
    for name in ("count", "low", "high", "sum", "sumsq"):
        getattr(out, name)[...] += sums.arrays[name][0, 0]
    return out


def dark_values(frames: int = 50, rms: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(7)
    zero = rng.normal(3000, 20, SHAPE)
    return np.rint(rng.normal(zero, rms, (frames, *SHAPE))).astype(int)


def test_mean_and_rms_are_those_of_float64_and_better() -> None:
    values = dark_values()
    mean, rms = range_sums(values).average()
    assert np.allclose(mean, values.mean(axis=0), rtol=1e-14)
    assert np.allclose(rms, values.std(axis=0), rtol=1e-12)


def test_nothing_is_lost_where_the_mean_is_large_and_the_spread_is_small() -> None:
    """Sums of squares of 2**40 frames near the top would have no digit left for the spread in float64."""
    sums = RangeSums((1, 1))
    frames, value = 1 << 34, TOP - 2
    sums.seen[...] = sums.count[...] = frames
    sums.sum[...] = frames * value + 1
    sums.sumsq[...] = (frames - 1) * value**2 + (value + 1) ** 2
    mean, rms = sums.average()
    assert mean[0, 0] == pytest.approx(value, abs=1e-9)
    assert rms[0, 0] == pytest.approx((1 / frames) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("bit", "spoil"),
    [
        (HOT_RMS, lambda one: one + 40 * (np.arange(50) % 2)),
        (COLD_RMS, lambda one: np.full(50, 3000)),
        (SATURATED, lambda one: np.where(np.arange(50) < 6, TOP, one)),
        (LOW, lambda one: np.where(np.arange(50) < 6, 0, one)),
        (HIGH_AVERAGE, lambda one: one + 500),
        (LOW_AVERAGE, lambda one: one - 500),
    ],
)
def test_each_fault_sets_its_bit_in_that_pixel_only(bit: int, spoil: object) -> None:
    values = dark_values()
    values[:, 5, 6] = spoil(values[:, 5, 6])  # type: ignore[operator]
    found = evaluate(range_sums(values), TOP)
    assert found.status[5, 6] == bit
    assert np.count_nonzero(found.status) == 1
    assert {one for one, count in found.bad.items() if count} == {bit}
    assert found.events == 50


def test_a_tenth_of_the_events_may_be_out_of_range_and_no_more() -> None:
    values = dark_values()
    values[:5, 0, 0] = 0
    values[:6, 0, 1] = 0
    found = evaluate(range_sums(values), TOP)
    assert found.status[0, :3].tolist() == [0, LOW, 0]
    assert evaluate(range_sums(values), TOP, Thresholds(share=0.2)).status[0, 1] == 0


def test_values_out_of_range_are_counted_and_not_averaged() -> None:
    values = dark_values()
    values[:3, 2, 2] = TOP
    mean, _ = range_sums(values).average()
    assert mean[2, 2] == pytest.approx(values[3:, 2, 2].mean())


def test_a_pixel_that_never_gave_a_value_is_bad_and_not_a_number_of_chance() -> None:
    values = dark_values()
    values[:, 1, 1] = 0
    found = evaluate(range_sums(values), TOP)
    assert found.mean[1, 1] == 0
    assert found.status[1, 1] & LOW
    assert found.status[1, 1] & LOW_AVERAGE


JUNGFRAU = (512, 1024)


def jungfrau_step(ranges: dict[str, int], frames: int = 20, spoil: bool = False) -> Step:
    """Return a step in which the panels `ranges` (serial: range) were held in a range."""
    panels = tuple(Panel(number, serial, {}) for number, serial in enumerate(ranges))
    setup = DetectorSetup("jungfrau", "jungfrau", "raw", (0, 2, 0), panels, JUNGFRAU)
    sums = DarkSums.of(setup)
    rng = np.random.default_rng(3)
    bits = [(0, 1, 3)[number] << 14 for number in ranges.values()]
    for event in range(frames):
        segments = [rng.integers(2990, 3010, JUNGFRAU).astype(np.uint16) | np.uint16(one) for one in bits]
        if spoil:
            segments[0][0, 0] = 1 << 15 | 3000  # bits that mean nothing
            segments[0][0, 1] = 3 << 14 | 3000 if event < 3 else segments[0][0, 1]
            segments[0][0, 2] = 3 << 14 | 3000 if event < 2 else segments[0][0, 2]
        sums.add(segments)
    return Step(setup, "exp", 7, 0, "", sums.arrays)


def test_the_data_say_which_range_a_step_measured_panel_by_panel() -> None:
    builder = DarkBuilder()
    for ranges in ({"a": 0, "b": 2}, {"a": 1, "b": 0}, {"a": 2, "b": 1}):
        builder.add(jungfrau_step(ranges))
    made = builder.build()
    assert (made.serials, made.ranges, made.missing) == (("a", "b"), ("g0", "g1", "g2"), ())
    assert made.values["pedestals"].shape == (3, 2, *JUNGFRAU)
    assert made.values["pedestals"].dtype == np.float32
    assert made.values["pixel_status"].dtype == np.uint64
    assert np.abs(made.values["pedestals"] - 2999.5).max() < 10
    assert not made.values["pixel_offset"].any()
    assert {key for key in made.results} == {(one, 0, number) for one in "ab" for number in range(3)}


def test_a_range_that_no_step_measured_is_nan_and_told() -> None:
    builder = DarkBuilder()
    builder.add(jungfrau_step({"a": 1}))
    made = builder.build()
    assert made.missing == ("g0", "g2")
    assert np.isnan(made.values["pedestals"][[0, 2]]).all()
    assert np.isnan(made.values["pixel_rms"][[0, 2]]).all()
    assert not made.values["pixel_status"][[0, 2]].any()
    assert np.isfinite(made.values["pedestals"][1]).all()


def test_a_pixel_that_strays_to_another_range_or_to_none_has_a_bad_switch() -> None:
    builder = DarkBuilder()
    builder.add(jungfrau_step({"a": 1}, spoil=True))
    status = builder.build().values["pixel_status"][1, 0]
    assert status[0, 0] & BAD_SWITCH
    assert status[0, 1] == BAD_SWITCH
    assert status[0, 2] == 0


def test_panels_may_come_from_several_files_and_swap_places() -> None:
    builder = DarkBuilder()
    first, second = jungfrau_step({"a": 0, "b": 0}), jungfrau_step({"c": 0})
    builder.add(first)
    builder.add(second)
    swapped = Step(
        DetectorSetup("jungfrau", "jungfrau", "raw", (0, 2, 0), first.setup.panels[::-1], JUNGFRAU),
        *(first.experiment, first.run, 1, ""),
        {name: value[:, ::-1] if value.ndim == 4 else value[::-1] for name, value in first.arrays.items()},
    )
    once = builder.build()
    builder.add(swapped)
    twice = builder.build()
    assert np.array_equal(once.values["pedestals"], twice.values["pedestals"], equal_nan=True)
    assert twice.results["a", 0, 0].events == 2 * once.results["a", 0, 0].events


def test_steps_of_two_runs_are_not_mixed() -> None:
    builder = DarkBuilder()
    step = jungfrau_step({"a": 0}, frames=1)
    builder.add(step)
    with pytest.raises(CalibError, match="run 8"):
        builder.add(Step(step.setup, step.experiment, 8, 0, "", step.arrays))


def test_panels_without_serial_numbers_cannot_be_told_apart() -> None:
    step = jungfrau_step({"a": 0, "b": 0}, frames=1)
    panels = tuple(Panel(panel.segment, "", {}) for panel in step.setup.panels)
    setup = DetectorSetup("jungfrau", "jungfrau", "raw", (0, 2, 0), panels, JUNGFRAU)
    with pytest.raises(CalibError, match="serial"):
        DarkBuilder().add(Step(setup, "exp", 1, 0, "", step.arrays))


def test_nothing_makes_no_constants() -> None:
    with pytest.raises(CalibError, match="no dark frames"):
        DarkBuilder().build()


def test_an_epixm_has_its_asics_along_the_panel_axis() -> None:
    setup = DetectorSetup("epixm", "epixm320", "raw", (0, 1, 0), (Panel(0, "s", {}),), (192, 384))
    sums = DarkSums.of(setup)
    asics = np.arange(4, dtype=np.uint16)[:, None, None] * 100 + np.full((4, 192, 384), 500, np.uint16)
    for low in (0, 1 << 15):
        sums.add([asics | np.uint16(low)])
        sums.add([asics | np.uint16(low)])
        sums.add([asics | np.uint16(low)])
        builder = DarkBuilder()
        builder.add(Step(setup, "exp", 1, 0, "", sums.arrays))
        made = builder.build(Thresholds(rms_lowest=0))
        assert made.values["pedestals"].shape == (2, 4, 192, 384)
        measured = made.values["pedestals"][1 if low else 0]
        assert [float(one.mean()) for one in measured] == [500, 600, 700, 800]
        assert isinstance(made.results["s", 3, 1 if low else 0], PanelRange)
        sums.reset()
