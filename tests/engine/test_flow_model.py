"""The rings and the flow against a model, driven by hypothesis: any order of events, transitions, answers, waits, deaths and lies.

The model knows only the layout and what is promised: what each event must be in the file, and whose fault it is if it is damaged. Workers
write nonsense over every byte of their arena that is theirs to write, so that data freed too early would be seen in the file.
"""

import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from flow_bench import (
    ANSWER,
    BARRIER,
    BEGIN_RUN,
    BEGIN_STEP,
    CONFIGURE,
    DISABLE,
    ENABLE,
    END_RUN,
    END_STEP,
    FAILED,
    L1,
    OVERFLOWED,
    REPLAYED,
    SLOW,
    UNCONFIGURE,
    Bench,
    blob,
    blob_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ring_worker import LEFT, OK, OVERFLOW, RAISED, REPLAY, Entry, RingWorker

from drp.core import wire
from drp.core.ledger import Fate

ARENA_BYTES = 2048
LARGEST = ARENA_BYTES // 2 - 8 - 80
DIED, TRUNCATED, NONSENSE = 3, 4, 5
CAUSES = {RAISED: 1, OVERFLOW: TRUNCATED, LEFT: 6}
RUNNING, WAITS_ARENA = 0, 2
SERVICES_IN_FORCE = [CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE]
U64 = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers((1 << 64) - 5000, (1 << 64) - 1),
    st.integers(0, 3 * ARENA_BYTES),
)
SIZES = st.one_of(st.none(), st.integers(0, 200), st.integers(0, LARGEST))
U32 = st.one_of(st.integers(0, (1 << 32) - 1), st.integers(0, 2 * ARENA_BYTES))


@dataclass
class Man:
    """A worker of the model: what it has in hand, and what it wants to answer as soon as there is room."""

    number: int
    ring: RingWorker
    fed: bool = True
    hand: Entry | None = None
    wants: bytes | None = None
    lied: bool = False
    told: list[int] = field(default_factory=list)


def pattern(seq: int, size: int) -> bytes:
    return bytes((seq * 37 + i * 11) & 0xFF for i in range(size))


