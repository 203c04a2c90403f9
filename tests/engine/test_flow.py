"""The flow, turned by hand: drp's end of the rings against a model of the worker's end."""

from collections.abc import Iterator

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
    fex,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_worker import LEFT, OVERFLOW, RAISED, REPLAY

from drp.core.failures import Failure
from drp.engine.complaint import read_failure
from drp.shm._block import encode_block


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_transitions_go_to_every_worker_and_wait_for_all(bench: Bench) -> None:
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.put(CONFIGURE)
    bench.turn()
    entries = [bench.workers[n].take() for n in (a, b)]
    assert [e.service for e in entries if e] == [CONFIGURE, CONFIGURE]
    bench.workers[a].answer(1)
    bench.turn()
    assert [n.kind for n in bench.notices] == [ANSWER]
    bench.workers[b].answer(1)
    bench.turn()
    assert [n.kind for n in bench.notices] == [ANSWER, ANSWER, BARRIER]


def test_an_answer_to_what_came_before_a_transition_does_not_count_for_it(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.begin()
    bench.notices.clear()
    bench.put(SLOW, b"slow")
    bench.put(DISABLE)
    bench.turn()
    worker = bench.workers[a]
    slow, disable = worker.take(), worker.take()
    assert slow and disable and (slow.service, disable.service) == (SLOW, DISABLE)
    worker.answer(slow.seq)
    bench.turn()
    assert [n.kind for n in bench.notices] == []
    worker.answer(disable.seq)
    bench.turn()
    assert [n.kind for n in bench.notices] == [ANSWER, BARRIER]


def test_a_worker_that_comes_late_is_asked_too_and_waited_for(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.put(CONFIGURE)
    bench.settle()
    bench.answer_all()
    bench.settle()
    bench.put(BEGIN_RUN)
    bench.turn()
    assert bench.flow.bury(a, 0) == 0
    del bench.workers[a]
    late = bench.add_worker(1, fed=False)
    bench.flow.replay(late, [CONFIGURE, BEGIN_RUN])
    assert bench.flow.answering == BEGIN_RUN
    assert bench.flow.ask(late)
    bench.notices.clear()
    bench.turn()
    worker = bench.workers[late]
    entries = [worker.take(), worker.take()]
    assert [(e.service, e.flags) for e in entries if e] == [(CONFIGURE, REPLAY), (BEGIN_RUN, 0)]
    worker.answer(0)
    bench.turn()
    assert BARRIER not in [n.kind for n in bench.notices]
    worker.answer(entries[1].seq)  # type: ignore[union-attr]
    bench.turn()
    assert bench.notices[-1].kind == BARRIER


def test_no_event_is_taken_before_the_enable_is_answered(bench: Bench) -> None:
    bench.add_worker(0)
    bench.batch.await_enable = True
    for service in (CONFIGURE, BEGIN_RUN, BEGIN_STEP):
        bench.put(service)
        bench.settle()
        bench.answer_all()
        bench.settle()
    bench.put(ENABLE)
    bench.settle()
    assert bench.batch.events_free == 0
    assert not bench.put(L1)
    bench.answer_all()
    bench.settle()
    assert bench.put(L1)


def test_an_idle_worker_gets_its_event_though_another_has_more_credit(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.begin()
    for _ in range(3):
        bench.put(L1)
        bench.turn()
        bench.answer_all()
        bench.settle()
    b = bench.add_worker(1)
    bench.put(L1)
    bench.put(L1)
    bench.turn()
    assert [bench.workers[n].take() is not None for n in (a, b)] == [True, True]


def test_results_are_recorded_in_source_order_whoever_is_first(bench: Bench) -> None:
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    for _ in range(2):
        bench.put(L1, b"raw")
    bench.settle()
    first, second = bench.workers[a].take(), bench.workers[b].take()
    assert first and second and {first.index, second.index} == {0, 1}
    later = bench.workers[b] if first.index == 0 else bench.workers[a]
    sooner = bench.workers[a] if first.index == 0 else bench.workers[b]
    later.answer(max(first.seq, second.seq), desc=fex(2)[0], data=fex(2)[1])
    bench.settle()
    assert [r[0] for r in bench.recorded()].count(L1) == 0
    sooner.answer(min(first.seq, second.seq), desc=fex(1)[0], data=fex(1)[1])
    bench.settle()
    times = [r[1] for r in bench.recorded()]
    assert times == sorted(times)
    assert [r[0] for r in bench.recorded()].count(L1) == 2


def test_only_the_event_in_hand_dies_with_its_worker(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.begin()
    for _ in range(2):
        bench.put(L1, b"raw")
    bench.settle()
    entry = bench.workers[a].take()
    assert entry is not None
    assert bench.flow.drain(a)[1:3] == (L1, False)
    assert bench.flow.bury(a, 3) == entry.seq
    bench.settle()
    assert bench.flow.load()["waiting"] == 1
    b = bench.add_worker(0, fed=False)
    bench.flow.replay(b, [CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE])
    bench.flow.open_port(b, True)
    bench.settle()
    services = []
    while (entry := bench.workers[b].take()) is not None:
        services.append((entry.service, entry.flags, entry.seq != 0))
        bench.workers[b].answer(entry.seq)
    assert services == [(s, REPLAY, False) for s in (CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE)] + [
        (L1, 0, True)
    ]
    bench.settle()
    assert [r[2] for r in bench.recorded() if r[0] == L1] == [3 << 12, 0]
    assert [n.kind for n in bench.notices].count(REPLAYED) == 2


def test_published_results_of_a_dead_worker_count(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.begin()
    bench.put(L1, b"raw")
    bench.settle()
    entry = bench.workers[a].take()
    assert entry is not None
    bench.workers[a].answer(entry.seq, desc=fex(5)[0], data=fex(5)[1])
    assert bench.flow.drain(a)[0] == 0
    assert bench.flow.bury(a, 3) == 0
    bench.settle()
    assert [r[2] for r in bench.recorded() if r[0] == L1] == [0]


def test_a_replacement_sees_the_slow_update_before_the_event_it_does(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.begin()
    bench.put(SLOW, b"first")
    bench.put(L1, b"raw")
    bench.put(SLOW, b"second")
    bench.put(L1, b"raw")
    bench.settle()
    b = bench.add_worker(1, fed=False)
    bench.flow.replay(b, [CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE])
    bench.flow.open_port(b, True)
    assert bench.flow.bury(a, 3) == 0
    bench.settle()
    seen = []
    memory = memoryview(bench.pebble.segment)
    while (entry := bench.workers[b].take()) is not None:
        if entry.service in (SLOW, L1):
            seen.append((entry.service, bytes(memory[entry.offset + 36 : entry.offset + entry.size])))
        bench.workers[b].answer(entry.seq)
    assert seen == [(SLOW, b"first"), (L1, b"raw"), (SLOW, b"second"), (L1, b"raw")]
    bench.settle()
    assert [r[0] for r in bench.recorded()][-4:] == [SLOW, L1, SLOW, L1]


@pytest.mark.parametrize("status", [RAISED, LEFT])
def test_a_failed_script_damages_its_event_and_is_reported(bench: Bench, status: int) -> None:
    a = bench.add_worker(3)
    bench.begin()
    bench.put(L1, b"raw")
    bench.settle()
    entry = bench.workers[a].take()
    assert entry is not None
    bench.workers[a].answer(entry.seq, status, desc=encode_block(json=b'{"kind": "ValueError"}')[0])
    bench.settle()
    notice = bench.notices[-1]
    assert (notice.kind, notice.port, notice.seq, notice.service) == (FAILED, a, entry.seq, L1)
    assert b"ValueError" in bytes(notice.block)
    cause = notice.cause
    assert cause == {RAISED: 1, LEFT: 6}[status]
    assert bench.recorded()[-1][2] == cause << 12


def test_an_overflow_keeps_raw_and_the_worker(bench: Bench) -> None:
    a = bench.add_worker(0)
    bench.begin()
    bench.put(L1, b"raw")
    bench.put(L1, b"raw")
    bench.settle()
    worker = bench.workers[a]
    worker.answer(worker.take().seq, OVERFLOW)  # type: ignore[union-attr]
    worker.answer(worker.take().seq)  # type: ignore[union-attr]
    bench.settle()
    assert [r[2] for r in bench.recorded() if r[0] == L1] == [4 << 12 | 1, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w, e: w.answer(e.seq + 1),
        lambda w, e: w.set_out_head(w.out_head + 5),
        lambda w, e: w.set_out_head((1 << 64) - 1),
        lambda w, e: w.answer_raw(e.seq, 4000, 200, 16, 0),
        lambda w, e: w.answer_raw(e.seq, 1 << 60, 64, 16, 0),
        lambda w, e: w.answer_raw(e.seq, 0, 64, 65, 0),
        lambda w, e: w.answer_raw(e.seq, 0, 0xFFFFFFFF, 16, 0),
        lambda w, e: w.answer(e.seq, desc=b"\xff" * 64),
        lambda w, e: w.answer(e.seq, status=77),
    ],
)
def test_nonsense_damages_one_event_and_costs_the_worker_its_place(bench: Bench, wrong) -> None:  # type: ignore[no-untyped-def]
    a = bench.add_worker(0)
    bench.begin()
    bench.put(L1, b"raw")
    bench.put(L1, b"raw")
    bench.settle()
    worker = bench.workers[a]
    wrong(worker, worker.take())
    bench.settle()
    assert [(n.kind, n.cause) for n in bench.notices][-1] == (FAILED, 5)
    bench.flow.drain(a)
    bench.flow.bury(a, 5)
    bench.flow.pass_raw = True
    bench.settle()
    assert [r[2] >> 12 for r in bench.recorded() if r[0] == L1] == [5, 7]


@pytest.mark.parametrize("service", [CONFIGURE, L1])
def test_an_answer_of_a_status_that_is_none_is_told_as_that(bench: Bench, service: int) -> None:
    a = bench.add_worker(0)
    if service == L1:
        bench.begin()
    bench.put(service)
    bench.turn()
    worker = bench.workers[a]
    while (entry := worker.take()) and entry.service != service:
        worker.answer(entry.seq)
    assert entry is not None
    worker.answer(entry.seq, status=77)
    bench.turn()
    failure, report = read_failure(next(one for one in bench.notices if one.kind == FAILED))
    assert (failure, report.message) == (Failure.NONSENSE, "its answer has an unknown status")


def test_a_full_arena_of_later_results_does_not_block_an_earlier_event() -> None:
    bench = Bench(n_events=16, arena_bytes=1024)
    a, b = bench.add_worker(0), bench.add_worker(1)
    bench.begin()
    bench.flow.open_port(b, False)
    bench.put(L1, b"raw")  # goes to a, which dies with it queued
    bench.settle()
    bench.flow.open_port(a, False)
    bench.flow.open_port(b, True)
    for _ in range(4):
        bench.put(L1, b"raw")
        bench.settle()
        entry = bench.workers[b].take()
        assert entry is not None
        desc, data = fex(entry.index)
        bench.workers[b].answer(entry.seq, desc=desc, data=data)
    bench.settle()
    assert bench.flow.bury(a, 3) == 0
    bench.settle()
    entry = bench.workers[b].take()
    assert entry is not None and entry.index == 0
    bench.workers[b].set_state(2)
    tail = bench.workers[b].arena_tail
    bench.settle()
    assert bench.workers[b].arena_tail > tail
    bench.workers[b].set_state(0)
    bench.workers[b].answer(entry.seq)
    bench.settle()
    events = [r for r in bench.recorded() if r[0] == L1]
    assert len(events) == 5
    assert [r[1] for r in events] == sorted(r[1] for r in events)
    bench.close()


def test_without_workers_raw_passes_damaged(bench: Bench) -> None:
    bench.add_worker(0)
    bench.begin()
    assert bench.flow.bury(0, 3) == 0
    bench.flow.pass_raw = True
    bench.put(L1, b"raw")
    bench.settle()
    assert bench.recorded()[-1][2] == 7 << 12
    assert bench.flow.counts()["drp"][2][7] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=120), st.randoms(use_true_random=False))
def test_every_event_is_recorded_once_and_in_order_whatever_happens(script: list[int], random) -> None:  # type: ignore[no-untyped-def]
    """A model run: events, slow updates, answers, failures and deaths in any order, replacements at once."""
    bench = Bench(n_events=6, arena_bytes=1024)
    alive = [bench.add_worker(0), bench.add_worker(1)]
    bench.begin()
    source: list[tuple[int, int]] = []
    blamed: set[int] = set()
    in_hand: dict[int, object] = {}

    def replace(number: int) -> None:
        bench.flow.drain(number)
        lost = bench.flow.bury(number, 3)
        if lost > 0:
            blamed.add(lost)
        in_hand.pop(number, None)
        del bench.workers[number]
        alive.remove(number)
        fresh = bench.add_worker(len(alive), fed=False)
        bench.flow.replay(fresh, [CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE])
        bench.flow.open_port(fresh, True)
        alive.append(fresh)

    def step(number: int) -> None:
        worker = bench.workers[number]
        if number not in in_hand:
            entry = worker.take()
            if entry is not None:
                in_hand[number] = entry
            return
        entry = in_hand.pop(number)
        desc, data = fex(entry.index) if entry.service == L1 else (b"", b"")  # type: ignore[attr-defined]
        if desc and not worker.arena_room(len(desc) + len(data)):
            desc = data = b""
        worker.answer(entry.seq, desc=desc, data=data)  # type: ignore[attr-defined]

    for act in script:
        if act <= 2 and bench.put(L1, b"raw"):
            source.append((L1, bench.time))
        elif act == 3 and bench.put(SLOW, b"slow"):
            source.append((SLOW, bench.time))
        elif act in (4, 5, 6, 7):
            step(random.choice(alive))
        elif act == 8:
            replace(random.choice(alive))
        bench.settle()
        bench.notices = [n for n in bench.notices if n.kind == BARRIER]
    for _ in range(4000):
        if bench.flow.record_next == bench.flow.submit_next:
            break
        for number in list(alive):
            step(number)
        bench.settle()
    recorded = [r for r in bench.recorded() if r[0] in (L1, SLOW)]
    assert [(r[0], r[1]) for r in recorded] == source
    assert sum(1 for r in recorded if r[2]) == len(blamed)
    bench.flow.sweep_ports()
    assert bench.flow.load()["slots_used"] == bench.batch.events_free
    bench.close()
