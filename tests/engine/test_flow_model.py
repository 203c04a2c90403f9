"""The rings and the flow against a model, driven by hypothesis: any order of events, transitions, answers, waits, deaths and lies.

The model knows only the layout and what is promised: what each event must be in the file, and whose fault it is if it is damaged. Workers
write nonsense over every byte of their arena that is theirs to write, so that data freed too early would be seen in the file.
"""

from dataclasses import dataclass, field

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
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from ring_worker import LEFT, OK, OVERFLOW, RAISED, REPLAY, Entry, RingWorker

ARENA_BYTES = 2048
LARGEST = ARENA_BYTES // 2 - 8 - 80
DIED, TRUNCATED, NONSENSE = 3, 4, 5
CAUSES = {RAISED: 1, OVERFLOW: TRUNCATED, LEFT: 6}
RUNNING, WAITS_ENTRY, WAITS_ARENA = range(3)
SERVICES_IN_FORCE = [CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE]
U64 = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers((1 << 64) - 5000, (1 << 64) - 1),
    st.integers(0, 3 * ARENA_BYTES),
)
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
    told: list[tuple[int, int]] = field(default_factory=list)


def pattern(seq: int, size: int) -> bytes:
    return bytes((seq * 37 + i * 11) & 0xFF for i in range(size))


