"""Which pulses fire: rates, groups, codes, credit and dead time, by example and by a machine that does everything in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drp.core import beam, wire
from drp.core.errors import ConfigError, OrderError
from drp.core.transitions import RunState, path_to
from drp.core.triggering import Cadence, Triggering, TriggerPlan
from xtc import TransitionId

NOW = beam.ORIGIN_NS + 12_345_678_901
MS, S = 1_000_000, 1_000_000_000
PLENTY = 1 << 40
START = (TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable)


def running(
    plan: TriggerPlan, members: dict[int, int], credit: int = PLENTY, now_ns: int = NOW
) -> Triggering:
    made = Triggering(plan, members)
    for service in START:
        made.insert(service, now_ns)
    for drp in members:
        made.grant(drp, credit, now_ns)
    return made


def groups_of(events: np.ndarray) -> list[int]:
    return [int(env) & wire.GROUPS_MASK for env in events["env"]]


def codes_of(event: np.void) -> set[int]:
    bits = np.unpackbits(event["event_codes"].view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def test_a_second_at_1_khz_gives_1000_events_and_a_slow_group_every_tenth():
    fast = running(TriggerPlan(groups={2: Cadence.parse("/10", 1000, "", of_events=True)}), {0: 0, 1: 2})
    groups = [one for ms in range(0, 1000, 7) for one in groups_of(fast.fire(NOW + ms * MS))]
    assert 990 <= len(groups) <= 1001
    assert groups == [5 if n % 10 == 0 else 1 for n in range(len(groups))]


def test_pulse_ids_are_real_time_on_the_same_grid_after_a_restart():
    first = running(TriggerPlan(), {0: 0}).fire(NOW + 50 * MS)["pulse_id"]
    again = running(TriggerPlan(), {0: 0}, now_ns=NOW + 17 * MS).fire(NOW + 50 * MS)["pulse_id"]
    assert set(again.tolist()) <= set(first.tolist())
    times = [beam.time_ns(int(pulse)) for pulse in first]
    assert times[0] > NOW
    assert times[-1] <= NOW + 50 * MS < times[-1] + 1.01 * MS


def test_a_busy_drp_inhibits_its_own_group_alone_and_is_named():
    some = running(TriggerPlan(), {0: 0, 1: 2, 2: 2})
    some.members[1].granted = 3
    groups = groups_of(some.fire(NOW + 10 * MS))
    assert groups == [5] * 3 + [1] * (len(groups) - 3)
    assert some.groups[2].inhibited == some.members[1].inhibited == len(groups) - 3
    assert some.groups[0].inhibited == some.members[0].inhibited == some.members[2].inhibited == 0


def test_what_nobody_can_take_is_no_event():
    none = running(TriggerPlan(), {0: 0}, credit=2)
    assert len(none.fire(NOW + 10 * MS)) == 2
    assert len(none.fire(NOW + 20 * MS)) == 0
    assert none.events == 2
    assert none.members[0].inhibited == none.groups[0].inhibited == none.groups[0].due - 2


def test_dead_time_is_the_time_without_credit():
    one = running(TriggerPlan(), {0: 0}, credit=2)
    one.fire(NOW + 10 * MS)
    one.grant(0, 1000, NOW + 40 * MS)
    one.fire(NOW + 50 * MS)
    one.settle(NOW + 50 * MS)
    assert one.members[0].dead_ns == 30 * MS
    assert one.enabled_ns == 50 * MS


def test_transitions_get_through_without_any_credit_and_a_slow_update_waits():
    dead = running(TriggerPlan(slow_hz=1), {0: 0}, credit=0)
    dead.fire(NOW + 2 * S)
    assert dead.slow_update(NOW + 2 * S) is None
    disable = dead.insert(TransitionId.Disable, NOW + 2 * S)
    assert disable["env"][0] >> 24 == TransitionId.Disable
    assert dead.slow_update(NOW + 3 * S) is None


def test_slow_updates_come_at_their_rate_and_only_while_the_run_is_enabled():
    one = running(TriggerPlan(slow_hz=10), {0: 0})
    stamps = []
    for ms in range(0, 1001, 5):
        if (record := one.slow_update(NOW + ms * MS)) is not None:
            stamps.append(int(record["pulse_id"][0]))
        one.fire(NOW + ms * MS)
    assert len(stamps) == 10
    one.insert(TransitionId.Disable, NOW + 1001 * MS)
    assert one.slow_update(NOW + 5 * S) is None


def test_event_codes_come_by_pulse_whatever_is_inhibited():
    plan = TriggerPlan(codes={40: Cadence(), 42: Cadence.parse("/10", None, ""), 287: Cadence(10, 3)})
    one = running(plan, {0: 0}, credit=25)
    events = one.fire(NOW + 20 * MS)
    numbers = events["pulse_id"] // np.uint64(929)
    for event, number in zip(events, numbers.tolist(), strict=True):
        assert codes_of(event) == {40} | ({42} if number % 10 == 0 else set()) | (
            {287} if number % 10 == 3 else set()
        )
    assert (events["beam"] == 0x80).all()


def test_keep_raw_is_asked_for_every_nth_event_of_its_group():
    plan = TriggerPlan(keep_raw={0: Cadence.parse("/4", 1000, "", of_events=True)})
    one = running(plan, {0: 0})
    kept = [
        bool(env & wire.KEEP_RAW)
        for ms in range(0, 100, 3)
        for env in one.fire(NOW + ms * MS)["env"].tolist()
    ]
    assert kept == [n % 4 == 0 for n in range(len(kept))]


def test_flat_out_all_credit_is_used_and_nothing_is_inhibited():
    plan = TriggerPlan(rate_hz=None, groups={1: Cadence(3, 0, of_events=True)})
    one = running(plan, {0: 0, 1: 1}, credit=0)
    one.grant(0, 100, NOW)
    one.grant(1, 2, NOW)
    groups = groups_of(one.fire(NOW + S))
    assert groups == [3, 1, 1, 3, 1, 1]  # the next would be the slow group's
    one.grant(1, 3, NOW + S)
    assert groups_of(one.fire(NOW + 2 * S)) == [3, 1, 1]
    assert all(counts.inhibited == 0 for counts in one.groups.values())


def test_a_limit_of_events_is_met_exactly():
    one = running(TriggerPlan(), {0: 0})
    one.limit(7)
    assert len(one.fire(NOW + 3 * MS)) + len(one.fire(NOW + 100 * MS)) == 7
    assert one.done
    assert one.next_ns() is None


def test_who_slept_skips_what_it_missed_and_no_drp_is_blamed():
    one = running(TriggerPlan(), {0: 0})
    assert len(one.fire(NOW + 10 * S)) == 200
    assert one.skipped == pytest.approx(9800, abs=20)
    assert one.groups[0].inhibited == 0


def test_a_gone_drp_inhibits_nobody():
    one = running(TriggerPlan(), {0: 0, 1: 0}, credit=3)
    one.grant(0, PLENTY, NOW)
    one.fire(NOW + 10 * MS)
    one.gone(1)
    assert len(one.fire(NOW + 20 * MS)) > 5


@pytest.mark.parametrize("text", ["", "/0", "x", "/3+", "3000", "0", "nan", "300"])
def test_a_cadence_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError):
        Cadence.parse(text, 1000, "--group")


def test_a_plan_that_cannot_be_is_refused():
    for wrong in (
        {"rate_hz": 1e6},
        {"slow_hz": 2},
        {"codes": {288: Cadence()}},
        {"groups": {8: Cadence()}},
        {"groups": {0: Cadence(of_events=True)}},
        {"destination": 128},
    ):
        with pytest.raises(ConfigError):
            TriggerPlan(**wrong)


MEMBERS = {0: 0, 1: 0, 2: 1, 3: 2}


class Partition(RuleBasedStateMachine):
    """Credit, time, transitions and deaths in any order."""

    def __init__(self) -> None:
        super().__init__()
        plan = TriggerPlan(groups={1: Cadence(5, 1), 2: Cadence(3, 0, of_events=True)}, slow_hz=10)
        self.core = Triggering(plan, MEMBERS)
        self.now = NOW
        self.last = 0
        self.state = RunState.UNCONFIGURED
        self.common = 0
        self.slow_of_common: list[int] = []
        self.seen = dict.fromkeys(MEMBERS, 0)
        self.granted = dict.fromkeys(MEMBERS, 0)

    def take(self, records: np.ndarray) -> None:
        for record in records:
            assert int(record["pulse_id"]) > self.last
            assert beam.time_ns(int(record["pulse_id"])) <= self.now + MS
            assert record["timestamp"] == beam.timestamp(int(record["pulse_id"]))
            self.last = int(record["pulse_id"])

    @rule(ms=st.floats(0, 300))
    def time_passes(self, ms):
        self.now += int(ms * MS)
        slow = self.core.slow_update(self.now)
        if slow is not None:
            assert self.state is RunState.RUNNING
            self.take(slow)
        events = self.core.fire(self.now)
        assert self.state is RunState.RUNNING or not len(events)
        self.take(events)
        for env in groups_of(events):
            assert env
            for drp, group in MEMBERS.items():
                self.seen[drp] += drp in self.core.members and env >> group & 1
            if env & 4:
                assert env & 1
                assert self.common % 3 == 0
            self.common += env & 1

    @rule(drp=st.sampled_from(list(MEMBERS)), more=st.integers(0, 400))
    def credit(self, drp, more):
        if drp in self.core.members:
            self.granted[drp] = max(self.granted[drp], self.seen[drp] + more)
        self.core.grant(drp, self.seen[drp] + more, self.now)

    @rule(goal=st.sampled_from(list(RunState)))
    def walk(self, goal):
        row = path_to(self.state, goal)
        if row is None:
            row = (TransitionId.Configure, *(path_to(RunState.CONFIGURED, goal) or ()))
        for service in row:
            self.take(self.core.insert(service, self.now))
            if service == TransitionId.BeginRun:
                self.common = 0
        self.state = goal

    @precondition(lambda self: self.state is not RunState.RUNNING)
    @rule()
    def refuse(self):
        with pytest.raises(OrderError):
            self.core.insert(TransitionId.Disable, self.now)

    @rule()
    def one_dies(self):
        self.core.gone(1)

    @invariant()
    def counts_close(self):
        for counts in self.core.groups.values():
            assert counts.due == counts.fired + counts.inhibited
        for drp, member in self.core.members.items():
            assert self.seen[drp] == member.sent <= self.granted[drp]
            assert member.inhibited <= self.core.groups[member.group].inhibited


TestPartition = Partition.TestCase
TestPartition.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
