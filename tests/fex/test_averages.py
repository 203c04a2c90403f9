"""Running averages and those of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drp.fex import FexError, RunningAverage, StepAverage, average_of

SHAPE = (2, 5, 31)


def frames(count: int) -> list[Any]:
    rng = np.random.default_rng(count)
    return [rng.normal(5, 2, SHAPE).astype(np.float32) for _ in range(count)]


def test_a_window_averages_the_last_events() -> None:
    made, seen = RunningAverage(SHAPE, window=4), frames(11)
    for n, frame in enumerate(seen, 1):
        np.testing.assert_allclose(made.of(frame), np.mean(seen[max(0, n - 4) : n], axis=0), rtol=1e-6)
    made.restart()
    np.testing.assert_array_equal(made.of(seen[3]), seen[3])
    np.testing.assert_allclose(made.of(seen[4]), (seen[3] + seen[4]) / 2, rtol=1e-6)


def test_a_weight_averages_as_its_recursion_says() -> None:
    made, mean = RunningAverage(SHAPE, weight=0.25), np.zeros(SHAPE)
    for n, frame in enumerate(frames(12), 1):
        mean += max(0.25, 1 / n) * (frame - mean)
        np.testing.assert_allclose(made.of(frame), mean, rtol=1e-5)
    assert made.n == 12


@pytest.mark.parametrize("options", [{"weight": 0.5}, {"window": 3}])
def test_a_pixel_that_is_not_finite_leaves_its_average_as_it_was(options: Any) -> None:
    made, (first, second, third) = RunningAverage(SHAPE, **options), frames(3)
    made.of(first)
    before = made.of(second)[0, 0, 0]
    third[0, 0, 0] = np.nan
    third[0, 0, 1] = np.inf
    after = made.of(third)
    assert np.isfinite(after).all()
    assert after[0, 0, 0] == pytest.approx(before, rel=1e-6)
    for frame in frames(5):
        assert np.isfinite(made.of(frame)).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight": 0.5, "window": 2},
        {"weight": 0},
        {"weight": 1.1},
        {"weight": float("nan")},
        {"window": 0},
    ],
)
def test_what_is_no_running_average_is_told(options: Any) -> None:
    with pytest.raises(FexError):
        RunningAverage(SHAPE, **options)


def test_the_average_of_a_step_is_numpys_over_all_workers() -> None:
    workers: list[dict[str, Any]] = [{}, {}]
    seen = frames(9)
    for number, kept in enumerate(workers):

        def reduce(name: str, array: Any, op: str, *, per_step: bool, kept: dict[str, Any] = kept) -> Any:
            assert (op, per_step) == ("sum", True)
            return kept.setdefault(name, array)

        made = StepAverage(SHAPE, reduce, "mean")
        for frame in seen[number::2]:
            made.add(frame)
    merged = {name: workers[0][name] + workers[1][name] for name in workers[0]}
    found = average_of(merged["mean_sum"], merged["mean_squares"], merged["mean_n"])
    assert found.n == 9
    np.testing.assert_allclose(found.mean, np.mean(seen, axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, np.std(seen, axis=0, dtype=np.float64), rtol=1e-9)


def test_no_events_have_no_average() -> None:
    found = average_of(np.zeros((1, 1, 2)), np.zeros((1, 1, 2)), np.zeros(1, np.uint64))
    assert found.n == 0
    assert np.isnan(found.mean).all()
    with pytest.raises(FexError, match="those of one step"):
        average_of(np.zeros((1, 1, 2)), np.zeros((1, 1, 3)), 1)
