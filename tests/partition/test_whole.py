"""A whole partition of real processes: control, timing, a teb with its script, drps with different scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.partition import PLAIN, WORDS, World, partition

TRIGGER = f"{ROOT}/fex_scripts/hit_trigger.py --word npeaks --at-least 20 --keep-every 50"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_two_detectors_record_what_was_triggered_and_the_slow_one_every_tenth_event(world: World) -> None:
    world.timing("--rate", 1000, "--group", "1:/10", "-n", 500)
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"), "--group", 1)
    world.lead()
    world.run(1, 500)
    assert len(world.triggered(1)) == 500
    assert world.recorded(1, 0) == world.triggered(1)
    assert world.recorded(1, 1) == world.triggered(1, 1) == world.triggered(1)[::10]
    world.go("unallocated")


@pytest.mark.slow
def test_a_script_that_fails_at_configure_is_undone_at_once_and_the_mended_one_runs(world: World) -> None:
    world.member("teb0", "teb", "-p", TRIGGER)
    world.timing("--rate", 1000, "-n", 200)
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script("no_such_name\n", "plain.py"))
    world.lead()
    world.go("connected")
    with world.daq() as daq:
        other = {"configure": {"members": {"epixhr_1": {"script": ["nosuch.py"]}}}}
        assert "there is no such script" in str(daq.setState("configured", other))
        assert daq.getState() == "connected"
        wrong = str(daq.setState("configured"))
        assert "no_such_name" in wrong and "worker 0" in wrong and "epixhr_1" in wrong
        assert "undoing" not in wrong
        assert daq.getState() == "connected"
    world.script(PLAIN, "plain.py")
    world.run(1, 200)
    assert world.recorded(1, 0) == world.recorded(1, 1)
    assert world.ledger(1)["closes"]


@pytest.mark.slow
def test_a_script_that_fails_at_begin_run_is_told_of_and_the_partition_comes_back(world: World) -> None:
    world.timing("--rate", 1000, "-n", 200)
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script(PLAIN.replace("    det", "    no_such_name\n    det"), "plain.py"))
    world.lead()
    world.go("configured")
    with world.daq() as daq:
        wrong = str(daq.setState("running"))
        assert "no_such_name" in wrong and "epixhr_1" in wrong and "undoing" not in wrong
        assert daq.getState() == "connected"
    world.script(PLAIN, "plain.py")
    world.run(2, 200)
    assert world.recorded(2, 0) == world.recorded(2, 1)


def test_all_files_keep_the_events_that_the_trigger_script_says_and_prescaled_ones_whole(
    world: World,
) -> None:
    world.member("teb0", "teb", "-p", TRIGGER)
    world.timing("--rate", 1000, "-n", 1000)
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"))
    world.lead()
    world.run(1, 1000)
    triggered = world.triggered(1)
    hits = {one for one in triggered if one // 977 % 40 >= 20}
    prescaled = set(triggered[::50])
    assert set(world.recorded(1, 0)) == hits | prescaled
    assert world.recorded(1, 0) == world.recorded(1, 1)
    # fex, trigger words, drpinfo; and raw data
    whole = {one.timestamp for one in world.events(1, 0) if len(one.shapes_data()) == 4}
    assert whole == prescaled - hits
    ledger = world.ledger(1)
    assert ledger["closes"], ledger
