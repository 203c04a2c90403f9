"""Peaks found by a GPU: those of the CPU, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drp.fex import FexError, PeakFinder8
from drp.fex.peakfinder8 import Peaks
from drp.fex.radial import Survey
from tests.fex.gpu import Array, choose_gpu, correction_of, events_of

choose_gpu()
from drp.fex.cuda import GpuPeakFinder8, Launch  # noqa: E402 - after it is chosen

SHAPE = (2, 12, 30)
SMALL = Launch(blocks=3, threads=8)
COLUMNS = ("x", "y", "intensity", "maximum", "sigma", "snr", "segment", "row", "col", "pixels")

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning",  # the simulator's, of numbers that are none
    "ignore:Grid size",  # a GPU's, of launches as small as these
)


def spotted(correction: Any, count: int, *, seed: int, spots: int) -> list[Any]:
    """Events of noise with spots of some pixels, over a ring."""
    rng = np.random.default_rng(seed)
    events = events_of(correction, count, seed=seed, density=0)
    segments, rows, cols = correction.shape
    for event in events:
        for _ in range(spots):
            panel = event[rng.integers(segments)]
            row, col = rng.integers(1, rows - 2), rng.integers(1, cols - 2)
            panel[row : row + 2, col - 1 : col + 2] += rng.integers(30, 400, (2, 3)).astype(np.uint16)
    return events


def radius_of(shape: tuple[int, int, int]) -> Array:
    """Radii in pixels around a place outside of the first segment, which make some twenty bins."""
    segment, row, col = np.indices(shape)
    return (np.hypot(row + 3, col - 20 + 5 * segment) / 2).astype(np.float32)


def both(
    events: list[Any], correction: Any, launch: Launch = SMALL, **options: Any
) -> list[tuple[Peaks, Peaks]]:
    """What GPU and CPU find."""

    def made() -> PeakFinder8:
        return PeakFinder8(radius_of(correction.shape), correction.mask(), **options)

    gpu = GpuPeakFinder8(made(), correction, batch=len(events), launch=launch)
    gpu.find(events[::-1])  # leaves nothing behind
    return [
        (found, made().find(correction.calib(one)))
        for found, one in zip(gpu.find(events), events, strict=True)
    ]


def assert_equal(pairs: list[tuple[Peaks, Peaks]]) -> None:
    for found, expected in pairs:
        assert found.found == expected.found
        for name in COLUMNS:
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("per_bin", [None, 20])
@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (1, {"min_snr": 4.0}),
        (2, {"min_snr": 3.0, "asic_shape": (6, 10), "min_pix_count": 1, "max_num_peaks": 5}),
        (3, {"min_snr": 2.5, "max_pix_count": 6, "adc_thresh": 2.5, "local_bg_radius": 1}),
    ],
)
def test_peaks_are_those_of_the_cpu(seed: int, options: dict[str, Any], per_bin: int | None) -> None:
    correction = correction_of(SHAPE, dettype="camera", seed=seed)
    pairs = both(spotted(correction, 2, seed=seed, spots=12), correction, per_bin=per_bin, **options)
    assert_equal(pairs)
    assert any(found.found > 0 for found, _ in pairs)
    assert not any(found.x.flags.writeable for found, _ in pairs)
    assert any(len(found) < found.found for found, _ in pairs) == ("max_num_peaks" in options)


def test_a_guess_of_the_background_that_fails_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = []

    def told(self: Survey, *arguments: Any) -> int:
        fails.append(failed(self, *arguments))
        return fails[-1]

    failed = Survey._failed
    monkeypatch.setattr(Survey, "_failed", told)
    correction = correction_of((2, 12, 33), dettype="camera", seed=5)
    events = spotted(correction, 1, seed=5, spots=5)
    rng = np.random.default_rng(5)
    for panel in events[0]:
        panel[rng.random(panel.shape) < 0.1] += np.uint16(300)
    pairs = both(events, correction, min_snr=1.5)
    assert_equal(pairs)
    assert any(fails)
    assert pairs[0][0].found


def test_results_do_not_depend_on_the_launch() -> None:
    correction = correction_of((2, 8, 25), dettype="camera")
    events = spotted(correction, 2, seed=5, spots=10)
    for launch, per_bin in ((Launch(blocks=1, threads=1), None), (Launch(blocks=5, threads=7), 20)):
        pairs = both(events, correction, launch, min_snr=3.0, per_bin=per_bin)
        assert_equal(pairs)
        assert any(found.found for found, _ in pairs)


def test_what_cannot_be_done_is_told() -> None:
    correction = correction_of((1, 8, 8), dettype="camera")
    with pytest.raises(FexError, match=r"finder is for frames of \(2, 8, 8\), det has \(1, 8, 8\)"):
        GpuPeakFinder8(PeakFinder8(radius_of((2, 8, 8))), correction, launch=SMALL)
    gpu = GpuPeakFinder8(PeakFinder8(radius_of((1, 8, 8))), correction, batch=1, launch=SMALL)
    assert gpu.find([]) == []
    (dark,) = gpu.find([np.full((1, 8, 8), 100, np.uint16)])
    assert (len(dark), dark.found) == (0, 0)
    with pytest.raises(FexError, match="2 events are more than a batch of 1"):
        gpu.find([np.zeros((1, 8, 8), np.uint16)] * 2)
