"""A new control goes on with what an old one left where that is sound, and resets it where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from drp.control.jobs import Settings
from drp.control.states import Partition
from drp.control.takeover import Takeover, snapshot
from drp.core.partition import State
from tests.control.world import World


def left(goal: str) -> tuple[World, dict[str, Any]]:
    """A world whose control has been killed in a state, and what that had kept."""
    world = World(record=True)
    assert world.go(goal) == []
    return world, json.loads(json.dumps(snapshot(world.partition)))


def anew(world: World, kept: dict[str, Any]) -> Takeover:
    """A new control in the same world."""
    ids = iter(range(10**6, 10**7))
    world.partition = Partition(
        Settings("tst-p0", "tst"), world.numbers, lambda: str(next(ids)), epoch=int(kept.get("epoch", 0))
    )
    return Takeover(kept, world.partition, world.now)


def look(world: World, takeover: Takeover, seconds: float = 2.5) -> None:
    for _ in range(round(seconds / 0.1)):
        world.pass_time(0.1)
        takeover.tick(world.now)
        world.collect()
        world.run()


def test_a_run_goes_on_as_it_was() -> None:
    world, kept = left("running")
    takeover = anew(world, kept)
    look(world, takeover)
    assert takeover.taken
    partition = world.partition
    assert (partition.state, partition.run, partition.settings.record, partition.epoch) == (
        State.RUNNING,
        1,
        True,
        1,
    )
    assert [one.key for one in world.of("cam_0").sent][-1] == "enable"
    assert world.go("configured") == []
    assert world.accounts[-1].account.closes
    assert world.go("running") == []
    assert world.partition.run == 2


def test_it_goes_on_without_those_that_were_gone_before() -> None:
    world = World(record=True)
    world.go("running")
    world.die(world.of("cam_1"))
    world.pass_time(1.5)
    kept = json.loads(json.dumps(snapshot(world.partition)))
    takeover = anew(world, kept)
    look(world, takeover)
    assert takeover.taken
    assert world.go("configured") == []
    assert world.accounts[-1].account.gone == ("cam_1",)


def change(name: str, value: object) -> Callable[[World, dict[str, Any]], None]:
    return lambda _world, kept: kept.update({name: value})


def one_died(world: World, _kept: dict[str, Any]) -> None:
    world.of("cam_1").alive = False


def one_is_elsewhere(world: World, _kept: dict[str, Any]) -> None:
    world.of("cam_1").state = "paused"


def one_was_restarted(world: World, _kept: dict[str, Any]) -> None:
    world.of("cam_1").alive = False
    world.join("drp cam_1")


@pytest.mark.parametrize(
    "spoil",
    [
        change("busy", "disable"),
        change("broken", "timing ts is gone"),
        change("state", "flying"),
        one_died,
        one_is_elsewhere,
        one_was_restarted,
    ],
)
def test_what_is_not_sound_is_reset(spoil: Callable[[World, dict[str, Any]], None]) -> None:
    world, kept = left("running")
    spoil(world, kept)
    takeover = anew(world, kept)
    look(world, takeover)
    assert takeover.over
    assert not takeover.taken
    assert world.partition.state is State.RESET
    assert {one.state for one in world.others.values() if one.alive} == {"unallocated"}
    assert world.partition.settings.record, "what the user had set stays"
    if not world.of("cam_1").alive:
        world.join("drp cam_1")
    assert world.go("running") == []
    assert world.partition.epoch == 2


def test_nothing_is_looked_for_where_nothing_was_left() -> None:
    for kept in ({}, left("unallocated")[1]):
        assert anew(World(), kept).over
