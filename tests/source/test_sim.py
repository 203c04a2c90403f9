"""The simulated run: its order, stamps, determinism, and what the caller may decide."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from drp.core import beam
from drp.source import SourceError, SourceOptions, open_source
from drp.source.simoptions import SimOptions, parse
from xtc import Config, Dgram, TransitionId

SMALL = "sim:digitizer:16"


def values(raw: bytes, config: Config) -> dict[str, Any]:
    return {f"{one.names.detname}.{one.field.label}": one.value for one in Dgram(raw, config=config).fields()}


def config_of(basket: Any) -> Config:
    config = Dgram(basket.dgrams[0]).config
    assert config is not None
    return config


def test_a_run_begins_with_its_transitions_and_goes_on_with_events(drain: Any) -> None:
    basket = drain(open_source(SMALL), events=5)
    assert basket.services == [2, 4, 6, 8, 10, 12, 12, 12, 12, 12]
    begin = values(basket.dgrams[1], config_of(basket))
    assert begin == {"runinfo.expt": "tstsim0001", "runinfo.runnum": 1}


def test_instrument_and_run_number_are_in_runinfo(drain: Any) -> None:
    basket = drain(open_source(f"{SMALL},run=7", SourceOptions(instrument="mfx")), events=1)
    begin = values(basket.dgrams[1], config_of(basket))
    assert begin == {"runinfo.expt": "mfxsim0001", "runinfo.runnum": 7}


@pytest.mark.parametrize(
    "kind", ["digitizer", "timetool:64", "epixhr,segments=1,frames=2", "jungfrau,frames=2"]
)
def test_the_same_options_give_the_same_bytes_and_another_seed_gives_others(kind: str, drain: Any) -> None:
    one, same = (drain(open_source(f"sim:{kind},seed=5"), events=3) for _ in range(2))
    other = drain(open_source(f"sim:{kind},seed=6"), events=3)
    assert one.dgrams == same.dgrams
    assert one.pulse_ids == same.pulse_ids
    assert one.dgrams[-1] != other.dgrams[-1]


def test_events_are_distinct_frames_dealt_in_turn(drain: Any) -> None:
    basket = drain(open_source(f"{SMALL},slow=0"), events=130)
    events = [raw[8:] for raw in basket.dgrams[4:]]
    assert len(set(events[:64])) == 64
    assert events[64:128] == events[:64]


@pytest.mark.parametrize("rate", [0.1, 120.0, 1000.0, 33_000.0, 464_000.0, 5e6])
def test_pulse_ids_and_times_rise_strictly_and_agree(rate: float, drain: Any, clock: Any) -> None:
    def ticking() -> int:
        clock.forward(10.0)
        return int(clock())

    options = SourceOptions(rate_hz=rate, clock_ns=ticking)
    basket = drain(
        open_source(f"{SMALL},steps=3,step_events=40,slow={min(rate / 3, 1e6)}", options), events=150
    )
    pairs = list(zip(basket.pulse_ids, basket.timestamps, strict=True))
    assert all(before[0] < after[0] and before[1] < after[1] for before, after in pairwise(pairs))
    assert all(stamp == beam.timestamp(pulse) for pulse, stamp in pairs)


def test_at_a_kilohertz_events_are_929_ticks_apart(drain: Any) -> None:
    basket = drain(open_source(f"{SMALL},slow=0"), events=3)
    first, second, third = basket.pulse_ids[-3:]
    assert (second - first, third - second) == (929, 929)


def test_the_counter_of_the_slow_update_in_force_follows_from_the_events_number(drain: Any) -> None:
    basket = drain(open_source(f"{SMALL},rate=500,slow=100", SourceOptions(clock_ns=lambda: 0)), events=1)
    assert basket.services[-1] == 12
    basket = drain(open_source(f"{SMALL},slow=200"), events=33)
    config, counter, event = config_of(basket), None, 0
    for raw in basket.dgrams:
        if Dgram(raw).service == TransitionId.SlowUpdate:
            counter = values(raw, config)["epics.counter"]
        if Dgram(raw).service == TransitionId.L1Accept:
            assert counter == event // 5
            event += 1
    assert event == 33


def test_no_slow_update_or_step_follows_the_last_event_wanted(drain: Any) -> None:
    basket = drain(open_source(f"{SMALL},slow=200,steps=2,step_events=10"), events=10)
    assert basket.services[-1] == 12
    again = open_source(f"{SMALL},slow=200,steps=2,step_events=10")
    whole = drain(again, events=10)
    assert again.fill(whole) == 0
    assert whole.services[-1] == 12


def test_steps_share_the_events_and_carry_scan_values(drain: Any) -> None:
    source = open_source(f"{SMALL},steps=4,slow=0", SourceOptions(events=40))
    basket = drain(source, events=40)
    config = config_of(basket)
    step = [12] * 10
    assert basket.services == [2, 4, 6, 8, *step, 9, 7, 6, 8, *step, 9, 7, 6, 8, *step, 9, 7, 6, 8, *step]
    begins = [values(raw, config) for raw in basket.dgrams if Dgram(raw).service == TransitionId.BeginStep]
    assert [one["scan.step_value"] for one in begins] == [0, 1, 2, 3]
    assert [one["scan.motor1"] for one in begins] == pytest.approx([0, 10 / 3, 20 / 3, 10])


def test_events_come_at_the_rate_of_the_clock(clock: Any, make_basket: Any) -> None:
    source = open_source(f"{SMALL},slow=0", SourceOptions(rate_hz=100.0, clock_ns=clock))
    basket = make_basket()
    source.fill(basket)
    assert basket.services == [2, 4, 6, 8, 12]
    assert source.fill(basket) == 0
    assert source.wait_s() == pytest.approx(0.01)
    clock.forward(0.05)
    assert source.wait_s() == 0
    assert source.fill(basket) == 5


def test_without_slots_nothing_is_lost_or_put_twice(make_basket: Any, drain: Any) -> None:
    source = open_source(f"{SMALL},slow=300,steps=3,step_events=7")
    gathered: list[bytes] = []
    for turn in range(200):
        small = make_basket(events=turn % 3, transitions=(turn // 2) % 3)
        source.fill(small)
        gathered += small.dgrams
    events = sum(raw[11] & 0xF == 12 for raw in gathered)
    whole = drain(open_source(f"{SMALL},slow=300,steps=3,step_events=7"), events=events)
    assert gathered[: len(whole.dgrams)] == whole.dgrams
    assert all(raw[11] & 0xF != 12 for raw in gathered[len(whole.dgrams) :])


def test_no_more_frames_are_made_than_events_wanted() -> None:
    source = open_source(SMALL, SourceOptions(events=3))
    assert "3 distinct events" in source.describe()


@pytest.mark.parametrize(
    "kind", ["digitizer:16", "timetool:64", "epixhr,segments=2,frames=1", "jungfrau,frames=1"]
)
def test_the_sizes_told_are_those_of_the_largest_dgrams(kind: str, drain: Any) -> None:
    source = open_source(f"sim:{kind},slow=1000,steps=2,step_events=2")
    basket = drain(source, events=4)
    events = [len(raw) for raw, service in zip(basket.dgrams, basket.services, strict=True) if service == 12]
    others = [len(raw) for raw, service in zip(basket.dgrams, basket.services, strict=True) if service != 12]
    assert source.max_event_bytes == max(events)
    assert source.max_transition_bytes == max(others)


def test_small_events_are_small() -> None:
    assert open_source("sim:digitizer:16", SourceOptions(events=1)).max_event_bytes < 128
    assert 200 < open_source("sim:digitizer:64", SourceOptions(events=1)).max_event_bytes < 300


def test_the_default_is_the_two_megapixel_epixhr() -> None:
    assert parse("") == SimOptions()
    assert parse("epixhr2m,peaks=3") == parse("epixhr:2M,peaks=3")
    assert parse("jungfrau0.5M") == parse("jungfrau:0.5M")
    source = open_source("sim", SourceOptions(events=1))
    assert "epixhr (20x144x768)" in source.describe()


def test_detectors_have_the_schema_of_the_real_ones(drain: Any) -> None:
    epix = config_of(
        drain(open_source("sim:epixhr,segments=2,name=epix_a", SourceOptions(events=1)), events=1)
    )
    raw = epix.find("epix_a", "raw", 1)
    assert (raw.dettype, raw.alg.version, [field.rank for field in raw.fields]) == (
        "epixhremu",
        (0, 0, 1),
        [2],
    )
    assert raw.detid == "00cafe0001" + "-0000000000" * 6
    assert epix.find("epix_a", "config", 1).detid == raw.detid
    jungfrau = config_of(drain(open_source("sim:jungfrau:1M", SourceOptions(events=1)), events=1))
    raw = jungfrau.find("jungfrau", "raw", 1)
    assert (raw.dettype, raw.alg.version) == ("jungfrau", (0, 2, 0))
    names = ["raw", "frame_cnt", "timestamp", "hotPixelThresh", "numHotPixels", "maxHotPixels"]
    assert [field.name for field in raw.fields] == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sim:epixh", "epixhr"),
        ("sim:epixhr,photon=1", "photons"),
        ("sim:digitizer,photons=1", "no option 'photons'"),
        ("sim:epixhr,photons=many", "cannot be 'many'"),
        ("sim:epixhr,photons=-1", "0 to 25"),
        ("sim:epixhr,seed=1,seed=2", "twice"),
        ("sim:epixhr,peaks=99999", "do not fit"),
        ("sim:jungfrau:3M", "0.5M, 1M, 4M, 16M"),
        ("sim:digitizer:4", "16 to"),
        ("sim:digitizer:x", "16 to"),
        ("sim:timetool:15", "a time tool has 16 to"),
        ("sim:timetool,pulses=2", "no option 'pulses'"),
        ("sim:timetool,references=-1", "0 to"),
        ("sim:digitizer,references=2", "no option 'references'"),
        ("sim:digitizer,pulses=40", "do not fit 256 samples"),
        ("sim:digitizer,pulses=2,rise=40", "do not fit 256 samples"),
        ("sim:digitizer,rise=nan", "rise"),
        ("sim:digitizer,name=a-b", "cannot be"),
        ("sim:digitizer,frames=0", "1 to"),
        ("sim:digitizer,rate=nan", "rate"),
    ],
)
def test_what_cannot_be_simulated_is_said(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(text)


def test_two_rates_that_differ_are_an_error() -> None:
    with pytest.raises(SourceError, match="twice"):
        open_source(f"{SMALL},rate=10", SourceOptions(rate_hz=20))
    open_source(f"{SMALL},rate=10", SourceOptions(rate_hz=10))
