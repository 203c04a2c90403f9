"""Edges and pulses are those of psana's finders."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.fex import EdgeFinder, PulseFinder, edge_weights
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from drp.source.waveforms import WaveformTruth
from tests.real.conftest import Psana, psana_environment

pytestmark = pytest.mark.real
ORACLE = Path(__file__).with_name("psana_waveforms.py")
Array = np.ndarray[Any, np.dtype[Any]]
Judge = Callable[..., Array]


@pytest.fixture
def judge(psana: Psana, tmp_path: Path) -> Judge:
    def ask(path: Path | None = None, **arrays: Any) -> Array:
        if path is None:
            path = tmp_path / "in.npz"
            np.savez(path, **arrays)
        words = [psana.python, ORACLE, path, tmp_path / "out.npy"]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=100, env=psana_environment(), check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answer: Array = np.load(tmp_path / "out.npy")
        return answer

    return ask


def hand_made_lines(count: int, light: Array) -> Array:
    """Return lines with one edge or two, sharp or soft, anywhere, and noise."""
    rng = np.random.default_rng(5)
    x, lines = np.arange(len(light)), np.tile(light, (count, 1)) + rng.normal(0, 4, (count, len(light)))
    for number in range(count):
        for _ in range(rng.integers(1, 3)):
            after = (1 + np.tanh((x - rng.uniform(0, len(x))) / np.exp(rng.uniform(-2, 3)))) / 2
            lines[number] *= 1 - rng.uniform(0.05, 0.4) * after
    return lines


def compare(judge: Judge, lines: Array, background: Array, taps: Array, *, relative: bool) -> int:
    """Compare edges; return how many have one."""
    # psana's filter overlaps the ends of the line: so does ours on a line that goes on without change
    wider = np.pad(lines.astype(np.float32), ((0, 0), (len(taps) - 1,) * 2))
    finder = EdgeFinder(wider[0].shape, taps[::-1], relative=relative, least=0.5)
    finder.set_background(np.pad(background, len(taps) - 1))
    below = background if relative else np.ones_like(background)
    theirs = judge(lines=lines, background=background, below=below, weights=taps)
    compared = 0
    for line, (place, _, fwhm, following, _) in zip(wider, theirs, strict=True):
        edge, top = finder.find(line), int(np.argmax(finder.correlation))
        if not edge.found:
            continue
        assert top == place
        assert edge.position - (len(taps) - 1) / 2 == pytest.approx(place, abs=0.25 * max(4, fwhm))
        assert edge.fwhm == pytest.approx(fwhm, abs=0.1)
        assert edge.next_amplitude / edge.amplitude == pytest.approx(following, abs=1e-3)
        compared += 1
    return compared


def test_edges_have_psanas_pixel_width_and_next_height(judge: Judge) -> None:
    truth = TimeToolTruth(parse("timetool"))
    light = truth.light(0)
    lines = np.vstack([[truth.raw(frame) for frame in range(1, 101)], hand_made_lines(200, light)])
    assert compare(judge, lines, light, int8_weights(60), relative=True) > 290


@pytest.mark.parametrize("rising", [False, True])
def test_edges_of_a_recorded_time_tool_are_psanas(judge: Judge, test_data: Path, rising: bool) -> None:
    lines = judge(test_data / "xtc2" / "test_timetool_psana.xtc2")
    assert lines.shape == (442, 2048)
    background = np.zeros(2048)
    assert compare(judge, lines, background, int8_weights(100, rising=rising), relative=False) == 442


def int8_weights(taps: int, *, rising: bool = False) -> Array:
    """Return a filter as psana takes them."""
    return np.round(edge_weights(taps, rising=rising) * 2000).astype(np.int8)


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize(("fraction", "delay", "walk"), [(0.5, 4, 0.0), (0.9, 3, 5.0), (0.2, 12, 0.0)])
def test_pulses_are_psanas_to_a_tenth_of_a_sample(
    judge: Judge, falling: bool, fraction: float, delay: int, walk: float
) -> None:
    simulated = [
        WaveformTruth(parse(f"digitizer:1000,pulses={count},rise={rise},seed={seed}")).raw(seed)
        for count, rise in ((8, 4), (3, 8), (1, 1))
        for seed in range(12)
    ]
    rng = np.random.default_rng(1)
    piled = [
        400 + rng.normal(0, 20, 1000) + 80 * np.convolve(rng.poisson(0.3, 1000), np.hanning(30), "same")
        for _ in range(24)
    ]
    waveforms = np.vstack([simulated, np.clip(piled, 0, 0xFFF)]).astype(np.uint16)
    waveforms = 0xFFF - waveforms if falling else waveforms
    baseline = 0xFFF - 400 if falling else 400
    settings = {
        "sample_interval": 1.0,
        "delay": delay,
        "fraction": fraction,
        "threshold": 30,
        "walk": walk,
        "polarity": "Negative" if falling else "Positive",
        "timerange_low": -1.0,
        "timerange_high": 1e6,
        "offset": baseline,
    }
    theirs = judge(waveforms=waveforms.astype(float), cfd=json.dumps(settings))[:, :-1]
    finder = PulseFinder(
        1000, 30.0, fraction=fraction, delay=delay, walk=walk, falling=falling, baseline=baseline
    )
    pulses = 0
    for waveform, times in zip(waveforms, theirs, strict=True):
        found, expected = finder.find(waveform).samples, times[times >= 0]
        assert len(found) == len(expected)
        assert found == pytest.approx(expected, abs=0.1)
        pulses += len(found)
    assert pulses > 100