class Model:
    """Two workers and a pebble of few slots; what they did, and what must come of it."""

    n_events = 6
    n_blocks = 2

    def __init__(self) -> None:
        self.bench = Bench(self.n_events, ARENA_BYTES, bound=4096, n_blocks=self.n_blocks)
        self.prepare()
        self.men: dict[int, Man] = {}
        self.expected: dict[int, bytes | None] = {}
        self.causes: dict[int, int] = {}
        self.services: dict[int, int] = {}
        self.answered: list[tuple[int, int]] = []
        self.notices: list[tuple[int, int]] = []
        self.failed: list[int] = []
        self.lies = 0
        self.overflowed: set[int] = set()
        self.replays = self.replays_told = 0
        self.ended = False
        for worker in range(2):
            self.hire(worker, fed=True)
        for service in SERVICES_IN_FORCE:
            self.put(service)
            self.flush()

    def prepare(self) -> None:
        """Do what comes before the first dgram."""

    def hire(self, worker: int, *, fed: bool) -> Man:
        number = self.bench.add_worker(worker, fed=fed)
        man = self.men[number] = Man(number, self.bench.workers[number])
        return man

    def man(self, choice: int) -> Man:
        return list(self.men.values())[choice % len(self.men)]

    def put(self, service: int, payload: bytes = b"") -> bool:
        seq = self.bench.flow.submit_next
        if not self.bench.put(service, payload):
            return False
        self.services[seq] = service
        if service == L1:
            self.expected[seq] = None
        return True

    # What the source does.

    def events(self, n: int, slow: int) -> None:
        """Events, with a SlowUpdate among them now and then."""
        for number in range(n):
            if slow and number % 4 == slow:
                self.put(SLOW, b"slow")
            self.put(L1, b"raw")

    def slow_updates(self, n: int) -> None:
        for _ in range(n):
            self.put(SLOW, b"slow")

    def step(self) -> None:
        if self.bench.batch.transitions_free >= 4:
            for service in (DISABLE, ENABLE):
                self.put(service)

    # What workers do, and drp's threads between.

    def work(self, choice: int, sizes: list[int | None], *, record: bool, take: bool) -> None:
        """One worker, or all in turn, do a few things; then one may be left with something in hand."""
        for number, size in enumerate(sizes):
            self.engine()
            self.work_once(self.man(choice + (number if choice < 4 else 0)), size)
        self.engine()
        if record:
            self.record()
            self.main()
        if take:
            self.take(choice)

    def take(self, choice: int) -> None:
        self.engine()
        man = self.man(choice)
        if man.hand is None:
            self.take_one(man)

    def work_once(self, man: Man, size: int | None) -> None:
        if man.lied:
            return
        if man.hand is None:
            man.hand = man.ring.take()
            if man.hand is None:
                return
            man.ring.scribble()
        if man.hand.service == L1 and size is not None and man.wants is None:
            man.wants = pattern(man.hand.seq, size)
        if man.wants is None:
            self.answer(man)
            return
        desc, data = blob(man.wants)
        if not man.ring.arena_room(len(desc) + len(data)):
            man.ring.set_state(WAITS_ARENA)
            return
        man.ring.set_state(RUNNING)
        self.answer(man, desc, data)

    def answer(self, man: Man, desc: bytes = b"", data: bytes = b"") -> None:
        entry, wants = man.hand, man.wants
        assert entry is not None
        man.hand = man.wants = None
        man.ring.answer(entry.seq, OK, desc, data)
        if entry.service == L1:
            self.expected[entry.seq] = wants
        elif entry.flags & REPLAY:
            self.replays += entry.service in (CONFIGURE, BEGIN_RUN)
        elif entry.service != SLOW:
            self.answered.append((man.number, entry.seq))
            man.told.append(entry.seq)

    def has_event(self, man: Man) -> bool:
        """Bring a worker to have an event in hand, with all before it collected."""
        for _ in range(8):
            self.engine()
            if man.hand is None:
                self.take_one(man)
            if man.hand is None or man.hand.service == L1:
                break
            self.answer(man)
        self.engine()
        return man.hand is not None and man.hand.service == L1

    def take_one(self, man: Man) -> None:
        man.hand = man.ring.take()
        man.ring.scribble()

    def fail(self, choice: int, status: int) -> None:
        man = self.man(choice)
        if not self.has_event(man):
            return
        man.ring.answer(man.hand.seq, status)
        self.causes[man.hand.seq] = CAUSES[status]
        if status == OVERFLOW:
            self.overflowed.add(man.number)
            man.hand = man.wants = None
        else:
            self.lie(man)

    def lies_in_an_answer(
        self, choice: int, position: int, size: int, desc: int, status: int, seq: int
    ) -> None:
        man = self.man(choice)
        if not self.has_event(man):
            return
        man.ring.scribble()
        right = seq % 3 != 0 or seq == man.hand.seq
        if right and size == 0 and status == 0:
            status = 9
        man.ring.answer_raw(man.hand.seq if right else seq, position, size, desc, status)
        self.causes[man.hand.seq] = NONSENSE
        self.lie(man)

    def lies_in_its_count(self, choice: int, head: int) -> None:
        man = self.man(choice)
        if not self.has_event(man):
            return
        if man.ring.out_head <= head <= man.ring.in_head:
            return
        man.ring.set_out_head(head)
        self.causes[man.hand.seq] = NONSENSE
        self.lie(man)

    def lie(self, man: Man) -> None:
        """It is found out, buried and replaced."""
        man.lied = True
        self.lies += 1
        self.engine()
        assert man.number in self.failed, "a lie was believed"
        self.replace(man, NONSENSE)

    def die(self, choice: int) -> None:
        man = self.man(choice)
        if man.hand is not None and man.hand.service == L1:
            self.causes[man.hand.seq] = DIED
        self.replace(man, DIED)

    def replace(self, man: Man, cause: int) -> None:
        flow = self.bench.flow
        held = flow.drain(man.number)
        self.look()
        lost = flow.bury(man.number, cause)
        if man.lied:
            assert lost in (0, man.hand.seq if man.hand else 0)
        else:
            assert held[1] == (man.hand.service if man.hand else 0)
            assert lost == (man.hand.seq if man.hand and man.hand.service == L1 else 0)
        del self.men[man.number], self.bench.workers[man.number]
        flow.sweep_ports()
        fresh = self.hire(man.number, fed=False)
        flow.replay(fresh.number, SERVICES_IN_FORCE)
        if not flow.barrier:
            flow.open_port(fresh.number, True)
        else:
            flow.ask(fresh.number)

    def feed_or_starve(self, choice: int, fed: bool) -> None:
        man = self.man(choice)
        if self.bench.flow.barrier:
            return
        if fed:
            self.bench.flow.open_port(man.number, True)
        elif all(other.fed for other in self.men.values()):
            self.bench.flow.open_port(man.number, False)
        else:
            return
        man.fed = fed

    # What drp's threads do.

    def engine(self) -> None:
        self.bench.flow.turn()
        self.look()

    def record(self) -> None:
        self.bench.flow.record_turn()
        self.bench.flow.hand_in(self.bench.batch, 0, 0)

    def main(self) -> None:
        self.look()
        flow = self.bench.flow
        if flow.barrier and self.barrier == flow.barrier and flow.waiting_to_finish:
            text, _, _ = flow.transition(flow.barrier)
            flow.finish_transition(flow.barrier, text, text)
            flow.release_barrier()

    barrier = 0

    def look(self) -> None:
        for notice in self.bench.flow.take_notices():
            if notice.kind == ANSWER:
                self.notices.append((notice.port, notice.seq))
            elif notice.kind == BARRIER:
                self.barrier = notice.seq
                assert all(notice.seq in man.told for man in self.men.values()), "not everybody has answered"
                asked = {number for number, seq in self.answered if seq == notice.seq}
                assert {number for number, seq in self.notices if seq == notice.seq} == asked
            elif notice.kind == FAILED:
                self.failed.append(notice.port)
            elif notice.kind == REPLAYED:
                self.replays_told += 1
            else:
                assert notice.kind == OVERFLOWED and notice.port in self.overflowed

    # What always holds.

    def all_is_in_order(self) -> None:
        flow = self.bench.flow
        assert (
            flow.record_next <= flow.judged_next <= flow.retire_next <= flow.dispatch_next <= flow.submit_next
        )
        assert flow.submit_next - flow.record_next <= self.n_events + 32
        ports = [self.bench.ports[number] for number in self.men]
        assert flow.load()["in_flight"] == sum(port.events for port in ports)
        for port in ports:
            assert 2 <= port.credit <= 512
            assert port.events <= port.in_flight <= 1024
            assert port.unrecorded <= self.n_blocks
        for man in self.men.values():
            assert man.ring.arena_tail <= man.ring.position
        if not self.ended:
            self.check_that_slow_updates_wait_for_no_credit()

    def check_that_slow_updates_wait_for_no_credit(self) -> None:
        flow = self.bench.flow
        flow.turn()
        redo = flow.load()["waiting"] - (flow.submit_next - flow.dispatch_next)
        first = not any(self.services.get(seq) == SLOW for seq in range(1, flow.dispatch_next))
        if self.services.get(flow.dispatch_next) == SLOW and not (redo or flow.barrier):
            assert first and flow.load()["in_flight"]

    # How it ends.

    def flush(self) -> None:
        """Let everybody work until everything is recorded."""
        flow = self.bench.flow
        for _ in range(4000):
            if flow.record_next == flow.submit_next and not flow.barrier:
                return
            self.work_all()
        raise AssertionError(f"it hangs: {flow.load()} {flow.ports_now()}")

    def work_all(self) -> None:
        """Everybody does one thing."""
        if not self.bench.flow.barrier:
            for man in self.men.values():
                self.bench.flow.open_port(man.number, True)
                man.fed = True
        self.engine()
        for man in self.men.values():
            self.work_once(man, None)
        self.engine()
        self.record()
        self.main()

    def finish(self) -> None:
        """Close the run and check all that it leaves."""
        self.ended = True
        self.flush()
        for service in (DISABLE, END_STEP, END_RUN, UNCONFIGURE):
            while not self.put(service):
                self.work_all()
            self.flush()
        while any(self.bench.ports[man.number].in_flight for man in self.men.values()):
            self.work_all()
        self.check_file()
        self.check_given_back()
        self.bench.close()

    def check_file(self) -> None:
        dgrams = self.bench.dgrams()
        times = [int.from_bytes(one[:8], "little") for one in dgrams]
        assert times == sorted(set(times))
        assert [one[11] & 15 for one in dgrams] == [self.services[seq] for seq in sorted(self.services)]
        for one, (seq, wanted) in zip(
            (one for one in dgrams if one[11] & 15 == L1), sorted(self.expected.items()), strict=True
        ):
            cause = self.causes.get(seq, 0)
            assert one[17] >> 4 == cause, f"event {seq} has cause {one[17] >> 4}, expected {cause}"
            assert blob_of(one) == (None if cause else wanted), f"event {seq} is not what its worker made"

    def check_given_back(self) -> None:
        bench = self.bench
        self.look()
        bench.flow.hand_in(bench.batch, 0, 0)
        load = bench.flow.load()
        assert load["slots_used"] == bench.batch.events_free == self.n_events
        assert load["transition_slots_used"] == bench.batch.transitions_free == 32
        gone = {number for number, _ in self.answered} - set(self.men)
        assert sorted(set(self.notices) - set(self.answered)) == []
        assert [one for one in self.answered if one[0] not in gone and one not in self.notices] == []
        assert self.replays_told == self.replays
        assert len(self.failed) == self.lies
        for man in self.men.values():
            assert bench.ports[man.number].unrecorded == 0
            assert man.ring.arena_tail == man.ring.position
        bench.flow.sweep_ports()
        assert len(bench.flow.ports_now()) == len(self.men)


