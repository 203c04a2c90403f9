"""Members that answer, fail, are silent, die, answer twice and answer nonsense, in any order: every job ends, names who failed, and a good run follows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drp.control.move import Limits
from drp.core.partition import STEPS, TABLE, State
from tests.control.world import Other, World

NAMES = ("timing ts", "drp cam_0", "drp cam_1", "teb teb0", "meb meb0")
LIMITS = Limits(dict.fromkeys(STEPS, 3.0) | {"reset": 3.0}, 4.0)
MOST_S = 150
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["err_info", "connect_info", "pulse_id", "service", "state", "det_info", "x"]),
            inner,
        )
    ),
    max_leaves=5,
)
BODIES = st.dictionaries(
    st.sampled_from(
        [
            "err_info",
            "connect_info",
            "pulse_id",
            "service",
            "ledger",
            "counts",
            "error",
            "files",
            "level",
            "state",
            "x",
        ]
    ),
    JUNK,
)


class Partitions(RuleBasedStateMachine):
    """Drives a partition with members of every temper."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*NAMES, limits=LIMITS, record=True)
        self.jobs: dict[int, State | None] = {}

    def some(self, draw_from: st.DataObject, others: list[Other]) -> Other:
        return draw_from.draw(st.sampled_from(others))

    @property
    def asked(self) -> list[Other]:
        return [one for one in self.world.others.values() if one.inbox]

    @property
    def living(self) -> list[Other]:
        return [one for one in self.world.others.values() if one.alive]

    @rule(goal=st.sampled_from(list(State)))
    def ask_state(self, goal: State) -> None:
        self.jobs[self.world.ask_state(goal)] = goal

    @rule(key=st.sampled_from([*STEPS, "reset"]))
    def ask_transition(self, key: str) -> None:
        self.jobs[self.world.ask(key)] = None

    @rule()
    def all_do_as_they_are_told(self) -> None:
        self.world.run()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def one_answers(self, data: st.DataObject) -> None:
        self.world.answer(self.some(data, self.asked))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def one_answers_twice(self, data: st.DataObject) -> None:
        other = self.some(data, self.asked)
        sent = self.world.answer(other)
        self.world.say(other, sent.key, {"err_info": {"what": "twice"}}, sent.msg_id)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def one_fails(self, data: st.DataObject) -> None:
        other = self.some(data, self.asked)
        move = self.world.partition._move
        awaited = move is not None and other.inbox[0].msg_id in move._asked
        self.world.answer(other, {"err_info": {"what": f"{other.alias} cannot"}})
        if move is not None and awaited:
            assert any(f"{other.alias} cannot" in one.what for one in move.failures)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def one_never_answers(self, data: st.DataObject) -> None:
        self.some(data, self.asked).inbox.popleft()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), body=BODIES, key=st.sampled_from(["", "configure", "x"]))
    def one_answers_junk(self, data: st.DataObject, body: dict[str, Any], key: str) -> None:
        self.world.answer(self.some(data, self.asked), body, key)

    @precondition(lambda self: self.living)
    @rule(
        data=st.data(),
        body=BODIES,
        key=st.sampled_from(["heartbeat", "timingTransition", "error", "fileReport", "configure", "x"]),
    )
    def one_says_junk(self, data: st.DataObject, body: dict[str, Any], key: str) -> None:
        other = self.some(data, self.living)
        self.world.say(other, key, body)
        self.world.partition.nonsense(other.uid, "no JSON", self.world.now)
        self.world.collect()

    @precondition(lambda self: any(one.due for one in self.living))
    @rule(data=st.data(), fails=st.booleans())
    def one_reports(self, data: st.DataObject, fails: bool) -> None:
        other = self.some(data, [one for one in self.living if one.due])
        self.world.report(other, **({"error": {"what": "the script raised"}} if fails else {}))

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def one_dies(self, data: st.DataObject) -> None:
        self.world.die(self.some(data, self.living))

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def one_is_silent_or_heard_again(self, data: st.DataObject) -> None:
        other = self.some(data, self.living)
        other.hears = not other.hears

    @rule(name=st.sampled_from(NAMES))
    def one_comes(self, name: str) -> None:
        self.world.join(name)

    @rule(tenths=st.integers(1, 25))
    def time_passes(self, tenths: int) -> None:
        self.world.pass_time(tenths / 10)

    @invariant()
    def the_state_is_one_of_the_table(self) -> None:
        assert self.world.partition.state in (*(state for state, _ in TABLE), State.RESET)

    @invariant()
    def epochs_rise(self) -> None:
        told = [
            one.body["epoch"]
            for other in self.world.others.values()
            for one in other.sent
            if one.key == "configure"
        ]
        assert not told or max(told) == self.world.partition.epoch

    @invariant()
    def what_was_done_in_full_is_where_it_was_asked_to_be(self) -> None:
        for job in [job for job in self.jobs if job in self.world.done]:
            goal = self.jobs.pop(job)
            if goal is not None and not self.world.done[job].failures and not self.world.partition.busy:
                assert self.world.partition.state is goal

    @invariant()
    def nobody_is_asked_forward_after_a_failure(self) -> None:
        """Timing inserts what leads forward only where all had answered."""
        move = self.world.partition._move
        if move is not None and move.forward and move.phase == "insertion":
            assert not move.failures

    def teardown(self) -> None:
        """Whatever happened: within the limits everything ends, and those who are there make a good run."""
        world = self.world
        for other in world.others.values():
            other.inbox.clear()
        for _ in range(MOST_S):
            if not world.partition.busy:
                break
            world.pass_time(1.0)
        assert not world.partition.busy
        assert set(self.jobs) <= set(world.done), "every job is over"
        for other in self.living:
            other.hears = True
            other.due.clear()
        world.pass_time(3.0)
        for name in NAMES:
            if not any(
                f"{one.level} {one.alias}" == name and world.partition.members.get(one.uid)
                for one in self.living
            ):
                world.join(name)
        assert world.go("reset") == []
        assert world.go("running") == []
        assert len(world.partition.active) == len(NAMES)
        assert world.go("unallocated") == []
        assert world.accounts[-1].account.closes


@pytest.mark.timeout(60)
class TestPartitions(Partitions.TestCase):
    """A few of them."""

    settings = settings(
        max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestPartitionsAtLength(Partitions.TestCase):
    """Many, for longer."""

    settings = settings(
        max_examples=500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
