"""What a user adds to transitions, and who is waited for before the partition begins anew."""

from __future__ import annotations

from typing import Any

import pytest

from drp.core.partition import State
from tests.control.world import World


@pytest.mark.parametrize(
    ("own", "failure"),
    [
        (
            {"cam_9": {"script": ["a.py"]}},
            "control: no member of the partition is called 'cam_9' (did you mean cam_1 or cam_0?)",
        ),
        ({"cam_0": {"scrip": ["a.py"]}}, "control: cam_0 cannot be told 'scrip' (did you mean script?)"),
    ],
)
def test_what_is_added_for_nobody_is_refused(own: dict[str, Any], failure: str) -> None:
    world = World()
    assert world.go("running", {"configure": {"members": own}}) == [failure]
    assert world.partition.state is State.CONNECTED


def test_what_is_added_to_a_transition_that_is_not_made_is_said() -> None:
    world = World()
    world.go("configured")
    job = world.ask_state("configured", {"configure": {"script": ["a.py"]}})
    assert world.done[job].warnings == (
        "configure is not made on the way from configured to configured: what is added to it is not used",
    )


@pytest.mark.parametrize("comes", [True, False])
def test_who_comes_a_moment_after_timing_is_waited_for(comes: bool) -> None:
    world = World("timing ts", "drp cam_0", "drp ts")
    world.go("running")
    for one in tuple(world.others.values()):
        if one.alias == "ts":
            world.die(one)
    world.pass_time(1.5)
    job = world.ask_state("running")
    world.run()
    world.pass_time(10.0)
    world.join("timing ts")
    world.pass_time(2.0)
    world.run()
    assert world.partition.awaited == ["drp ts: it took part before, and is not there yet"]
    if comes:
        world.join("drp ts")
    world.pass_time(0.2 if comes else 3.5)
    world.run()
    assert world.failures(job) == []
    assert world.done[job].warnings == (() if comes else ("drp ts took part before, and does not now",))
    assert ("drp ts" in world.partition.took_part) == comes