class OneSlot(Model):
    """A pebble of one event slot, and one block."""

    n_events = 1
    n_blocks = 1


class Wide(Model):
    """More slots than a fresh worker has credit."""

    n_events = 24
    n_blocks = 3


class Judged(Wide):
    """A judge that decides late, and wants two events of three."""

    def prepare(self) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.bench.flow.judge(1, self.bell)
        self.asked: list[tuple[int, bool]] = []
        self.unwanted: list[int] = []

    def record(self) -> None:
        verdicts = [
            (seq, 0, wire.PERSIST if failed or seq % 3 else 0, 0, 0) for seq, failed in reversed(self.asked)
        ]
        self.unwanted += [seq for seq, _, result, _, _ in verdicts if not result]
        assert self.bench.flow.give_verdicts(np.array(verdicts, wire.VERDICT)) == len(verdicts)
        taken = np.frombuffer(self.bench.flow.take_contributions(5), wire.CONTRIBUTION)
        events = taken[taken["env"] >> 24 & 15 == L1]
        self.asked = [(int(one["seq"]), bool(one["flags"] & wire.Contributed.failed)) for one in events]
        for seq, failed in self.asked:
            assert failed == (seq in self.causes)
        super().record()

    def check_file(self) -> None:
        counts = self.bench.flow.counts()["fates"]
        assert counts[Fate.filtered] == len(self.unwanted)
        assert counts[Fate.recorded_verdict] == len(self.expected) - len(self.unwanted)
        for seq in self.unwanted:
            del self.services[seq], self.expected[seq]
        super().check_file()
        os.close(self.bell)


