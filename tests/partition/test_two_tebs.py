"""A partition with two tebs: every event is decided on by one of them, and the other goes on when one dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.partition import PLAIN, WORDS, World, partition

pytestmark = pytest.mark.slow
TRIGGER = f"{ROOT}/fex_scripts/hit_trigger.py --word npeaks --at-least 20 --keep-every 0"
EVENTS = 1500
SOME = 300
PULSES_OF_ONE_TEB = 64


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        for name in ("teb0", "teb1"):
            made.member(name, "teb", "-p", TRIGGER, "--eb-timeout", 2, "--event-timeout", 1)
        made.timing("--rate", 1000, "-n", EVENTS)
        made.drp("epixhr_0", made.script(WORDS), "--event-timeout", 1)
        made.drp("epixhr_1", made.script(PLAIN, "plain.py"), "--event-timeout", 1)
        made.lead()
        yield made


def hits(world: World, run: int) -> list[int]:
    return [one for one in world.triggered(run) if one // 977 % 40 >= 20]


def test_each_event_is_decided_on_by_one_of_them(world: World) -> None:
    world.run(1, EVENTS)
    assert world.recorded(1, 0) == world.recorded(1, 1) == hits(world, 1)
    ledger = world.ledger(1)
    assert ledger["closes"], ledger
    of_first = world.journal(1)["pulse_id"] // PULSES_OF_ONE_TEB % 2 == 0
    assert 0.2 < of_first.mean() < 0.8


def test_when_one_dies_its_events_are_kept_and_the_others_decided_on(world: World) -> None:
    world.go("running")
    world.until(lambda: len(world.triggered(1)) >= SOME, "the first events")
    world.kill("teb1")
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    with world.daq() as daq:
        daq.setState("configured", {})
    recorded = [set(world.recorded(1, stream)) for stream in (0, 1)]
    triggers = world.journal(1)
    late = triggers["timestamp"] > triggers["timestamp"][-SOME]
    seconds = triggers["pulse_id"] // PULSES_OF_ONE_TEB % 2 == 1
    events = triggers["env"] >> 24 & 0xF == 12
    assert set(triggers["timestamp"][events & late & seconds].tolist()) <= recorded[0] & recorded[1]
    decided = [one for one in triggers["timestamp"][events & late & ~seconds].tolist()]
    assert {one for one in decided if one in recorded[0]} == {one for one in decided if one // 977 % 40 >= 20}
    assert all(one["total"] == EVENTS for one in world.ledger(1)["drps"].values())
    world.again("teb1")
    world.go("reset")
    world.run(2, EVENTS)
    assert world.recorded(2, 0) == world.recorded(2, 1) == hits(world, 2)
    assert world.ledger(2)["closes"]
