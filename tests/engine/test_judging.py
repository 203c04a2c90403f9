"""What the judge is asked and what comes of its verdicts: the flow turned by hand, and against a model."""

import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from flow_bench import DISABLE, ENABLE, L1, SLOW, Bench, blob_of, fex_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ring_worker import RAISED

from drp.core import wire
from drp.core.ledger import Fate
from drp.shm._block import encode_block

COMMON, OTHER = 2, 4
WORD = struct.Struct("<I")


@dataclass
class Court:
    """A bench whose events are judged, with one worker."""

    bench: Bench
    bell: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))
    alone: bool = False

    def __post_init__(self) -> None:
        self.bench.flow.judge(COMMON, self.bell, self.alone)
        self.bench.flow.set_words(WORD.size)
        self.bench.add_worker(0)
        self.bench.begin()
        self.flow = self.bench.flow

    def close(self) -> None:
        self.bench.close()
        os.close(self.bell)

    def event(self, word: int | None = None, *, groups: int = COMMON, pulse_id: int = 0) -> int:
        """Put one event and have it answered; returns its number. `word` is its trigger word, and a blob of so many bytes the result."""
        seq = self.flow.submit_next
        assert self.bench.put(L1, b"raw", groups=groups, pulse_id=pulse_id)
        self.bench.turn()
        (worker,) = self.bench.workers.values()
        entry = worker.take()
        assert entry and entry.seq == seq
        if word is None:
            worker.answer(seq)
        else:
            adds = [(1, ((word % 50,),), bytes(word % 50)), (0, (), WORD.pack(word))]
            worker.answer(seq, 0, *encode_block(adds=adds, words=True))
        self.bench.turn()
        return seq

    def asked(self) -> np.ndarray:
        taken = self.flow.take_contributions()
        stride = wire.stride_of(WORD.size)
        return wire.records(memoryview(taken), len(taken) // stride, wire.CONTRIBUTION, stride)

    def rule(
        self, *verdicts: tuple[int, int], damage: int = 0, pulse_id: int = 0, decided: bool = True
    ) -> int:
        """Give verdicts, (number, result) each; returns how many were believed."""
        records = [(seq, pulse_id, result, damage, 0) for seq, result in verdicts]
        return self.flow.give_verdicts(np.array(records, wire.VERDICT), decided)

    def recorded(self) -> list[bytes]:
        while self.flow.record_turn():
            pass
        return [one for one in self.bench.dgrams() if one[11] & 15 == L1]

    def fates(self) -> dict[str, int]:
        return {fate.name: n for fate, n in zip(Fate, self.flow.counts()["fates"], strict=True) if n}


@pytest.fixture
def court() -> Iterator[Court]:
    made = Court(Bench(trigger=0))
    yield made
    made.close()


def test_an_event_waits_for_its_verdict_and_is_recorded_or_not(court: Court) -> None:
    kept, dropped = court.event(7), court.event(8)
    assert court.recorded() == []
    assert court.asked()["seq"].tolist() == [kept, dropped]
    assert court.recorded() == []
    free = court.flow.load()["slots_used"]
    assert court.rule((dropped, 0)) == 1
    assert court.recorded() == []
    assert court.rule((kept, wire.PERSIST)) == 1
    (record,) = court.recorded()
    assert WORD.unpack_from(record, fex_data(record) + 12) == (7,)
    assert court.fates() == {"recorded_verdict": 1, "filtered": 1}
    assert court.flow.load()["slots_used"] == free - 2


def test_a_contribution_is_the_event_its_damage_and_its_words(court: Court) -> None:
    first, second = court.event(9, pulse_id=70), court.event(None, pulse_id=80)
    taken = court.flow.take_contributions()
    stride = wire.stride_of(WORD.size)
    assert len(taken) == 2 * stride == 2 * 40
    one, two = wire.records(memoryview(taken), 2, wire.CONTRIBUTION, stride).tolist()
    assert one == (first, 70, court.bench.time - 1, L1 << 24 | COMMON, 0, wire.Contributed.words)
    assert two == (second, 80, court.bench.time, L1 << 24 | COMMON, 0, 0)
    assert taken[32:40] == WORD.pack(9) + bytes(4)
    assert taken[stride + 32 :] == bytes(8)


def test_an_event_whose_script_failed_says_so(court: Court) -> None:
    court.bench.put(L1, b"raw", groups=COMMON)
    court.bench.turn()
    (worker,) = court.bench.workers.values()
    entry = worker.take()
    assert entry is not None
    worker.answer(entry.seq, RAISED)
    court.bench.turn()
    (asked,) = court.asked()
    assert asked["flags"] == wire.Contributed.failed
    assert asked["damage"] == 1 << 12


def test_prescale_alone_keeps_what_the_script_removed(court: Court) -> None:
    flow = court.flow
    raw = struct.pack("<IHHI", 77, 0, 1, 12 + 8) + b"original"
    sent = struct.pack("<QIIHHI", 900, L1 << 24 | COMMON, 0, 0, 0, 12 + len(raw)) + raw
    seqs = []
    for stamp in (900, 901, 902):
        seqs.append(flow.submit_next)
        assert court.bench.batch.put(struct.pack("<Q", stamp) + sent[8:])
        flow.hand_in(court.bench.batch, 0, 0)
        court.bench.turn()
        (worker,) = court.bench.workers.values()
        entry = worker.take()
        assert entry is not None
        worker.answer(entry.seq, 0, *encode_block(drops=[77], adds=[(0, (), WORD.pack(3))], words=True))
        court.bench.turn()
    court.asked()
    results = (wire.PRESCALE, wire.PERSIST, wire.PERSIST | wire.PRESCALE)
    court.rule(*zip(seqs, results, strict=True))
    prescaled, kept, both = court.recorded()
    assert b"original" in prescaled and b"original" not in kept and b"original" not in both
    assert all(fex_data(one) for one in (prescaled, kept, both))
    assert court.fates() == {"recorded_prescale": 1, "recorded_verdict": 2}


def test_what_does_not_fit_beside_raw_that_prescale_keeps_is_left_out() -> None:
    court = Court(Bench(trigger=0, bound=200))
    raw = struct.pack("<IHHI", 77, 0, 1, 12 + 120) + bytes(120)
    for stamp in (900, 901):
        dgram = struct.pack("<QIIHHI", stamp, L1 << 24 | COMMON, 0, 0, 0, 12 + len(raw)) + raw
        assert court.bench.batch.put(dgram)
        court.flow.hand_in(court.bench.batch, 0, 0)
        court.bench.turn()
        (worker,) = court.bench.workers.values()
        entry = worker.take()
        assert entry is not None
        worker.answer(entry.seq, 0, *encode_block(drops=[77], adds=[(1, ((60,),), bytes(60))]))
        court.bench.turn()
    first, second = court.asked()["seq"].tolist()
    court.rule((first, wire.PRESCALE), (second, wire.PERSIST))
    prescaled, kept = court.recorded()
    assert len(prescaled) == 24 + 132 and struct.unpack_from("<H", prescaled, 16) == (0x4001,)
    assert blob_of(kept) == bytes(60) and struct.unpack_from("<H", kept, 16) == (0,)
    court.close()


def test_damage_of_the_event_builder_is_recorded_and_counted_apart(court: Court) -> None:
    seqs = [court.event(1), court.event(2)]
    court.asked()
    court.rule((seqs[0], wire.PERSIST), damage=0xF010)
    court.rule((seqs[1], 0), damage=0x0010)
    (record,) = court.recorded()
    assert struct.unpack_from("<H", record, 16) == (0x0010,)
    counts = court.flow.counts()
    assert counts["trigger"][0] == 2 and counts["trigger"][1][4] == 2
    assert counts["drp"][0] == counts["incoming"][0] == counts["script"][0] == 0


def test_verdicts_nobody_asked_for_are_counted_and_change_nothing(court: Court) -> None:
    first, second = court.event(1, pulse_id=5), court.event(2, pulse_id=6)
    assert court.rule((first, wire.PERSIST), pulse_id=5) == 0  # it was not asked yet
    court.asked()
    assert court.rule((0, 2), (second + 1, 2), (1 << 63, 2), pulse_id=5) == 0
    assert court.rule((second, 2), pulse_id=5) == 0  # another event's pulse id
    assert (court.flow.n_unknown, court.flow.n_repeated) == (5, 0)
    assert court.rule((second, 0), (second, 2), pulse_id=6) == 1
    assert court.rule((first, wire.PERSIST), pulse_id=5) == 1
    assert len(court.recorded()) == 1
    assert court.rule((first, 0), (second, 2), pulse_id=5) == 0
    assert (court.flow.n_unknown, court.flow.n_repeated) == (5, 3)
    assert court.fates() == {"recorded_verdict": 1, "filtered": 1}
    with pytest.raises(ValueError, match="23 bytes"):
        court.flow.give_verdicts(bytes(23))


def test_events_outside_the_common_group_are_recorded_unasked(court: Court) -> None:
    court.event(1, groups=OTHER)
    assert len(court.recorded()) == 1
    inside = court.event(2, groups=COMMON | OTHER)
    outside = court.event(3, groups=OTHER)
    assert court.asked()["seq"].tolist() == [inside]
    assert court.rule((outside, 0)) == 0
    court.rule((inside, 0))
    assert len(court.recorded()) == 2
    assert court.fates() == {"recorded_bypass": 2, "filtered": 1}


def test_where_nobody_decides_events_are_kept(court: Court) -> None:
    seqs = [court.event(word) for word in range(3)]
    court.asked()
    court.rule((seqs[0], 0))
    court.rule((seqs[1], 0), decided=False)
    assert len(court.recorded()) == 1
    later = court.event(3)
    court.flow.judge_off()
    assert len(court.recorded()) == 3
    court.event(4)
    assert len(court.recorded()) == 4
    assert court.rule((later, 0)) == 0
    assert court.fates() == {"filtered": 1, "recorded_no_verdict": 4}


def test_without_files_what_is_kept_is_not_recorded_and_the_rest_filtered(court: Court) -> None:
    court.bench.recorder.set_files(None, None)
    seqs = [court.event(word) for word in range(3)]
    court.asked()
    court.rule((seqs[0], 0), (seqs[1], wire.PERSIST), (seqs[2], wire.PRESCALE))
    assert court.recorded() == []
    assert court.fates() == {"not_recorded": 2, "filtered": 1}


def test_slow_updates_are_shown_in_their_place_and_wait_for_no_verdict(court: Court) -> None:
    first = court.event(1)
    court.bench.put(SLOW, b"slow")
    court.bench.turn()
    (worker,) = court.bench.workers.values()
    entry = worker.take()
    assert entry is not None
    worker.answer(entry.seq)
    last = court.event(2)
    asked = court.asked()
    assert asked["seq"].tolist() == [first, first + 1, last]
    assert (asked["env"] >> 24 & 15).tolist() == [L1, SLOW, L1]
    court.rule((first, 0))
    court.recorded()
    assert court.flow.record_next == last
    court.rule((last, 0))
    court.recorded()
    assert court.flow.record_next == last + 1


def test_a_transition_waits_for_the_verdicts_on_all_before_it(court: Court) -> None:
    seq = court.event(1)
    court.bench.put(DISABLE)
    court.bench.turn()
    court.bench.answer_all()
    court.bench.turn()
    court.asked()
    court.recorded()
    assert not court.flow.waiting_to_finish
    court.rule((seq, 0))
    court.recorded()
    assert court.flow.waiting_to_finish


def test_the_judge_of_a_drp_alone_is_told_pulse_ids_that_rise_and_a_readout_group() -> None:
    court = Court(Bench(trigger=0), alone=True)
    seqs = [court.event(1, pulse_id=pulse, groups=COMMON | 8) for pulse in (10, 0, 11, 40)]
    asked = court.asked()
    told = [10, 11, 12, 40]
    assert asked["pulse_id"].tolist() == told
    assert asked["env"].tolist() == [L1 << 24 | COMMON | 9] * 4
    assert [court.flow.told_pulse(pulse) for pulse in (0, 41, 50)] == [41, 42, 50]
    verdicts = [(seq, pulse, 2, 0, 0) for seq, pulse in zip(seqs, told, strict=True)]
    assert court.flow.give_verdicts(np.array(verdicts, wire.VERDICT)) == 4
    court.close()


def test_the_judge_is_woken_once_and_not_let_sleep_on_what_it_has_not_taken(court: Court) -> None:
    flow = court.flow
    court.event(1)
    assert not flow.judge_may_sleep()
    assert not select.select([court.bell], [], [], 0)[0]
    seq = court.asked()["seq"][0]
    assert flow.judge_may_sleep()
    later = court.event(2)
    assert select.select([court.bell], [], [], 0)[0]
    assert os.eventfd_read(court.bell) == 1
    court.event(3)
    assert not select.select([court.bell], [], [], 0)[0]
    court.rule((int(seq), 0))
    assert court.asked()["seq"].tolist() == [later, later + 1]


def test_a_judge_comes_before_the_first_dgram(court: Court) -> None:
    with pytest.raises(ValueError, match="on their way"):
        court.flow.judge(COMMON, court.bell)


@dataclass
class Model:
    """What was put, asked and said, and what must be in the file."""

    court: Court
    groups: dict[int, int] = field(default_factory=dict)
    words: dict[int, int] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    fates: dict[int, Fate] = field(default_factory=dict)
    refused: int = 0

    def put(self, word: int, group: int) -> None:
        if self.court.bench.batch.events_free == 0:
            return
        seq = self.court.event(word, groups=group)
        self.groups[seq], self.words[seq] = group, word
        if not group & COMMON:
            self.fates[seq] = Fate.recorded_bypass

    def ask(self, most: int) -> None:
        taken = self.court.flow.take_contributions(most)
        stride = wire.stride_of(WORD.size)
        for at in range(0, len(taken), stride):
            seq, _, _, env, _, flags = np.frombuffer(taken, wire.CONTRIBUTION, 1, at)[0].tolist()
            if env >> 24 & 15 == SLOW:
                continue
            assert seq not in self.fates and seq not in self.asked, "asked twice"
            assert flags == wire.Contributed.words
            assert WORD.unpack_from(taken, at + 32) == (self.words[seq],)
            self.asked.append(seq)

    def rule(self, choices: list[tuple[int, int]], decided: bool) -> None:
        believed = 0
        for choice, _ in choices:
            seq = self.seq(choice)
            if seq in self.asked:
                self.asked.remove(seq)
                believed += 1
                result = dict(reversed([(self.seq(c), r) for c, r in choices]))[seq]
                self.fates[seq] = self.fate(result) if decided else Fate.recorded_no_verdict
            else:
                self.refused += 1
        assert self.court.rule(*((self.seq(c), r) for c, r in choices), decided=decided) == believed

    def seq(self, choice: int) -> int:
        """An asked event, or any number."""
        known = sorted(self.groups)
        return known[choice % len(known)] if choice >= 0 and known else abs(choice)

    @staticmethod
    def fate(result: int) -> Fate:
        if result & wire.PERSIST:
            return Fate.recorded_verdict
        return Fate.recorded_prescale if result & wire.PRESCALE else Fate.filtered

    def slow(self) -> None:
        if self.court.bench.batch.transitions_free < 4:
            return
        self.court.bench.put(SLOW, b"slow")
        self.court.bench.turn()
        self.court.bench.answer_all()
        self.court.bench.turn()

    def step(self) -> None:
        """A transition between: all before it must be judged."""
        self.drain()
        for service in (DISABLE, ENABLE):
            self.court.bench.put(service)
            self.court.bench.turn()
            self.court.bench.answer_all()
            self.court.bench.settle()

    def drain(self) -> None:
        self.ask(100)
        self.rule([(sorted(self.groups).index(seq), wire.PERSIST) for seq in self.asked], True)
        self.record()

    def record(self) -> None:
        while self.court.flow.record_turn():
            pass
        self.court.flow.hand_in(self.court.bench.batch, 0, 0)
        flow = self.court.flow
        assert flow.record_next <= flow.judged_next <= flow.retire_next <= flow.dispatch_next
        assert all(seq >= flow.judged_next for seq in self.asked)

    def check(self) -> None:
        self.drain()
        assert self.asked == [] and set(self.fates) == set(self.groups)
        records = self.court.recorded()
        assert [WORD.unpack_from(one, fex_data(one) + 12)[0] for one in records] == [
            self.words[seq] for seq in sorted(self.groups) if self.fates[seq] is not Fate.filtered
        ]
        assert [blob_of(one) for one in records] == [
            bytes(self.words[seq] % 50) for seq in sorted(self.groups) if self.fates[seq] is not Fate.filtered
        ]
        told = [fate.name for fate in self.fates.values()]
        assert self.court.fates() == {name: told.count(name) for name in set(told)}
        flow = self.court.flow
        assert flow.n_unknown + flow.n_repeated == self.refused
        assert flow.n_asked == flow.n_ruled
        assert flow.load()["slots_used"] == self.court.bench.batch.events_free == 6
        last = self.court.flow.last_fates(3)
        kept = [fate for _, fate in sorted(self.fates.items()) if fate is not Fate.filtered][-3:]
        assert last == [kept.count(fate) for fate in Fate]


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1 << 31), st.sampled_from([COMMON, OTHER, COMMON | OTHER])),
    st.tuples(st.just("ask"), st.integers(1, 4)),
    st.tuples(
        st.just("rule"),
        st.lists(st.tuples(st.integers(-70, 60), st.integers(0, 63)), max_size=5),
        st.booleans(),
    ),
    st.tuples(st.just("record")),
    st.tuples(st.just("slow")),
    st.tuples(st.just("step")),
)


@given(steps=st.lists(STEPS, max_size=50))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_questions_verdicts_and_lies_records_what_was_decided(steps: list[tuple]) -> None:
    court = Court(Bench(n_events=6, arena_bytes=8192, trigger=0))
    model = Model(court)
    try:
        for name, *arguments in steps:
            getattr(model, name)(*arguments)
        model.check()
    finally:
        court.close()
