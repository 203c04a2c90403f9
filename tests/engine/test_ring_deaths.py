"""Workers killed by a real SIGKILL at a named point between two stores to their rings: what was published counts, the event in hand is
blamed if it was not, and nothing else is touched.
"""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from dgrams import DET, Builder
from real_workers import Death, Whole

from drp.script.errors import LinkError
from drp.script.faults import POINTS, fault_from
from tests.support.plain_xtc2 import SLOW_UPDATE, PlainFile
from xtc import TransitionId

SCRIPT = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fields = {"n": (np.uint32, 0), "w": (np.uint16, 1), "hv": (np.float64, 0)}
fex = ds.add_detector(DetectorDef("cam", "epixhr", "serial0"), AlgDef("fex", 0, 0, 1), fields)
for run in ds.runs():
    hv = run.Detector("hv")
    for evt in run.events():
        fex.fex.n = evt.index
        fex.fex.w = np.full(evt.index * 7 % LENGTH, evt.index, np.uint16)
        fex.fex.hv = hv(evt)
        ds.add_data(fex.fex)
"""
INFO = {"det_name": DET, "det_type": "epixhr", "det_id": "serial0", "det_segment": 0}
# Points at which nothing is in hand, or nothing any more.
INNOCENT = ("asleep", "seen", "published", "rung")
IN_HAND = tuple(point for point in POINTS if point not in INNOCENT)
IN_TURN = tuple(point for point in POINTS if point not in ("asleep", "waits_arena"))
BARRIERS = ("BeginStep", "Enable", "Disable", "EndStep", "EndRun")
DIED = 3


def whole(folder: Path, *, length: int = 900, **options: object) -> Whole:
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("LENGTH", str(length)))
    return Whole(folder, script, INFO, **options)  # type: ignore[arg-type]


def begin(drp: Whole, builder: Builder) -> None:
    drp.put(
        [builder.configure(), builder.begin_run(), builder.begin_step(), builder.bare(TransitionId.Enable)]
    )


def events(builder: Builder, first: int, last: int) -> list[bytes]:
    """Events with a SlowUpdate before every fifth."""
    out = []
    for number in range(first, last):
        if number % 5 == 0:
            out.append(builder.slow_update(float(number)))
        out.append(builder.event(number))
    return out


def end(drp: Whole, builder: Builder) -> Path:
    for service in ("Disable", "EndStep", "EndRun", "Unconfigure"):
        drp.put([builder.bare(TransitionId[service])])
    return drp.finish()


def damaged(path: Path, count: int, *, length: int = 900) -> list[int]:
    """Check the recorded file event by event; return the places of the damaged ones."""
    file = PlainFile(path)
    assert [one.timestamp for one in file.dgrams] == sorted(one.timestamp for one in file.dgrams)
    assert len(file.events) == count
    out = []
    hv, place = float("nan"), 0
    for one in file.dgrams:
        if one.service == SLOW_UPDATE:
            hv = one.values["epics", "raw", 0]["hv"]
        if one.service != TransitionId.L1Accept:
            continue
        raw, fex = one.values[DET, "raw", 0], one.find("fex")
        assert raw["frame"] == place
        if one.damage:
            assert (one.user_damage, one.damage & 0xFFF, fex) == (DIED, 0, None)
            out.append(place)
        else:
            assert fex is not None
            assert (fex["n"], fex["hv"]) == (place, hv)
            assert fex["w"].tolist() == [place] * (place * 7 % length)
        place += 1
    return out


def check_blame(deaths: Sequence[Death], point: str, places: Sequence[int]) -> None:
    """Every worker was killed; one with an event in its hands cost that event, and no other did."""
    assert {one.exit_code for one in deaths} == {-signal.SIGKILL}
    held = TransitionId.L1Accept if point in IN_HAND else None
    assert [one.held for one in deaths] == [held] * len(deaths)
    assert [bool(one.blamed) for one in deaths] == [held is not None] * len(deaths)
    assert len(places) == len([one for one in deaths if one.blamed])


@pytest.mark.parametrize("point", IN_TURN)
def test_a_worker_killed_at_any_point_costs_the_event_in_hand_and_no_other(
    tmp_path: Path, point: str
) -> None:
    drp, builder = whole(tmp_path, fault=f"{point}:6"), Builder()
    begin(drp, builder)
    drp.put(events(builder, 0, 30))
    drp.until(deaths=1)
    places = damaged(end(drp, builder), 30)
    check_blame(drp.deaths, point, places)
    assert len(drp.deaths) == 1
    if point in IN_HAND:
        # An event may ask for room more than once.
        assert places == [5] or (point == "room" and places[0] < 5)


def test_a_worker_killed_asleep_costs_nothing(tmp_path: Path) -> None:
    drp, builder = whole(tmp_path, fault="asleep:15"), Builder()
    begin(drp, builder)
    drp.put(events(builder, 0, 10))
    drp.until(deaths=1)
    drp.put(events(builder, 10, 20))
    places = damaged(end(drp, builder), 20)
    check_blame(drp.deaths, "asleep", places)


def test_a_worker_killed_waiting_for_its_arena_costs_the_event_in_hand(tmp_path: Path) -> None:
    drp, builder = whole(tmp_path, fault="waits_arena:2", arena_bytes=4096, n_events=32), Builder()
    begin(drp, builder)
    while drp.flow.record_next != drp.flow.submit_next:
        drp.turn()
    drp.recording = False
    drp.put(events(builder, 0, 30))
    drp.until(deaths=1)
    drp.recording = True
    drp.put(events(builder, 30, 40))
    places = damaged(end(drp, builder), 40)
    check_blame(drp.deaths, "waits_arena", places)
    assert 5 < places[0] < 30


@pytest.mark.parametrize("point", ["taken", "published"])
@pytest.mark.parametrize("service", [*BARRIERS, "SlowUpdate"])
def test_a_worker_killed_at_a_transition_costs_nothing(tmp_path: Path, point: str, service: str) -> None:
    drp, builder = whole(tmp_path, fault=f"{point}@{service}:1", workers=2), Builder()
    begin(drp, builder)
    drp.put(events(builder, 0, 12))
    assert damaged(end(drp, builder), 12) == []
    drp_deaths = drp.deaths
    assert {one.exit_code for one in drp_deaths} == {-signal.SIGKILL} and len(drp_deaths) == 2
    expected = TransitionId[service] if point == "taken" else None
    assert [one.held for one in drp_deaths] == [expected] * 2
    assert not any(one.blamed for one in drp_deaths)


@pytest.mark.slow
@pytest.mark.parametrize("service", ["Configure", "BeginRun", *BARRIERS, "SlowUpdate"])
@pytest.mark.parametrize("point", [point for point in IN_TURN if point != "room"])
def test_a_worker_killed_at_any_point_of_any_transition_costs_nothing(
    tmp_path: Path, point: str, service: str
) -> None:
    drp, builder = whole(tmp_path, fault=f"{point}@{service}:1", workers=2), Builder()
    begin(drp, builder)
    drp.put(events(builder, 0, 12))
    assert damaged(end(drp, builder), 12) == []
    assert len(drp.deaths) == 2 and not any(one.blamed for one in drp.deaths)


@pytest.mark.parametrize("point", ["seen", "entry_begun", "published"])
def test_every_worker_killed_at_its_fourth_event_leaves_a_whole_run(tmp_path: Path, point: str) -> None:
    many_deaths(tmp_path, point, 40)


@pytest.mark.slow
@pytest.mark.parametrize("point", IN_TURN)
def test_many_deaths_at_one_point_leave_a_whole_run(tmp_path: Path, point: str, times: int) -> None:
    many_deaths(tmp_path, point, 300 * times)


def many_deaths(folder: Path, point: str, count: int) -> None:
    """Two workers, each incarnation of which dies at its fourth event."""
    drp = whole(folder, fault=f"{point}:4", later=f"{point}:4", workers=2)
    drp.deadline += count / 10
    builder = Builder()
    begin(drp, builder)
    drp.put(events(builder, 0, count))
    places = damaged(end(drp, builder), count)
    check_blame(drp.deaths, point, places)
    assert len(drp.deaths) >= count // 4 - 2
    print(f"{point}: {count} events, {len(drp.deaths)} workers killed, {len(places)} events damaged")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("publishd:1", r"no point 'publishd'.*There are asleep, seen, taken"),
        ("taken@Enabel:1", r"no transition 'Enabel'.*Enable"),
        ("taken:0", r"which time"),
        ("taken", r"which time"),
        ("taken:1:NONE", r"no signal 'NONE'"),
    ],
)
def test_a_fault_that_cannot_be_read_says_what_there_is(text: str, told: str) -> None:
    with pytest.raises(LinkError, match=told):
        fault_from({"DRP_FAULT": text})


def test_faults_are_read_whole() -> None:
    assert fault_from({}) is None
    fault = fault_from({"DRP_FAULT": "rung@EndStep:7:STOP"})
    assert fault is not None
    assert (fault.point, fault.service, fault.nth, fault.signal) == (10, 7, 7, signal.SIGSTOP)
