"""A simulated dark run: no light, one step for each gain range, and all pixels held in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drp.source import SourceError, SourceOptions, open_source
from drp.source.sim import Simulator
from xtc import Config, Dgram, TransitionId


def frames_by_step(dgrams: list[bytes]) -> list[list[np.ndarray]]:
    config: Config | None = None
    steps: list[list[np.ndarray]] = []
    for raw in dgrams:
        dgram = Dgram(raw, config=config)
        if dgram.service == TransitionId.Configure:
            config = Dgram(raw).config
        elif dgram.service == TransitionId.BeginStep:
            steps.append([])
        elif dgram.service == TransitionId.L1Accept:
            pixels = [np.squeeze(one.value) for one in dgram.fields() if one.field.name == "raw"]
            steps[-1].append(np.stack(pixels))
    return steps


@pytest.mark.parametrize(("kind", "bits"), [("jungfrau", (0, 1, 3)), ("epixhr,segments=2", (0, 2))])
def test_each_step_holds_all_pixels_in_one_range_around_its_pedestals(
    kind: str, bits: tuple[int, ...], drain: Any
) -> None:
    source = open_source(f"sim:{kind},dark=on,frames=12", SourceOptions(events=12 * len(bits)))
    assert isinstance(source, Simulator)
    steps = frames_by_step(drain(source, events=12 * len(bits)).dgrams)
    assert [len(step) for step in steps] == [12] * len(bits)
    truth = source.truth
    zero = truth.pedestals + truth.offsets  # type: ignore[union-attr]
    for number, step in enumerate(steps):
        frames = np.stack(step)
        assert (frames >> 14 == bits[number]).all()
        away = (frames & 0x3FFF).mean(axis=0) - zero[number]
        assert np.abs(away).max() < 6 * 6 / np.sqrt(12)
        assert len({one.tobytes() for one in step}) == 12


def test_the_last_step_goes_on_in_its_range(drain: Any) -> None:
    source = open_source("sim:jungfrau,dark=on,frames=2,step_events=3")
    steps = frames_by_step(drain(source, events=16).dgrams)
    assert [len(step) for step in steps] == [3, 3, 10]
    assert all((frame >> 14 == 3).all() for frame in steps[2])


def test_the_scan_says_which_range_a_step_is_of(drain: Any) -> None:
    basket = drain(open_source("sim:epixhr:1panel,dark=on", SourceOptions(events=4)), events=4)
    config = Dgram(basket.dgrams[0]).config
    notes = [
        one.value
        for raw in basket.dgrams
        for one in Dgram(raw, config=config).fields()
        if one.field.name == "step_docstring"
    ]
    assert [("AML_M" in note, "AML_L" in note) for note in notes] == [(True, False), (False, True)]


def test_a_dark_run_says_that_it_is_one() -> None:
    source = open_source("sim:jungfrau,dark=on", SourceOptions(events=3))
    assert "in the dark, gain ranges g0, g1, g2" in source.describe()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sim:jungfrau,dark=on,photons=0.1", "photons"),
        ("sim:jungfrau,dark=on,peaks=3", "peaks"),
        ("sim:jungfrau,dark=on,steps=2", "steps"),
        ("sim:jungfrau,dark=maybe", "maybe"),
        ("sim:digitizer,dark=on", "no option 'dark'"),
    ],
)
def test_light_in_the_dark_is_refused(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(text)
