"""What befalls processes of a partition in the middle of a run: its ledger closes or names what is lost, and the next run is a good one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.partition import PLAIN, WORDS, World, partition
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.slow
TRIGGER = ROOT / "fex_scripts" / "hit_trigger.py"
OPTIONS = "--word npeaks --at-least 20 --keep-every 50"
EVENTS = 1000
SOME = 200
MIB = 1 << 20
EB_TIMEOUT_S = 3.0


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A partition of a teb, timing and one drp, and no control so far."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        trigger = made.script(TRIGGER.read_text(), "trigger.py")
        made.member(
            "teb0", "teb", "-p", f"{trigger} {OPTIONS}", "--eb-timeout", EB_TIMEOUT_S, "--event-timeout", 1
        )
        made.timing("--rate", 1000, "-n", EVENTS)
        made.drp("epixhr_0", made.script(WORDS), "--event-timeout", 1)
        yield made


@pytest.fixture
def world(bare: World) -> World:
    """The same with another drp, whose script keeps raw data, and control."""
    bare.drp("epixhr_1", bare.script(PLAIN, "plain.py"), "--event-timeout", 1)
    bare.lead()
    return bare


def begin(world: World, run: int = 1) -> None:
    """Bring a run so far that a part of its events has come."""
    world.go("running")
    world.until(lambda: len(world.triggered(run)) >= SOME, "the first events")


def good_run(world: World, run: int) -> None:
    """Do another run, from wherever the partition stands, in which nothing may be missing."""
    world.run(run, EVENTS)
    assert world.recorded(run, 0) == world.recorded(run, 1)
    assert len(world.recorded(run, 0)) > EVENTS // 3
    ledger = world.ledger(run)
    assert ledger["closes"], ledger
    assert all(one["filtered"] > 0 and one["recorded_no_verdict"] == 0 for one in ledger["drps"].values()), (
        ledger
    )


def nothing_dropped(world: World, timed_out: int = 0) -> None:
    """Check run 1, in which a drp was held up: triggers were inhibited, and all events that were triggered are whole."""
    ledger = world.ledger(1)
    assert ledger["closes"], ledger
    assert sum(ledger["inhibited"].values()) > 0, ledger
    assert world.recorded(1, 0) == world.recorded(1, 1)
    assert len([one for one in world.events(1, 0) if one.damage]) == timed_out
    assert not [one for one in world.events(1, 1) if one.damage]


def test_a_killed_drp(world: World) -> None:
    begin(world)
    world.kill("epixhr_1")
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "the other one's events")
    world.end_run_with_a_loss()
    ledger = world.ledger(1)
    assert ledger["gone"] and "epixhr_1" in str(ledger["problems"] or ledger["gone"])
    assert ledger["drps"]["epixhr_0"]["total"] == len(world.triggered(1))
    world.again("epixhr_1")
    world.go("reset")
    good_run(world, 2)


def test_a_killed_teb(world: World) -> None:
    begin(world)
    world.kill("teb0")
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    world.end_run_with_a_loss()
    ledger = world.ledger(1)
    for one in ledger["drps"].values():
        assert one["total"] == len(world.triggered(1))
        assert one["recorded_no_verdict"] > 0
    assert set(world.triggered(1)[-100:]) <= set(world.recorded(1, 0)), "what nobody decides is kept"
    world.again("teb0")
    world.go("reset")
    good_run(world, 2)


def test_a_killed_meb(bare: World) -> None:
    world = bare
    world.member("meb0", "meb")
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"), "--event-timeout", 1)
    world.lead()
    begin(world)
    world.kill("meb0")
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    world.end_run_with_a_loss()
    ledger = world.ledger(1)
    assert world.recorded(1, 0) == world.recorded(1, 1)
    assert all(one["total"] == EVENTS and one["recorded_no_verdict"] == 0 for one in ledger["drps"].values())
    world.again("meb0")
    world.go("reset")
    good_run(world, 2)


def test_a_disk_that_is_full_for_a_while_is_dead_time_and_no_loss(bare: World) -> None:
    world = bare
    world.out.mkdir()
    with small_disk(world.out / "small", 160 * MIB) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(110 * MIB))
        world.drp("epixhr_1", world.script(PLAIN, "plain.py"), "--event-timeout", 1, "-o", disk)
        world.lead()
        begin(world)
        world.until(lambda: "recording pauses" in world.log("epixhr_1"), "a full disk")
        world.until(lambda: world.stands_still(1), "no triggers any more")
        assert len(world.triggered(1)) < EVENTS
        filler.unlink()
        world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
        world.go("configured")
        nothing_dropped(world)
        world.go("connected")
        for path in disk.rglob("*r0001*.xtc2"):
            path.unlink()
        good_run(world, 2)


def test_a_killed_control(world: World) -> None:
    begin(world)
    world.kill("control")
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "events go on without control")
    world.again("control")
    world.go("configured")
    assert world.recorded(1, 0) == world.recorded(1, 1)
    assert world.ledger(1)["closes"]
    good_run(world, 2)


def test_a_killed_timing(world: World) -> None:
    begin(world)
    world.kill("timing")
    world.until(lambda: "timing" in world.log("control"), "control names it", 2.0)
    with world.daq() as daq:
        assert "timing" in str(daq.setState("reset"))
    ledger = world.ledger(1)
    assert {one["total"] for one in ledger["drps"].values()} <= set(range(len(world.triggered(1)) + 1))
    world.again("timing")
    assert world.recorded(1, 0) == world.recorded(1, 1)
    assert set(world.recorded(1, 0)) <= set(world.triggered(1))
    good_run(world, 2)


def test_a_contributor_that_is_stopped_for_twice_the_time_out(world: World) -> None:
    begin(world)
    world.kill("epixhr_1", signal.SIGSTOP)
    world.until(lambda: world.stood_still("epixhr_1", 2 * EB_TIMEOUT_S), "twice the time-out")
    world.kill("epixhr_1", signal.SIGCONT)
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    world.go("configured")
    assert world.recorded(1, 0) == world.recorded(1, 1)
    assert world.ledger(1)["closes"], world.ledger(1)
    good_run(world, 2)


def test_a_fex_script_that_hangs_is_dead_time_and_no_loss(world: World) -> None:
    hanging = WORDS.replace("    for evt in run.events():\n", HANG)
    world.script(hanging)
    begin(world)
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    world.go("configured")
    nothing_dropped(world, timed_out=1)
    world.go("connected")
    world.script(WORDS)
    good_run(world, 2)


HANG = """    import os, time
    for number, evt in enumerate(run.events()):
        if number == 200 and not os.path.exists(__file__ + ".hung"):
            open(__file__ + ".hung", "w").close()
            time.sleep(60)
"""


@pytest.mark.parametrize(
    "fault", ["raise ValueError('bad')", "import time; time.sleep(60)"], ids=["raises", "hangs"]
)
def test_a_trigger_script_that_fails_keeps_all_and_is_started_again(world: World, fault: str) -> None:
    text = TRIGGER.read_text()
    wrong = text.replace("    hits += hit\n", f"    hits += hit\n    if number == 150: {fault}\n")
    assert wrong != text
    world.script(wrong, "trigger.py")
    begin(world)
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    world.go("configured")
    ledger = world.ledger(1)
    assert ledger["closes"], ledger
    assert world.recorded(1, 0) == world.recorded(1, 1)
    world.go("connected")
    world.script(text, "trigger.py")
    good_run(world, 2)
