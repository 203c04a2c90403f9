"""The event builder beside a plain one, driven by hypothesis: loss, delay, reordering, repetition, jumps of a clock, contributors that go and come back.

Whatever is said, both do the same, and what is promised holds: every contribution has one fate and one verdict, no event is built twice while it
is remembered, pulse ids rise or the event says that they do not, and the table does not grow.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_builder import OUT_OF_ORDER, Event, PlainBuilder, Said

from drp.core import wire
from drp.core._builder import EventBuilder
from drp.core.batch import EventFlag
from drp.core.building import Batch, Transition

TIMEOUT, TRANSITION_TIMEOUT = 100, 400
L1, SLOW, DISABLE = 12, 10, 9
GROUPS = {5: 0, 0: 0, 63: 1, 17: 1}
FAR = 1 << 40
IDS = st.sampled_from(list(GROUPS))


class Partition(RuleBasedStateMachine):
    @initialize(
        n=st.integers(1, 4),
        window=st.sampled_from([1, 8, 8, 20]),
        max_events=st.sampled_from([1, 5, 64, 64]),
        first=st.sampled_from([0, 1, 1 << 63]),
    )
    def start(self, n: int, window: int, max_events: int, first: int) -> None:
        self.groups = dict(list(GROUPS.items())[:n])
        self.ids = list(self.groups)
        self.plain = PlainBuilder(self.groups, TIMEOUT, TRANSITION_TIMEOUT, window, max_events)
        self.real = EventBuilder(self.groups, TIMEOUT, TRANSITION_TIMEOUT, window, max_events)
        self.window, self.max_events = window, max_events
        self.now = 1000
        self.pulse = first
        self.seq = 0
        self.queues: dict[int, list[Said]] = {one: [] for one in self.ids}
        self.said: dict[int, list[Said]] = {one: [] for one in self.ids}
        self.open_seqs: dict[int, set[int]] = {one: set() for one in self.ids}
        self.built: set[tuple[int, bool]] = set()
        self.last_built = (-1, False)
        self.strides = dict.fromkeys(self.ids, 32)

    def some(self, number: int) -> int:
        return self.ids[list(GROUPS).index(number) % len(self.ids)]

    @rule(
        env=st.sampled_from([1, 2, 3, 3, 3]),
        n=st.integers(1, 4),
        service=st.sampled_from([L1, L1, L1, SLOW, DISABLE]),
        step=st.integers(1, 3),
    )
    def trigger(self, env: int, n: int, service: int, step: int) -> None:
        for _ in range(n):
            self.pulse = min(self.pulse + step, (1 << 64) - 1 - FAR)
            word = env | service << 24
            for one, group in self.groups.items():
                if service != L1 or env >> group & 1:
                    self.queues[one].append(
                        Said(0, self.pulse, self.pulse * 3 % (1 << 64), word, transition=service != L1)
                    )

    @rule(number=IDS, n=st.integers(1, 6))
    def deliver(self, number: int, n: int) -> None:
        one = self.some(number)
        batch, self.queues[one] = self.queues[one][:n], self.queues[one][n:]
        left = self.say(one, batch)
        self.queues[one][:0] = left

    @rule(n=st.integers(1, 6))
    def deliver_all(self, n: int) -> None:
        for one in self.ids:
            self.deliver(list(GROUPS)[self.ids.index(one)], n)

    @rule(number=IDS)
    def lose(self, number: int) -> None:
        del self.queues[self.some(number)][:1]

    @rule(number=IDS)
    def swap(self, number: int) -> None:
        queue = self.queues[self.some(number)]
        queue[:2] = queue[1::-1] if len(queue) > 1 else queue[:2]

    @rule(number=IDS, back=st.integers(1, 5))
    def repeat(self, number: int, back: int) -> None:
        one = self.some(number)
        self.say(one, self.said[one][-back:][:1])

    @rule(number=IDS, by=st.sampled_from([1, 7, FAR, FAR + 1]), n=st.integers(1, 3))
    def jump(self, number: int, by: int, n: int) -> None:
        word = 3 | L1 << 24
        self.say(
            self.some(number),
            [Said(0, self.pulse + by + i, 9, word, damage=8, failed=True) for i in range(n)],
        )

    @rule(number=IDS)
    def go_astray(self, number: int) -> None:
        """A clock jumps and stays there, while the others are at work."""
        one = self.some(number)
        self.jump(number, FAR, 1)
        self.queues[one].clear()
        self.trigger(3, 2, L1, 1)
        for other in set(self.ids) - {one}:
            self.say(other, self.queues[other])
            self.queues[other].clear()
        self.wait(TIMEOUT)
        self.jump(number, FAR + 7, 2)

    @rule(
        number=IDS, env=st.integers(0, (1 << 32) - 1), pulse=st.integers(0, (1 << 64) - 1), near=st.booleans()
    )
    def nonsense(self, number: int, env: int, pulse: int, near: bool) -> None:
        self.say(
            self.some(number),
            [Said(0, self.pulse - pulse % 4 if near and self.pulse > 4 else pulse, env, env)],
        )

    def say(self, one: int, batch: list[Said]) -> list[Said]:
        """Say it in stretches of one kind; returns what there was no room for."""
        while batch:
            part = batch[:1]
            if not batch[0].transition:
                part = batch[: next((i for i, said in enumerate(batch) if said.transition), len(batch))]
            part = [replace(said, seq=self.number()) for said in part]
            taken = self.plain.add(one, part, self.now)
            assert self.add(one, part) == taken
            self.said[one] += part[:taken]
            if not part[0].transition:
                self.open_seqs[one] |= {said.seq for said in part[:taken]}
            batch = batch[taken:]
            if taken < len(part):
                return batch
        return []

    def number(self) -> int:
        self.seq += 1
        return self.seq

    def add(self, one: int, part: list[Said]) -> int:
        stride = self.strides[one]
        raw = np.zeros((len(part), stride), np.uint8)
        records = np.array(
            [
                (said.seq, said.pulse_id, said.timestamp, said.env, said.damage, 2 * said.failed)
                for said in part
            ],
            wire.CONTRIBUTION,
        )
        raw[:, :32] = records.view(np.uint8).reshape(len(part), 32)
        raw[:, 32:] = (records["seq"] % 251).astype(np.uint8)[:, None]
        if part[0].transition:
            return int(self.real.add_transition(one, raw[0, :32].tobytes(), self.now))
        return self.real.add(one, raw.tobytes(), len(part), stride, self.now)

    @rule(number=IDS, stride=st.sampled_from([32, 40, 64]))
    def declare(self, number: int, stride: int) -> None:
        self.strides[self.some(number)] = stride
        self.real.declare(self.some(number), stride)

    @rule(dt=st.sampled_from([1, 30, TIMEOUT, TRANSITION_TIMEOUT]))
    def wait(self, dt: int) -> None:
        self.now += dt
        self.plain.expire(self.now)
        self.real.expire(self.now)

    @rule(limit=st.sampled_from([1, 2, 100]))
    def take(self, limit: int) -> None:
        expected = self.plain.take(limit)
        got = self.real.take(limit)
        if not expected:
            assert got is None
        elif expected[0].transition:
            (event,) = expected
            assert isinstance(got, Transition)
            assert (got.service, got.pulse_id, got.timestamp) == (
                event.env >> 24 & 0xF,
                event.pulse_id,
                event.timestamp,
            )
            assert (set(got.present), set(got.missing)) == (set(event.present), event.missing)
            self.check_order(event)
        else:
            assert isinstance(got, Batch)
            self.check_batch(expected, got)

    def check_batch(self, expected: list[Event], got: Batch) -> None:
        assert len(got.events) == len(expected)
        for k, (row, event) in enumerate(zip(got.events, expected, strict=True)):
            assert (row["number"], row["pulse_id"], row["timestamp"], row["env"]) == (
                event.number,
                event.pulse_id,
                event.timestamp,
                event.env,
            )
            assert self.bits(row["present"]) == set(event.present)
            assert self.bits(row["missing"]) == event.missing
            said = [one for one, _, _ in event.present.values()]
            assert row["damage"] == event.damage | np.bitwise_or.reduce([one.damage for one in said])
            assert row["flags"] == EventFlag.failed * any(one.failed for one in said)
            for i, one in enumerate(self.ids):
                record = got.rows[i][k]
                seq = event.present[one][0].seq if one in event.present else 0
                assert record[:32].view(wire.CONTRIBUTION)["seq"] == seq
                assert set(record[32:].tolist()) <= {0, seq % 251}
            self.check_order(event)

    def check_order(self, event: Event) -> None:
        """Pulse ids rise, or the event says so; none is built twice while there is room to remember it."""
        assert event.damage & OUT_OF_ORDER or event.key > self.last_built
        self.last_built = event.key
        assert event.key not in self.built or self.plain.opened > self.max_events
        self.built.add(event.key)

    def bits(self, mask: int) -> set[int]:
        return {one for i, one in enumerate(self.ids) if int(mask) >> i & 1}

    @precondition(lambda self: self.plain.taken)
    @rule(n=st.integers(1, 4), result=st.integers(0, 31))
    def judge(self, n: int, result: int) -> None:
        n = min(n, len(self.plain.taken))
        for k in range(n):
            self.plain.judge(result + k)
        self.real.judge(np.arange(result, result + n, dtype=np.uint32))

    @rule(number=IDS)
    def collect(self, number: int) -> None:
        one = self.some(number)
        got = np.frombuffer(self.real.verdicts(one), wire.VERDICT)
        assert [tuple(verdict) for verdict in got.tolist()] == self.plain.collect(one)
        for seq in got["seq"].tolist():
            self.open_seqs[one].remove(seq)  # each once

    @rule(number=IDS)
    def gone(self, number: int) -> None:
        self.plain.gone(self.some(number))
        self.real.gone(self.some(number))

    @rule(number=IDS)
    def back(self, number: int) -> None:
        one = self.some(number)
        self.plain.back(one)
        self.real.back(one)
        self.open_seqs[one].clear()

    @invariant()
    def both_count_the_same(self) -> None:
        if not hasattr(self, "real"):
            return
        counts = self.real.counts()
        plain = self.plain
        assert (self.real.n_pending, self.real.n_ready, self.real.n_taken) == (
            len(plain.pending),
            len(plain.ready),
            len(plain.taken),
        )
        assert {name: counts[name] for name in plain.fates} == plain.fates
        assert counts["contributions"] == sum(plain.fates.values())
        names = ("events", "forgotten", "undelivered", "expired")
        assert [counts[name] for name in names] == [getattr(plain, name) for name in names]
        assert len(plain.all()) <= self.max_events
        for one in self.ids:
            assert len(self.open_seqs[one]) <= self.window
            assert self.real.counts_of(one)["astray"] == (plain.who[one].astray_from is not None)

    def teardown(self) -> None:
        """Nobody is left without a verdict, however full the table was."""
        if not hasattr(self, "real"):
            return
        self.wait(TRANSITION_TIMEOUT)
        while self.real.n_ready or self.real.n_taken:
            self.take(100)
            if self.plain.taken:
                self.judge(100, 3)
        for number in GROUPS:
            self.collect(number)
        assert not any(self.open_seqs.values())
        assert self.real.n_pending == 0


Partition.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_builder_does_what_the_plain_one_does = Partition.TestCase


class AtLength(Partition):
    """The same, for longer."""


AtLength.TestCase.settings = settings(
    max_examples=600, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
class TestTheBuilderAtLength(AtLength.TestCase):
    """What is to be found needs many steps."""
