"""The copies that the recorder's thread makes for mebs: what is in them, what is dropped, and that nothing waits."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from flow_bench import L1, SLOW, Bench, dgram, fex
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.core import wire
from drp.engine._copies import CopyRing

HOLE = 32
BOTH = 0b11


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def copying(bench: Bench, capacity: int = 1 << 16, mebs: int = 1, grant: int = 1000) -> CopyRing:
    ring = CopyRing(bench.notify, capacity, 1024)
    ring.always = mebs
    for meb in range(4):
        ring.stop(meb)
        if mebs >> meb & 1:
            ring.grant(meb, grant)
    bench.flow.copy_to(ring)
    return ring


def taken(ring: CopyRing) -> list[bytes]:
    """Take everything, as dgrams."""
    out = []
    while (copy := ring.take()) is not None:
        out.append(bytes(copy.frame[HOLE:]))
        ring.release()
    return out


def events(bench: Bench, n: int, payload: bytes = b"raw") -> None:
    for _ in range(n):
        assert bench.put(L1, payload)
        bench.settle()
        bench.answer_all()
        bench.settle()


def test_a_copy_is_the_dgram_as_it_was_recorded(bench: Bench) -> None:
    ring = copying(bench)
    number = bench.add_worker(0)
    bench.begin()
    bench.put(L1, b"raw data")
    bench.settle()
    entry = bench.workers[number].take()
    assert entry is not None
    desc, data = fex(7)
    bench.workers[number].answer(entry.seq, desc=desc, data=data)
    bench.settle()
    copy = ring.take()
    assert copy is not None and (copy.seq, copy.mebs) == (entry.seq, 1)
    assert taken(ring) == [one for one in bench.dgrams() if one[11] & 15 == L1]


def test_slow_updates_go_to_all_mebs_in_order_with_the_events(bench: Bench) -> None:
    ring = copying(bench)
    bench.add_worker(0)
    bench.begin()
    events(bench, 1)
    bench.put(SLOW, b"slow")
    events(bench, 1)
    found = []
    while (copy := ring.take()) is not None:
        found.append((copy.frame[HOLE + 11] & 15, copy.mebs))
        ring.release()
    assert found == [(L1, 1), (SLOW, 15), (L1, 1)]


def test_without_credit_an_event_is_dropped_for_that_meb_alone_and_counted(bench: Bench) -> None:
    ring = copying(bench, mebs=BOTH, grant=2)
    ring.grant(1, 5)
    bench.add_worker(0)
    bench.begin()
    events(bench, 4)
    found = []
    while (copy := ring.take()) is not None:
        found.append(copy.mebs)
        ring.release()
    assert found == [BOTH, BOTH, 2, 2]
    assert ring.counts() == {"offered": [2, 4, 0, 0], "dropped": [2, 0, 0, 0], "lost": 0}


def test_a_full_ring_drops_events_keeps_room_for_slow_updates_and_holds_nothing_up(bench: Bench) -> None:
    ring = copying(bench, capacity=4096)
    bench.add_worker(0)
    bench.begin()
    events(bench, 30, b"x" * 400)
    bench.put(SLOW, b"y" * 400)
    events(bench, 1)
    counts = ring.counts()
    found = taken(ring)
    assert len(bench.recorded()) == 4 + 32
    assert counts["dropped"][0] + counts["offered"][0] == 31 and counts["dropped"][0] > 10
    assert [one[11] & 15 for one in found].count(SLOW) == 1 and counts["lost"] == 0
    events(bench, 1)
    assert len(taken(ring)) == 1


def test_a_meb_that_was_stopped_is_told_where_its_next_session_begins(bench: Bench) -> None:
    ring = copying(bench)
    bench.add_worker(0)
    bench.begin()
    events(bench, 2)
    begins = ring.stop(0)
    events(bench, 1)
    ring.grant(0, 1)
    events(bench, 2)
    positions = []
    while ring.take() is not None:
        positions.append(ring.position >= begins)
        ring.release()
    assert positions == [False, False, True]


def test_who_sleeps_is_woken_by_a_copy_and_only_then(bench: Bench) -> None:
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    ring = CopyRing(bell, 4096, 0)
    ring.always = 1
    ring.grant(0, 9)
    bench.flow.copy_to(ring)
    bench.add_worker(0)
    bench.begin()
    assert ring.sleep()
    events(bench, 1)
    assert os.eventfd_read(bell) == 1
    ring.wake()
    assert not ring.sleep()
    events(bench, 1)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    os.close(bell)


def test_the_verdict_says_who_gets_an_event_recorded_or_not() -> None:
    bench, bell = Bench(trigger=0), os.eventfd(0, os.EFD_NONBLOCK)
    try:
        bench.flow.judge(1, bell)
        bench.flow.set_words(4)
        ring = copying(bench, mebs=0)
        for meb in range(4):
            ring.grant(meb, 9)
        bench.add_worker(0)
        bench.begin()
        mask_of = {"none": 0, "first": 1 << 2, "others": 0b1110 << 2}
        results = [keep | mask for keep in (0, wire.PERSIST) for mask in mask_of.values()]
        first = bench.flow.submit_next
        for number in range(len(results)):
            assert bench.put(L1, bytes([number]) * 20, groups=1)
            bench.settle()
            bench.answer_all()
            bench.settle()
        verdicts = [(first + k, 0, result, 0, 0) for k, result in enumerate(results)]
        bench.flow.take_contributions()
        assert bench.flow.give_verdicts(np.array(verdicts, wire.VERDICT), True) == len(results)
        bench.settle()
        found = []
        while (copy := ring.take()) is not None:
            found.append((copy.seq - first, copy.mebs, copy.result, bytes(copy.frame[-20:])))
            ring.release()
        expected = [(k, result >> 2 & 15, result) for k, result in enumerate(results) if result >> 2]
        assert found == [(k, mebs, result, bytes([k]) * 20) for k, mebs, result in expected]
        assert len(bench.recorded()) == 4 + 3
    finally:
        bench.close()
        os.close(bell)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=40))
def test_whatever_the_sizes_what_is_taken_is_what_was_put_in_order(steps: list[tuple[bool, int]]) -> None:
    bench = Bench()
    try:
        ring = copying(bench, capacity=2048)
        bench.add_worker(0)
        bench.begin()
        put, got, dropped = [], [], 0
        for take, size in steps:
            if take:
                got += taken(ring)
                continue
            payload = bytes([len(put) % 251]) * size
            events(bench, 1, payload)
            now = ring.counts()["dropped"][0]
            if now == dropped:
                put.append(dgram(L1, bench.time, payload))
            dropped = now
        assert got + taken(ring) == put
    finally:
        bench.close()
