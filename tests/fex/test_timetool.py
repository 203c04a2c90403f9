"""Edges: as the plain finder has them, where the simulator put them, and none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.fex import EdgeFinder, FexError, edge_weights
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from tests.fex import plain_timetool as plain

COLS = 120
WEIGHTS = edge_weights(24)
SEEDS = st.integers(0, 2**32 - 1)


def frames_of(seed: int, rows: int, dtype: type, count: int) -> list[np.ndarray]:
    """Return frames of light with noise, the last with an edge; the first row of each sees little of it."""
    rng = np.random.default_rng(seed)
    light = 1000 + 300 * np.sin(np.arange(COLS) / 20)
    after = 1 / (1 + np.exp(-(np.arange(COLS) - rng.uniform(30, 90)) / rng.uniform(0.3, 5)))
    shapes = [light] * (count - 1) + [light * (1 - rng.uniform(0.1, 0.5) * after)]
    seen = np.where(np.arange(rows) == 0, 0.1, 1)[:, None]
    return [(one * seen + rng.normal(0, rng.uniform(0, 8), (rows, COLS))).astype(dtype) for one in shapes]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([np.uint16, np.float32]))
def test_an_edge_is_that_of_the_plain_finder(seed: int, dtype: type) -> None:
    *without, frame = frames_of(seed, 5, dtype, 4)
    finder = EdgeFinder(frame.shape, WEIGHTS, rows=(1, 4), sideband=(0, 1), rate=0.3)
    for one in without:
        finder.add_background(one)
    *lines, line = (plain.line_of(one, (1, 4), (0, 1)) for one in (*without, frame))
    position, amplitude, fwhm, following = plain.edge_in(line, plain.average(lines, 0.3), WEIGHTS)
    found = finder.find(frame)
    assert found.position == pytest.approx(position, abs=0.01)
    assert found.amplitude == pytest.approx(amplitude, rel=1e-3)
    assert found.fwhm == pytest.approx(fwhm, abs=0.05)
    assert found.next_amplitude == pytest.approx(following, rel=1e-2, abs=1e-6)


def test_edges_are_where_the_simulator_put_them() -> None:
    truth = TimeToolTruth(parse("timetool"))
    finder = EdgeFinder((truth.samples,), threshold=0.03)
    wrong = []
    for frame in range(200):
        edge, raw = truth.edge(frame), truth.raw(frame)
        if edge is None:
            finder.add_background(raw)
            assert not finder.find(raw).found
        else:
            found = finder.find(raw)
            assert found.amplitude == pytest.approx(0.7 * edge.depth, rel=0.2)
            wrong.append(found.position - edge.position)
    assert np.std(wrong) < 0.1
    assert abs(np.mean(wrong)) < 0.03


def test_an_edge_between_pixels_is_found_between_pixels() -> None:
    truth = TimeToolTruth(parse("timetool,noise=0"))
    finder = EdgeFinder((truth.samples,))
    for frame in range(1, 10):
        finder.set_background(truth.light(frame))
        assert finder.find(truth.shape(frame).astype(np.float32)).position == pytest.approx(
            truth.edge(frame).position, abs=0.02
        )


def test_the_filter_tells_falling_from_rising() -> None:
    line = np.where(np.arange(COLS) < 60, 100, 60).astype(np.uint16)
    for rising, found, amplitude in ((False, True, 0.4), (True, False, 0)):
        finder = EdgeFinder((COLS,), edge_weights(24, rising=rising), threshold=0.01)
        finder.set_background(np.full(COLS, 100))
        edge = finder.find(line)
        assert edge.found == found
        assert edge.amplitude == pytest.approx(amplitude, abs=1e-6)
    finder = EdgeFinder((COLS,), WEIGHTS)
    finder.set_background(np.full(COLS, 100))
    assert finder.find(line).position == pytest.approx(59.5, abs=1e-3)


def test_a_signal_that_is_not_relative_needs_no_light_in_the_background() -> None:
    finder = EdgeFinder((COLS,), edge_weights(24, rising=True), relative=False)
    finder.set_background(np.full(COLS, -3))
    edge = finder.find(np.where(np.arange(COLS) < 60, 5, 45).astype(np.uint16))
    assert edge.position == pytest.approx(59.5, abs=1e-3)
    assert edge.amplitude == pytest.approx(40)


def test_a_second_edge_is_told() -> None:
    line = 100 - 40 * (np.arange(COLS) > 30) - 20 * (np.arange(COLS) > 80)
    finder = EdgeFinder((COLS,), edge_weights(10))
    finder.set_background(np.full(COLS, 100))
    found = finder.find(line.astype(np.uint16))
    assert found.position == pytest.approx(30.5, abs=0.01)
    assert found.next_amplitude == pytest.approx(0.2, rel=0.01)


def test_nothing_is_found_before_there_is_a_background() -> None:
    finder = EdgeFinder((COLS,), WEIGHTS)
    assert finder.background is None
    assert not finder.find(np.arange(COLS, dtype=np.uint16)).found
    finder.add_background(np.full(COLS, 7, np.uint16))
    assert np.array_equal(finder.background, np.full(COLS, 7))


@pytest.mark.parametrize("at", [2, COLS - 3])
def test_an_edge_at_the_end_of_the_line_is_not_made_up(at: int) -> None:
    finder = EdgeFinder((COLS,), WEIGHTS, threshold=0.1)
    finder.set_background(np.full(COLS, 100))
    edge = finder.find(np.where(np.arange(COLS) < at, 100, 60).astype(np.uint16))
    assert not edge.found


def test_flat_dark_and_saturated_lines_have_no_edge() -> None:
    for background, line in ((0, 0), (0, 65535), (65535, 65535), (100, 0), (100, 100)):
        finder = EdgeFinder((COLS,), WEIGHTS)
        finder.add_background(np.full(COLS, background, np.uint16))
        assert not finder.find(np.full(COLS, line, np.uint16)).found


def test_an_edge_is_found_beside_saturated_and_dead_pixels() -> None:
    x = np.arange(COLS)
    light = np.where(x < 20, 5000, np.where(x == 50, 0, 2000)).clip(0, 4095)
    finder = EdgeFinder((COLS,), WEIGHTS)
    finder.add_background(light.astype(np.uint16))
    found = finder.find(np.where(x < 80, light, 0.8 * light).astype(np.uint16))
    assert found.position == pytest.approx(79.5, abs=0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_second_edge(bad: float) -> None:
    light = np.full(COLS, 1000, np.float32)
    finder = EdgeFinder((COLS,), WEIGHTS)
    finder.add_background(light)
    line = np.where(np.arange(COLS) < 85, light, 700).astype(np.float32)
    line[20] = bad
    edge = finder.find(line)
    assert edge.position == pytest.approx(84.5, abs=0.1)
    assert edge.next_amplitude == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_spoils_its_neighbourhood_and_no_background(bad: float) -> None:
    line = np.where(np.arange(COLS) < 80, 100, 60).astype(np.float32)
    broken = line.copy()
    broken[[10, 100]] = bad
    finder = EdgeFinder((COLS,), WEIGHTS, rate=0.5)
    light = np.full(COLS, 100, np.float32)
    broken_light = np.where(np.isfinite(broken), light, broken)
    for one in (broken_light, light, broken_light):
        finder.add_background(one)
    assert finder.background[10] == 50
    edge = finder.find(broken)
    assert edge.position == pytest.approx(79.5, abs=0.01)
    assert 0 < edge.fwhm < 24
    assert not finder.find(np.full(COLS, bad, np.float32)).found


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((2, 3, 4), {}, "lines"),
        ((), {}, "lines"),
        ((0,), {}, "lines"),
        ((COLS,), {}, "filter"),
        ((COLS,), {"weights": np.zeros(8)}, "not all 0"),
        ((COLS,), {"weights": [1, math.nan]}, "finite"),
        ((COLS,), {"weights": np.ones((2, 2))}, "finite"),
        ((COLS,), {"weights": WEIGHTS, "rate": 0}, "rate"),
        ((COLS,), {"weights": WEIGHTS, "rate": math.nan}, "rate"),
        ((COLS,), {"weights": WEIGHTS, "least": 0}, "least"),
        ((COLS,), {"weights": WEIGHTS, "threshold": math.nan}, "threshold"),
        ((COLS,), {"weights": WEIGHTS, "rows": (0, 2)}, "rows=0:2 does not fit 1 rows"),
        ((9, COLS), {"weights": WEIGHTS, "rows": (5, 5)}, "rows=5:5"),
        ((9, COLS), {"weights": WEIGHTS, "sideband": (-1, 5)}, "sideband=-1:5"),
    ],
)
def test_what_does_not_fit_is_said(shape: tuple[int, ...], options: dict[str, object], said: str) -> None:
    with pytest.raises(FexError, match=said):
        EdgeFinder(shape, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        np.zeros(COLS - 1, np.uint16),
        np.zeros(COLS),
        np.zeros((1, COLS), np.uint16),
        np.zeros(0, np.uint16),
    ],
)
def test_a_line_of_another_kind_is_an_error(line: np.ndarray) -> None:
    finder = EdgeFinder((COLS,), WEIGHTS)
    with pytest.raises(FexError, match=r"the samples are .* Give uint16 or float32 \(120,\)"):
        finder.find(line)


def test_samples_at_any_address_are_taken() -> None:
    finder = EdgeFinder((COLS,), WEIGHTS)
    finder.set_background(np.full(COLS, 100))
    line = np.where(np.arange(COLS) < 60, 100, 60).astype(np.uint16)
    odd = np.frombuffer(b"0" + line.tobytes(), np.uint16, COLS, 1)
    turned = line[::-1].copy()[::-1]
    assert not odd.flags.aligned
    assert finder.find(odd) == finder.find(turned) == finder.find(line)


def test_a_background_of_another_kind_is_an_error() -> None:
    finder = EdgeFinder((COLS,), WEIGHTS)
    for background in (np.zeros(3), np.full(COLS, math.nan)):
        with pytest.raises(FexError, match="background"):
            finder.set_background(background)
    with pytest.raises(FexError, match="2 or more"):
        edge_weights(1)