class FlowMachine(RuleBasedStateMachine):
    """Two workers and a pebble of few slots."""

    n_events = 6
    n_blocks = 4

    @initialize()
    def start(self) -> None:
        self.bench = Bench(self.n_events, ARENA_BYTES, bound=4096, n_blocks=self.n_blocks)
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

    def hire(self, worker: int, *, fed: bool) -> Man:
        number = self.bench.add_worker(worker, fed=fed)
        man = self.men[number] = Man(number, self.bench.workers[number])
        return man

    def man(self, choice: int) -> Man:
        return list(self.men.values())[choice % len(self.men)]

    def put(self, service: int, payload: bytes = b"") -> None:
        seq = self.bench.flow.submit_next
        if self.bench.put(service, payload):
            for extra in range(seq, self.bench.flow.submit_next):
                self.services[extra] = service
            if service == L1:
                self.expected[seq] = None

    # What the source does.

    @rule(n=st.integers(1, 6))
    def events(self, n: int) -> None:
        for _ in range(n):
            self.put(L1, b"raw")

    @rule()
    def slow_update(self) -> None:
        self.put(SLOW, b"slow")

    @rule()
    def step(self) -> None:
        if self.bench.batch.transitions_free >= 4:
            for service in (DISABLE, ENABLE):
                self.put(service)

    # What workers do.

    @rule(choice=st.integers(0, 7), size=st.one_of(st.none(), st.integers(0, LARGEST)), n=st.integers(1, 8))
    def work(self, choice: int, size: int | None, n: int) -> None:
        for _ in range(n):
            self.work_once(self.man(choice), size)

    @rule(choice=st.integers(0, 7))
    def take(self, choice: int) -> None:
        man = self.man(choice)
        if not man.lied and man.hand is None:
            man.hand = man.ring.take()
            man.ring.scribble()

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

    @rule(choice=st.integers(0, 7), status=st.sampled_from([RAISED, OVERFLOW, LEFT]))
    def fail(self, choice: int, status: int) -> None:
        man = self.man(choice)
        if man.hand is None or man.hand.service != L1 or man.lied:
            return
        self.bench.flow.turn()
        man.ring.answer(man.hand.seq, status)
        self.causes[man.hand.seq] = CAUSES[status]
        if status == OVERFLOW:
            self.overflowed.add(man.number)
            man.hand = man.wants = None
        else:
            self.lie(man)

    @rule(
        choice=st.integers(0, 7),
        position=U64,
        size=U32,
        desc=U32,
        status=st.sampled_from([0, 4, 77]),
        seq=U64,
    )
    def lies_in_an_answer(
        self, choice: int, position: int, size: int, desc: int, status: int, seq: int
    ) -> None:
        man = self.man(choice)
        if man.hand is None or man.hand.service != L1 or man.lied:
            return
        self.bench.flow.turn()
        man.ring.scribble()
        right = seq % 3 != 0 or seq == man.hand.seq
        if right and size == 0 and status == 0:
            status = 9
        man.ring.answer_raw(man.hand.seq if right else seq, position, size, desc, status)
        self.causes[man.hand.seq] = NONSENSE
        self.lie(man)

    @rule(choice=st.integers(0, 7), head=U64)
    def lies_in_its_count(self, choice: int, head: int) -> None:
        man = self.man(choice)
        if man.hand is None or man.hand.service != L1 or man.lied:
            return
        self.bench.flow.turn()
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

    @rule(choice=st.integers(0, 7))
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

    @rule(choice=st.integers(0, 7), fed=st.booleans())
    def feed_or_starve(self, choice: int, fed: bool) -> None:
        man = self.man(choice)
        if self.bench.flow.barrier:
            return
        if fed:
            self.bench.flow.open_port(man.number, True)
        elif len(self.men) > 1:
            self.bench.flow.starve_port(man.number)

    # What drp's threads do.

    @rule()
    def engine(self) -> None:
        self.bench.flow.turn()
        self.look()

    @rule()
    def record(self) -> None:
        self.bench.flow.record_turn()
        self.bench.flow.hand_in(self.bench.batch, 0, 0)

    @rule()
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
                asked = {number for number, seq in self.answered if seq == notice.seq}
                assert {number for number, seq in self.notices if seq == notice.seq} == asked
            elif notice.kind == FAILED:
                self.failed.append(notice.port)
            elif notice.kind == REPLAYED:
                self.replays_told += 1
            else:
                assert notice.kind == OVERFLOWED and notice.port in self.overflowed

    # What always holds.

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "bench"):
            return
        flow = self.bench.flow
        assert flow.record_next <= flow.retire_next <= flow.dispatch_next <= flow.submit_next
        assert flow.submit_next - flow.record_next <= self.n_events + 32
        ports = [self.bench.ports[number] for number in self.men]
        assert flow.load()["in_flight"] == sum(port.events for port in ports)
        for port in ports:
            assert 2 <= port.credit <= 512
            assert port.events <= port.in_flight <= 1024
            assert port.unrecorded <= self.n_blocks

    @invariant()
    def arenas_are_freed_only_as_far_as_they_were_filled(self) -> None:
        if hasattr(self, "bench"):
            for man in self.men.values():
                assert man.ring.arena_tail <= man.ring.position

    @invariant()
    def slow_updates_wait_for_no_credit(self) -> None:
        if not hasattr(self, "bench") or self.ended:
            return
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
            if not flow.barrier:
                for man in self.men.values():
                    flow.open_port(man.number, True)
            self.engine()
            for man in self.men.values():
                self.work_once(man, None)
            self.engine()
            self.record()
            self.main()
        raise AssertionError(f"it hangs: {flow.load()} {flow.ports_now()}")

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.ended = True
        self.flush()
        for service in (DISABLE, END_STEP, END_RUN, UNCONFIGURE):
            self.put(service)
            self.flush()
        while any(self.bench.ports[man.number].in_flight for man in self.men.values()):
            for man in self.men.values():
                self.work_once(man, None)
            self.engine()
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


class OneSlotMachine(FlowMachine):
    """A pebble of one event slot, and one block."""

    n_events = 1
    n_blocks = 1


class WideMachine(FlowMachine):
    """More slots than a fresh worker has credit."""

    n_events = 24
    n_blocks = 9


def run(machine: type[FlowMachine], examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]


@pytest.mark.timeout(400)  # a counterexample takes its time to be made small
@pytest.mark.parametrize("machine", [FlowMachine, OneSlotMachine, WideMachine])
def test_the_flow_does_what_its_model_does(machine: type[FlowMachine]) -> None:
    run(machine, 30, 40)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("machine", [FlowMachine, OneSlotMachine, WideMachine])
def test_the_flow_does_what_its_model_does_for_long(machine: type[FlowMachine]) -> None:
    run(machine, 600, 100)
