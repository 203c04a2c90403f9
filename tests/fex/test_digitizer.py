"""Pulses: as the plain finder has them, when the simulator sent them, and none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.fex import FexError, PulseFinder
from drp.source.simoptions import parse
from drp.source.waveforms import WaveformTruth
from tests.fex import plain_digitizer as plain

SAMPLES = 300


def waveform_of(seed: int, falling: bool, dtype: type) -> np.ndarray:
    """Return pulses that may lie on each other, with noise."""
    rng = np.random.default_rng(seed)
    x = np.arange(SAMPLES)
    v = rng.normal(0, rng.uniform(0, 10), SAMPLES)
    for _ in range(rng.integers(0, 9)):
        late = np.maximum(x - rng.uniform(-5, SAMPLES), 0) / rng.uniform(1, 8)
        v += rng.uniform(50, 3000) * late * np.exp(1 - late)
    return (30000 + (-v if falling else v)).astype(dtype)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.uint16, np.float32]),
    st.builds(
        plain.Settings,
        threshold=st.floats(0, 500),
        fraction=st.floats(0.05, 1),
        delay=st.integers(1, 20),
        walk=st.floats(-20, 100),
        falling=st.booleans(),
        baseline=st.floats(29990, 30010),
        dead=st.integers(0, 30),
    ),
)
def test_pulses_are_those_of_the_plain_finder(seed: int, dtype: type, of: plain.Settings) -> None:
    waveform = waveform_of(seed, of.falling, dtype)
    found = PulseFinder(SAMPLES, **of._asdict()).find(waveform)
    expected = np.array(plain.pulses_in(waveform, of)).reshape(-1, 3)
    assert len(found.samples) == len(expected)
    assert found.samples == pytest.approx(expected[:, 0], abs=1e-3)
    assert found.amplitudes == pytest.approx(expected[:, 1])
    assert found.widths == pytest.approx(expected[:, 2], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "delay"),
    [("pulses=8,rise=8", 4), ("pulses=20,rise=4,noise=0.3", 2), ("pulses=1,rise=6", 3), ("pulses=0", 4)],
)
def test_pulses_arrive_when_the_simulator_sent_them_whatever_their_height(options: str, delay: int) -> None:
    truth = WaveformTruth(parse(f"digitizer:4000,{options}"))
    finder = PulseFinder(truth.samples, 40.0, delay=delay)
    late: list[float] = []
    for frame in range(50):
        found, pulses = finder.find(truth.raw(frame)), truth.pulses(frame)
        assert len(found.samples) == len(pulses)
        late += (found.samples - [one.arrival for one in pulses]).tolist()
        assert found.amplitudes == pytest.approx([one.height for one in pulses], rel=0.04)
    if late:
        assert np.abs(np.array(late) - np.mean(late)).max() < 0.1


def test_times_are_seconds_from_the_first_sample() -> None:
    waveform = waveform_of(3, False, np.uint16)
    found = PulseFinder(SAMPLES, 100, baseline=30000, interval_s=2e-9, begin_s=1e-6).find(waveform)
    assert len(found.samples)
    assert found.times_s == pytest.approx(1e-6 + 2e-9 * found.samples, rel=1e-12)


def test_the_baseline_is_a_number_or_the_mean_of_samples() -> None:
    waveform = waveform_of(3, False, np.uint16)
    waveform[:15] = 29000
    by_number = PulseFinder(SAMPLES, 100, baseline=29000).find(waveform)
    by_mean, usual = (PulseFinder(SAMPLES, 100, baseline=one).find(waveform) for one in ((0, 15), None))
    for other in (by_mean, usual):
        assert all(np.array_equal(a, b) for a, b in zip(by_number, other, strict=True))
    assert (
        PulseFinder(SAMPLES, 100, baseline=(250, 300)).find(waveform).samples.tolist()
        != by_number.samples.tolist()
    )


def test_pulses_without_room_are_counted() -> None:
    truth = WaveformTruth(parse("digitizer:4000,pulses=8,rise=8"))
    every = PulseFinder(4000, 40.0).find(truth.raw(0))
    some = PulseFinder(4000, 40.0, most=3).find(truth.raw(0))
    assert (len(every.samples), every.dropped, len(some.samples), some.dropped) == (8, 0, 3, 5)
    assert np.array_equal(some.samples, every.samples[:3])


def test_a_dead_time_leaves_one_of_two_pulses() -> None:
    x = np.arange(SAMPLES)
    waveform = sum(
        np.where(x > at, 1000 * np.exp(-(((x - at - 6) / 4) ** 2)), 0) for at in (100, 130)
    ).astype(np.uint16)
    assert [len(PulseFinder(SAMPLES, 10, dead=dead).find(waveform).samples) for dead in (0, 29, 31)] == [
        2,
        2,
        1,
    ]


@pytest.mark.parametrize("level", [0, 400, 65535])
@pytest.mark.parametrize("falling", [False, True])
def test_a_flat_waveform_has_no_pulse(level: int, falling: bool) -> None:
    assert not len(PulseFinder(SAMPLES, 5, falling=falling).find(np.full(SAMPLES, level, np.uint16)).samples)


def test_a_saturated_pulse_has_its_time_and_the_height_of_the_digitizer() -> None:
    x = np.maximum(np.arange(SAMPLES) - 100.3, 0) / 12
    pulse = 20000 * x**4 * np.exp(4 * (1 - x))
    finder = PulseFinder(SAMPLES, 100, baseline=0, delay=2)
    whole = finder.find(pulse.astype(np.uint16)).samples.tolist()
    cut = finder.find(np.minimum(pulse, 19000).astype(np.uint16))
    assert cut.samples.tolist() == whole
    assert cut.amplitudes.tolist() == [19000]


@pytest.mark.parametrize("at", [-3, 0, SAMPLES - 14, SAMPLES - 6, SAMPLES - 2])
def test_pulses_at_the_ends_are_found_whole_or_not_at_all(at: int) -> None:
    x = np.maximum(np.arange(SAMPLES) - at, 0) / 6
    found = PulseFinder(SAMPLES, 50, baseline=0).find((2000 * x**4 * np.exp(4 * (1 - x))).astype(np.uint16))
    assert all(1 <= one <= SAMPLES - 4 for one in found.samples)
    assert np.isfinite(found.widths).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_spoils_no_other_pulse(bad: float) -> None:
    waveform = waveform_of(11, False, np.float32)
    finder = PulseFinder(SAMPLES, 100, baseline=30000)
    before = finder.find(waveform).samples.copy()
    far = before[np.abs(before - 200) > 20]
    waveform[200] = bad
    after = finder.find(waveform).samples
    assert set(far) <= set(after)
    waveform[int(far[0]) + 3] = bad  # beside the top of a pulse
    assert np.isfinite(finder.find(waveform).widths).all()
    assert not len(finder.find(np.full(SAMPLES, bad, np.float32)).samples)
    assert not len(PulseFinder(SAMPLES, 100, baseline=(190, 210)).find(waveform).samples)


@pytest.mark.parametrize(
    ("samples", "options", "said"),
    [
        (7, {"delay": 4}, "delay=4 does not fit 7 samples"),
        (100, {"delay": 0}, "delay=0"),
        (100, {"fraction": 0}, "fraction=0"),
        (100, {"fraction": 1.1}, "fraction=1.1"),
        (100, {"threshold": math.nan}, "threshold=nan"),
        (100, {"threshold": -1}, "threshold=-1"),
        (100, {"walk": math.inf}, "walk=inf"),
        (100, {"interval_s": 0}, "interval_s=0"),
        (100, {"dead": -1}, "dead=-1"),
        (100, {"most": 0}, "most=0"),
        (100, {"baseline": (50, 101)}, "baseline=50:101 does not fit 100 samples"),
        (100, {"baseline": (5, 5)}, "baseline=5:5"),
        (100, {"baseline": math.nan}, "baseline=nan"),
    ],
)
def test_what_does_not_fit_is_said(samples: int, options: dict[str, object], said: str) -> None:
    with pytest.raises(FexError, match=said):
        PulseFinder(samples, **({"threshold": 1.0} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "waveform", [np.zeros(8, np.uint16), np.zeros(9), np.zeros((1, 9), np.uint16), np.zeros(0, np.uint16)]
)
def test_a_waveform_of_another_kind_is_an_error(waveform: np.ndarray) -> None:
    with pytest.raises(FexError, match=r"the samples are .* Give uint16 or float32 \(9,\)"):
        PulseFinder(9, 1.0).find(waveform)


def test_a_difference_that_is_zero_at_a_sample_is_a_pulse_there() -> None:
    waveform = np.array([0, 0, 0, 60, 20, 40, 70, 40, 0, 0, 0, 0], np.uint16)
    assert PulseFinder(len(waveform), 10, delay=1, baseline=0).find(waveform).samples.tolist() == [4]
