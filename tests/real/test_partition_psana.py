"""Real psana on what a whole partition has recorded: it builds the events of all streams, by their smalldata files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import Psana
from tests.support.partition import EXPERIMENT, PLAIN, partition

pytestmark = pytest.mark.real


def test_psana_builds_the_events_of_two_groups_with_no_missing_part(
    psana: Psana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as world:
        world.timing("--rate", 1000, "--group", "1:/10", "-n", 500)
        world.drp("epixhr_0", world.script(PLAIN))
        world.drp("epixhr_1", world.script(PLAIN))
        world.drp("slow_0", world.script(PLAIN), "--group", 1)
        world.lead()
        world.run(1, 500)
    folder = next(world.out.rglob("*-s000-c000.xtc2")).parent
    (run,) = psana.run(EXPERIMENT, 1, folder, "epixhr")
    assert [event["timestamp"] for event in run["events"]] == world.triggered(1)
    assert {tuple(event["raw"]["epixhr"]["shape"]) for event in run["events"]} == {(2, 144, 768)}
    slow = [number for number, event in enumerate(run["events"]) if event["streams"][2] is not None]
    assert slow == list(range(0, 500, 10))
    assert all(event["streams"][0] and event["streams"][1] for event in run["events"])
