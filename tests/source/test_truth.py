"""What went into the frames comes out again with the constants that the truth tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drp.source import SourceOptions, open_source
from drp.source.sim import Simulator
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from drp.source.truth import SimTruth
from drp.source.waveforms import WaveformTruth
from xtc import Dgram

KINDS = ["epixhr,segments=2,peaks=150,seed=3", "jungfrau,peaks=400,seed=3"]
DATA_BITS = 0x3FFF
BITS_OF = {"epixhr": {0: 0, 2: 1}, "jungfrau": {0: 0, 1: 1, 3: 2}}


def gain_range(raw: np.ndarray, kind: str) -> np.ndarray:
    """Return the range of each pixel by its bits 15:14; an unknown pattern gives 255."""
    table = np.full(4, 255, np.uint8)
    for bits, number in BITS_OF[kind].items():
        table[bits] = number
    return table[raw >> 14]


def pick(constants: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return np.take_along_axis(constants, ranges[None].astype(np.intp), axis=0)[0]


@pytest.mark.parametrize("text", KINDS)
def test_corrected_frames_give_the_photons_back_in_every_gain_range(text: str) -> None:
    truth = SimTruth(parse(text))
    options = truth.options
    seen = np.zeros(len(truth.camera.ranges), int)
    for frame in range(3):
        raw, photons = truth.raw(frame), truth.photons(frame)
        ranges = gain_range(raw, options.kind)
        assert ranges.max() < len(truth.camera.ranges)
        seen += np.bincount(ranges.ravel(), minlength=len(seen))
        zero = pick(truth.pedestals, ranges) + pick(truth.offsets, ranges)
        gain = pick(truth.gains, ranges)
        kev = ((raw & DATA_BITS) - zero) / gain
        wrong = kev - photons * options.energy_kev
        sigma = np.hypot(pick(truth.rms, ranges), 1 / np.sqrt(12)) / np.abs(gain)
        clipped = (raw & DATA_BITS) == truth.camera.top
        assert np.abs(wrong / sigma)[~clipped].max() < 5
        for number in range(len(seen)):
            mine = (ranges == number) & ~clipped
            if mine.sum() > 1000:
                assert (wrong / sigma)[mine].std() == pytest.approx(1, rel=0.05)
                assert abs((wrong / sigma)[mine].mean()) < 5 / np.sqrt(mine.sum())
    assert seen.min() >= 10


@pytest.mark.parametrize("text", KINDS)
def test_the_source_deals_the_frames_of_the_truth(text: str, drain: Any) -> None:
    source = open_source(f"sim:{text}", SourceOptions(events=2))
    basket = drain(source, events=2)
    config = Dgram(basket.dgrams[0]).config
    truth = SimTruth(parse(text))
    for frame, raw in enumerate(basket.dgrams[-2:]):
        pixels = [one.value for one in Dgram(raw, config=config).fields() if one.field.name == "raw"]
        assert np.array_equal(
            np.stack([np.atleast_3d(one).reshape(truth.shape[1:]) for one in pixels]), truth.raw(frame)
        )


def test_a_frame_does_not_depend_on_what_was_made_before() -> None:
    options = parse("jungfrau,peaks=20")
    one, other = SimTruth(options), SimTruth(options)
    for frame in (4, 0, 2):
        one.raw(frame)
    assert np.array_equal(one.raw(2), other.raw(2))
    assert np.array_equal(one.photons(2), other.photons(2))
    assert np.array_equal(one.peaks(2), other.peaks(2))


def test_peaks_are_bright_where_the_truth_says_and_apart() -> None:
    truth = SimTruth(parse("epixhr,segments=3,photons=0,ring=off,peaks=60"))
    photons, peaks = truth.photons(1).astype(int), truth.peaks(1)
    assert photons.sum() == pytest.approx(peaks["photons"].sum(), rel=0.02)
    for peak in peaks:
        row, col = round(float(peak["row"])), round(float(peak["col"]))
        around = photons[peak["segment"], row - 4 : row + 5, col - 4 : col + 5]
        assert around.sum() == pytest.approx(float(peak["photons"]), abs=5 * float(peak["photons"]) ** 0.5)
    for segment in range(3):
        mine = peaks[peaks["segment"] == segment]
        far = np.hypot(mine["row"][:, None] - mine["row"], mine["col"][:, None] - mine["col"])
        assert (far + 100 * np.eye(len(mine))).min() >= 16


def test_the_mean_is_that_of_the_photons_asked_for() -> None:
    truth = SimTruth(parse("jungfrau,photons=0.1,ring=off,peaks=0"))
    assert truth.photons(0).mean() == pytest.approx(0.1, rel=0.01)


def test_the_ring_has_its_crest_where_it_should_and_nothing_in_the_middle() -> None:
    truth = SimTruth(parse("epixhr,photons=0,ring=2,peaks=0"))
    x, y = truth.positions_um
    radius = np.hypot(x, y) / min(x.max(), y.max())
    mean = truth.mean_photons
    assert mean[np.abs(radius - 0.6) < 0.005].min() > 1.9
    assert mean[radius < 0.2].max() < 1e-3
    counted = truth.photons(0)
    assert counted[np.abs(radius - 0.6) < 0.02].mean() == pytest.approx(2, rel=0.05)


def test_no_photons_and_no_noise_leave_the_pedestals() -> None:
    truth = SimTruth(parse("epixhr,segments=1,photons=0,ring=off,peaks=0,noise=0"))
    assert np.array_equal(truth.raw(0), np.floor(truth.pedestals[0] + np.float32(0.5)).astype(np.uint16))


def test_a_waveform_is_its_shape_within_the_noise() -> None:
    truth = WaveformTruth(parse("digitizer:400"))
    for frame in range(5):
        wrong = truth.raw(frame) - truth.shape(frame)
        assert np.abs(wrong).max() < 5.5 * truth.rms
        assert wrong.std() == pytest.approx(truth.rms, rel=0.15)
        assert np.argmax(truth.raw(frame)) == pytest.approx(truth.pulses(frame)[0].arrival + 2, abs=3)


@pytest.mark.parametrize("options", ["digitizer:4000,pulses=12,rise=6", "digitizer:4000,pulses=40"])
def test_each_pulse_has_its_top_where_and_as_high_as_told(options: str) -> None:
    truth = WaveformTruth(parse(f"{options},noise=0"))
    for frame in range(3):
        pulses, seen = truth.pulses(frame), truth.shape(frame) - truth.baseline
        assert len(pulses) == truth.options.pulses
        for pulse in pulses:
            near = seen[int(pulse.arrival) : int(pulse.arrival) + 20]
            rise, height = (
                (truth.options.rise, pulse.height) if truth.options.rise else (1.6, 0.535 * pulse.height)
            )
            assert np.argmax(near) == pytest.approx(pulse.arrival % 1 + rise, abs=1)
            assert near.max() == pytest.approx(height, rel=0.05)


def test_a_digitizer_without_pulses_shows_its_baseline(drain: Any) -> None:
    truth = WaveformTruth(parse("digitizer,pulses=0,noise=0"))
    assert np.array_equal(truth.raw(0), np.full(256, 400))
    basket = drain(open_source("sim:digitizer,pulses=0", SourceOptions(events=1)), events=1)
    fields = Dgram(basket.dgrams[-1], config=Dgram(basket.dgrams[0]).config).fields()
    assert np.isnan(next(one.value for one in fields if one.field.name == "time_of_flight"))


def test_a_time_tool_sees_light_with_an_edge_at_the_place_told() -> None:
    truth = TimeToolTruth(parse("timetool"))
    for frame in range(1, 6):
        edge, raw, light = truth.edge(frame), truth.raw(frame), truth.light(frame)
        assert edge is not None
        assert np.abs(raw - truth.shape(frame)).max() < 5.5 * truth.rms
        part, at = raw / light, round(edge.position)
        assert part[: at - 100].mean() == pytest.approx(1, abs=0.001)
        assert part[at + 100 :].mean() == pytest.approx(1 - edge.depth, abs=0.001)
        assert part[at - 2 : at + 3].mean() == pytest.approx(1 - edge.depth / 2, abs=0.01)


def test_events_of_a_time_tool_without_the_beam_are_marked_and_have_no_edge(drain: Any) -> None:
    basket = drain(open_source("sim:timetool:64,references=3,noise=0", SourceOptions(events=7)), events=7)
    config, truth = Dgram(basket.dgrams[0]).config, TimeToolTruth(parse("timetool:64,references=3,noise=0"))
    events = [
        {one.field.name: one.value for one in Dgram(raw, config=config).fields()}
        for raw in basket.dgrams[-7:]
    ]
    assert [one["beam"] for one in events] == [0, 1, 1, 0, 1, 1, 0]
    for frame, event in enumerate(events):
        assert np.array_equal(event["line"], truth.raw(frame))
        assert (truth.edge(frame) is None) == (not event["beam"])
        assert np.array_equal(event["line"], np.rint(truth.light(frame))) == (not event["beam"])
    always = TimeToolTruth(parse("timetool,references=0"))
    assert all(always.has_beam(frame) for frame in range(30))


def test_the_source_carries_its_truth() -> None:
    source = open_source("sim:digitizer", SourceOptions(events=1))
    assert isinstance(source, Simulator)
    assert isinstance(source.truth, WaveformTruth)
    source = open_source("sim:timetool:64", SourceOptions(events=1))
    assert "timetool (64 samples)" in source.describe()
    assert isinstance(source, Simulator)
    assert isinstance(source.truth, TimeToolTruth)


@pytest.mark.slow
def test_the_default_frames_are_made_in_seconds() -> None:
    import time

    start = time.process_time()
    open_source("sim")
    assert time.process_time() - start < 6.0