@dataclass(frozen=True)
class Act:
    """One act and all that any act may want to know."""

    what: str
    who: int
    n: int
    sizes: tuple[int | None, ...]
    numbers: tuple[int, int, int, int]


OFTEN = ("events", "events", "work", "work", "work", "work", "record")
SELDOM = ("main", "die", "slow_updates", "step", "take", "fail", "lie_in_answer", "lie_in_count", "feed")
ACTS = st.builds(
    Act,
    st.sampled_from(4 * OFTEN + SELDOM),
    st.integers(0, 7),
    st.integers(1, 8),
    st.lists(SIZES, min_size=4, max_size=12).map(tuple),
    st.tuples(U64, U32, U32, U64),
)


def perform(model: Model, act: Act) -> None:
    a, b, c, d = act.numbers
    match act.what:
        case "events":
            model.events(act.n, act.who % 4)
        case "slow_updates":
            model.slow_updates(act.n % 4)
        case "step":
            model.step()
        case "work":
            model.work(act.who, list(act.sizes), record=act.n > 4, take=act.n % 2 == 0)
        case "take":
            model.take(act.who)
        case "record":
            model.record()
        case "main":
            model.main()
        case "fail":
            model.fail(act.who, (RAISED, OVERFLOW, LEFT)[act.n % 3])
        case "lie_in_answer":
            model.lies_in_an_answer(act.who, a, b, c, (0, 4, 77)[act.n % 3], d)
        case "lie_in_count":
            model.lies_in_its_count(act.who, a)
        case "feed":
            model.feed_or_starve(act.who, act.n > 4)
        case "die":
            model.die(act.who)
    model.all_is_in_order()


def run(model_type: type[Model], examples: int, acts: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ACTS, min_size=acts // 2, max_size=acts))
    def play(script: list[Act]) -> None:
        model = model_type()
        for act in script:
            perform(model, act)
        model.finish()

    play()


@pytest.mark.timeout(400)  # a counterexample takes its time to be made small
@pytest.mark.parametrize(("model_type", "examples"), [(Model, 40), (OneSlot, 40), (Wide, 40), (Judged, 20)])
def test_the_flow_does_what_its_model_does(model_type: type[Model], examples: int) -> None:
    run(model_type, examples, 60)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model_type", [Model, OneSlot, Wide, Judged])
def test_the_flow_does_what_its_model_does_for_long(model_type: type[Model], times: int) -> None:
    run(model_type, 150 * times, 120)
