"""Corners of the flow that were wrong once, or nearly: barriers beside SlowUpdates, arenas that fill up out of order, doorbells of the main loop."""

import os
import struct
from collections.abc import Callable, Iterator

import pytest
from flow_bench import (
    ANSWER,
    BARRIER,
    BEGIN_RUN,
    BEGIN_STEP,
    CONFIGURE,
    DISABLE,
    ENABLE,
    FAILED,
    L1,
    REPLAYED,
    SLOW,
    Bench,
    blob,
    fex,
)
from ring_worker import REPLAY, STOP, RingWorker

from drp.engine._flow import Flow
from drp.shm._pebble import Pebble
from drp.shm._port import Port
from drp.sink._gather import Gather
from drp.sink._l1 import L1Recorder

WAITS_ARENA, RUNNING = 2, 0


Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make benches that are closed at the end."""
    made: list[Bench] = []

    def make_one(**options: int) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


@pytest.fixture
def bench(make: Make) -> Bench:
    return make()


def kinds(bench: Bench) -> list[int]:
    return [notice.kind for notice in bench.notices]


def take_event(worker: RingWorker) -> int:
    """Take and answer until an event is in hand; return its number."""
    while (entry := worker.take()) is not None:
        if entry.service == L1:
            return entry.seq
        worker.answer(entry.seq)
    raise AssertionError("no event came")


def test_a_late_answer_to_a_slow_update_does_not_pass_for_that_to_the_transition_after_it(
    bench: Bench,
) -> None:
    worker = bench.workers[bench.add_worker(0)]
    bench.begin()
    bench.put(SLOW, b"slow")
    bench.put(DISABLE)
    bench.turn()
    slow, disable = worker.take(), worker.take()
    assert slow and disable and (slow.service, disable.service) == (SLOW, DISABLE)
    worker.answer(slow.seq)
    bench.turn()
    assert BARRIER not in kinds(bench)
    worker.answer(disable.seq)
    bench.turn()
    assert kinds(bench)[-2:] == [ANSWER, BARRIER]


def test_a_late_answer_to_a_replay_does_not_pass_for_that_to_the_transition_being_asked(bench: Bench) -> None:
    first = bench.add_worker(0)
    bench.put(CONFIGURE)
    bench.settle()
    bench.answer_all()
    bench.settle()
    bench.put(BEGIN_RUN)
    bench.turn()
    second = bench.add_worker(1, fed=False)
    assert bench.flow.replay(second, [CONFIGURE]) == 1
    assert bench.flow.ask(second)
    bench.workers[first].answer(bench.workers[first].take().seq)  # type: ignore[union-attr]
    worker = bench.workers[second]
    replay, asked = worker.take(), worker.take()
    assert replay and asked and replay.flags == REPLAY and asked.service == BEGIN_RUN
    worker.answer(replay.seq)
    bench.turn()
    assert BARRIER not in kinds(bench) and REPLAYED in kinds(bench)
    worker.answer(asked.seq)
    bench.turn()
    assert kinds(bench)[-1] == BARRIER


def test_a_worker_that_comes_when_the_configure_has_gone_out_is_not_let_in_as_if_from_the_start(
    bench: Bench,
) -> None:
    first, late = bench.add_worker(0, fed=False), bench.add_worker(1, fed=False)
    assert bench.flow.open_port(first, True, at_start=True)
    bench.put(CONFIGURE)
    bench.turn()
    assert not bench.flow.open_port(late, True, at_start=True)
    bench.answer_all()
    bench.settle()
    bench.put(BEGIN_RUN)
    bench.turn()
    assert bench.workers[first].take() is not None
    assert bench.workers[late].take() is None


def test_the_answer_to_stop_is_no_answer_to_a_transition(bench: Bench) -> None:
    number = bench.add_worker(0)
    bench.begin()
    bench.notices.clear()
    bench.flow.stop_port(number)
    entry = bench.workers[number].take()
    assert entry is not None and entry.flags == STOP
    bench.workers[number].answer(0)
    bench.settle()
    assert not bench.notices


def test_an_event_before_any_slow_update_is_done_by_a_worker_that_has_seen_none(make: Make) -> None:
    bench = make()
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.flow.open_port(b, False)
    bench.put(L1, b"raw")
    bench.settle()
    bench.put(SLOW, b"first")
    bench.put(SLOW, b"second")
    bench.settle()
    assert bench.workers[b].take() is None
    bench.flow.open_port(a, False)
    bench.flow.open_port(b, True)
    bench.flow.bury(a, 3)
    bench.settle()
    services = []
    while (entry := bench.workers[b].take()) is not None:
        services.append(entry.service)
        bench.workers[b].answer(entry.seq)
        bench.settle()
    assert services == [L1, SLOW, SLOW]


def answer_with_fex(worker: RingWorker, value: int = 1) -> int:
    seq = take_event(worker)
    desc, data = fex(value)
    worker.answer(seq, desc=desc, data=data)
    return seq


def test_results_freed_out_of_order_never_outgrow_the_table_of_blocks(make: Make) -> None:
    """One result at the front of the arena is kept while many after it come and go, more than there are slots."""
    bench = make(n_events=8, arena_bytes=1 << 16, n_blocks=3)
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.flow.open_port(b, False)
    bench.put(L1, b"raw")
    bench.settle()
    bench.flow.open_port(a, False)
    bench.flow.open_port(b, True)
    for value in range(7):
        bench.put(L1, b"raw")
        bench.settle()
        answer_with_fex(bench.workers[b], value)
        bench.settle()
    worker = bench.workers[a]
    worker.answer(take_event(worker))
    bench.settle()
    events = [r for r in bench.recorded() if r[0] == L1]
    assert len(events) == 8 and not any(damage for _, _, damage in events)
    assert bench.values() == list(range(7))
    assert bench.workers[b].arena_tail == bench.workers[b].position


def test_slow_updates_answered_with_blocks_take_no_place_among_those_kept(make: Make) -> None:
    bench = make(n_events=4, arena_bytes=1 << 16, n_blocks=4)
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.put(SLOW, b"0")
    bench.answer_all()
    bench.put(L1, b"raw")
    bench.put(L1, b"raw")
    bench.settle()
    kept = answer_with_fex(bench.workers[b], 5)
    other = take_event(bench.workers[a])
    desc, data = fex(9)
    for _ in range(12):
        assert bench.put(SLOW, b"1")
        bench.settle()
        entry = bench.workers[b].take()
        assert entry is not None
        bench.workers[b].answer(entry.seq, desc=desc, data=data)
        bench.settle()
    bench.workers[a].answer(other)
    bench.answer_all()
    bench.settle()
    assert bench.values() == [5]
    assert kept and bench.workers[b].arena_tail == bench.workers[b].position


def test_an_arena_that_is_full_while_the_next_event_to_record_queues_behind_gives_way(make: Make) -> None:
    """The worker waits for arena on one event, with an older one queued behind it: nobody else can do the older."""
    bench = make(n_events=16, arena_bytes=1024)
    a, b, c = (bench.add_worker(n) for n in range(3))
    bench.begin()
    for hungry in (a, b, c):
        for other in (a, b, c):
            bench.flow.open_port(other, other == hungry)
        bench.put(L1, b"raw")
        bench.settle()
    # Event 0 is with a, 1 with b, 2 with c, and c answers 2; b dies first, so that c gets 1 before 0.
    answer_with_fex(bench.workers[c])
    bench.settle()
    bench.flow.bury(b, 3)
    bench.settle()
    bench.flow.bury(a, 3)
    bench.settle()
    worker = bench.workers[c]
    in_hand = worker.take()
    assert in_hand is not None and in_hand.index == 1
    tail = worker.arena_tail
    worker.set_state(WAITS_ARENA)
    bench.settle()
    assert worker.arena_tail > tail
    worker.set_state(RUNNING)
    worker.answer(in_hand.seq)
    bench.answer_all()
    bench.settle()
    assert bench.values() == [1]
    assert [r[0] for r in bench.recorded()].count(L1) == 3


def test_a_full_arena_gives_way_while_the_next_event_to_record_is_with_nobody(make: Make) -> None:
    bench = make(n_events=16, arena_bytes=1024)
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.flow.open_port(b, False)
    for _ in range(2):
        bench.put(L1, b"raw")
    bench.settle()
    bench.flow.open_port(a, False)
    bench.flow.open_port(b, True)
    for _ in range(3):
        bench.put(L1, b"raw")
    bench.settle()
    worker = bench.workers[b]
    answer_with_fex(worker)
    in_hand = take_event(worker)
    bench.flow.open_port(b, False)
    bench.flow.bury(a, 3)
    bench.settle()
    assert bench.flow.load()["waiting"] == 3
    tail = worker.arena_tail
    worker.set_state(WAITS_ARENA)
    bench.settle()
    assert worker.arena_tail > tail
    worker.set_state(RUNNING)
    worker.answer(in_hand)
    bench.flow.open_port(b, True)
    bench.settle()
    while len([r for r in bench.recorded() if r[0] == L1]) < 5:
        bench.answer_all()
        bench.settle()


def test_the_segment_of_a_dead_worker_goes_though_its_results_wait_behind_a_hung_event(bench: Bench) -> None:
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.flow.open_port(b, False)
    bench.put(L1, b"raw")
    bench.settle()
    hung = take_event(bench.workers[a])
    bench.flow.open_port(a, False)
    bench.flow.open_port(b, True)
    for value in (7, 8):
        bench.put(L1, b"raw")
        bench.settle()
        desc, data = fex(value)
        bench.workers[b].answer(take_event(bench.workers[b]), desc=desc, data=data)
        bench.settle()
    assert bench.ports[b].unrecorded == 2
    bench.flow.drain(b)
    bench.flow.bury(b, 3)
    assert bench.ports[b].unrecorded == 0
    bench.flow.sweep_ports()
    del bench.workers[b], bench.ports[b]
    bench.workers[a].answer(hung)
    bench.settle()
    assert bench.values() == [7, 8]


def test_a_worker_that_says_it_waits_for_an_empty_arena_is_not_believed(bench: Bench) -> None:
    number = bench.add_worker(0)
    bench.begin()
    bench.put(L1, b"raw")
    bench.settle()
    take_event(bench.workers[number])
    bench.workers[number].set_state(WAITS_ARENA)
    ((_, _, _, _, service, waits, _, _),) = bench.flow.ports_now()
    assert service == L1 and not waits


def test_the_main_loop_is_woken_once_for_what_it_waits_for(bench: Bench) -> None:
    number = bench.add_worker(0)
    bench.begin()
    os.read(bench.notify, 8)
    bench.flow.wake_when_recorded(bench.flow.submit_next)
    for _ in range(3):
        bench.put(L1, b"raw")
        bench.settle()
        bench.workers[number].answer(take_event(bench.workers[number]))
        while bench.flow.turn() or bench.flow.record_turn():
            pass
    assert struct.unpack("<Q", os.read(bench.notify, 8)) == (1,)


def test_the_main_loop_is_woken_for_what_was_recorded_before_it_asked(bench: Bench) -> None:
    bench.add_worker(0)
    bench.begin()
    os.read(bench.notify, 8)
    bench.flow.wake_when_recorded(bench.flow.record_next - 1)
    assert struct.unpack("<Q", os.read(bench.notify, 8)) == (1,)


def test_a_result_over_one_that_is_kept_is_refused(make: Make) -> None:
    bench = make(n_events=8, arena_bytes=512)
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.flow.open_port(b, False)
    bench.put(L1, b"raw")
    bench.settle()
    bench.flow.open_port(a, False)
    bench.flow.open_port(b, True)
    worker = bench.workers[b]
    desc, data = blob(bytes(400))
    for _ in range(2):
        bench.put(L1, b"raw")
        bench.settle()
        worker.answer(take_event(worker), desc=desc, data=data)
        bench.settle()
    assert bench.ports[b].unrecorded == 1
    assert (bench.notices[-1].kind, bench.notices[-1].cause) == (FAILED, 5)


@pytest.mark.parametrize(("arena_bytes", "n_blocks"), [(0, 4), (4100, 4), (4096, 0)])
def test_a_port_refuses_sizes_its_worker_could_not_use(arena_bytes: int, n_blocks: int) -> None:
    with pytest.raises(ValueError, match=r"arena|block"):
        Port(0, 0, arena_bytes, n_blocks)


def test_a_pebble_with_more_transitions_than_a_ring_has_room_for_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="transition"):
        Flow(Pebble(4, 512, 300, 512), L1Recorder(Gather(), make().flow_table), -1)


def test_a_worker_that_is_gone_is_asked_nothing(bench: Bench) -> None:
    number = bench.add_worker(0)
    bench.begin()
    bench.flow.bury(number, 0)
    bench.flow.sweep_ports()
    assert not bench.flow.ask(number)
    assert bench.flow.drain(number) == (0, 0, False, 0)
    assert bench.flow.bury(number, 3) == 0
    bench.flow.assign(number, 5)
    assert bench.flow.replay(number, [CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE]) == 0
