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
