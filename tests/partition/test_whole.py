"""A whole partition of real processes: control, timing, drps with different scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.partition import PLAIN, WORDS, World, partition


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with partition(tmp_path) as made:
        yield made


def test_two_detectors_record_what_was_triggered_and_the_slow_one_every_tenth_event(world: World) -> None:
    world.lead()
    world.timing("--rate", 1000, "--group", "1:/10", "-n", 500)
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"), "--group", 1)
    world.run(1, 500)
    assert len(world.triggered(1)) == 500
    assert world.recorded(1, 0) == world.triggered(1)
    assert world.recorded(1, 1) == world.triggered(1, 1) == world.triggered(1)[::10]
    world.go("unallocated")
