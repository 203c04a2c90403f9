"""kill -9 of control and of the meb while a run goes on: it is named, the run's ledger closes, and the next run is a good one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.partition import PLAIN, WORDS, World, partition

TRIGGER = f"{ROOT}/fex_scripts/hit_trigger.py --word npeaks --at-least 20 --keep-every 50"

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        yield made


def check_run(world: World, number: int, before: int = 0) -> None:
    """Both files have what was triggered and kept, every 50th too, and the ledger closes. `before`: events of earlier runs of the Configure."""
    triggered = world.triggered(number)
    hits = {one for one in triggered if one // 977 % 40 >= 20}
    assert set(world.recorded(number, 0)) == hits | set(triggered[-before % 50 :: 50])
    assert world.recorded(number, 0) == world.recorded(number, 1)
    ledger = world.ledger(number)
    assert ledger["closes"], ledger


def start(world: World, *others: tuple[str, ...]) -> None:
    world.member("teb0", "teb", "-p", TRIGGER)
    for one in others:
        world.member(*one)
    world.timing("--rate", 1000)
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"))
    world.lead()


def running(world: World, number: int, events: int) -> None:
    world.until(lambda: len(world.triggered(number)) >= events, f"{events} events of run {number}")


def test_control_killed_in_a_run_takes_it_over_when_it_is_there_again(world: World) -> None:
    start(world)
    world.go("running")
    running(world, 1, 300)
    world.kill("control")
    running(world, 1, len(world.triggered(1)) + 300)
    world.again("control")
    world.go("configured")
    check_run(world, 1)
    world.run(2, 300)
    check_run(world, 2, before=len(world.triggered(1)))


def test_a_meb_killed_in_a_run_costs_nothing_but_its_events(world: World) -> None:
    start(world, ("meb0", "meb"))
    world.go("running")
    running(world, 1, 300)
    world.kill("meb0")
    running(world, 1, len(world.triggered(1)) + 300)
    world.until(lambda: "meb0" in world.log("control"), "control to name the meb")
    world.go("configured")
    check_run(world, 1)
    world.again("meb0")
    world.go("reset")
    world.run(2, 300)
    check_run(world, 2)
