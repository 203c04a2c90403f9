"""Dealing: order, stamps, slots that run out, and that what our own batch gets is what any other gets."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
import pytest

from drp.core import beam, wire
from drp.core.transitions import Sequencer
from drp.engine._flow import Flow
from drp.shm._block import NamesTable
from drp.shm._pebble import Pebble, SlotBatch
from drp.sink._gather import Gather
from drp.sink._l1 import L1Recorder
from drp.source._deck import Deck
from xtc import Alg, DataType, Dgram, Field, Names, TransitionId, encode_dgram

L1, SLOW = TransitionId.L1Accept, TransitionId.SlowUpdate
PLENTY = 1 << 40


def dgrams(*services: TransitionId) -> list[bytes]:
    """Dgrams of growing sizes, stamped 1 s, 2 s, ..., each but the first with one child of an unknown type."""
    children = [struct.pack("<IHHI", 0, 0, 9, 12 + 4 * k) + bytes(4 * k) for k in range(len(services))]
    return [encode_dgram(one, k + 1 << 32 | 7, [children[k]] if k else []) for k, one in enumerate(services)]


def deck_of(made: list[bytes], pulse_ids: list[int] | None = None) -> Deck:
    sizes = np.array([len(one) for one in made], np.uint64)
    offsets = np.concatenate((np.zeros(1, np.uint64), np.cumsum(sizes)[:-1])).astype(np.uint64)
    pulses = np.array(pulse_ids or [0] * len(made), np.uint64)
    return Deck([b"".join(made)], np.zeros(len(made), np.uint64), offsets, sizes, pulses)


def test_an_unlooped_deck_gives_every_dgram_once_as_it_is(make_basket: Any) -> None:
    made = dgrams(TransitionId.Configure, L1, SLOW, L1, TransitionId.EndRun)
    deck, basket = deck_of(made, [0, 11, 12, 13, 0]), make_basket()
    assert deck.deal(basket, PLENTY, PLENTY) == 5
    assert basket.dgrams == made
    assert basket.pulse_ids == [0, 11, 12, 13, 0]
    assert deck.done
    assert deck.deal(basket, PLENTY, PLENTY) == 0


def test_only_as_many_events_go_as_may_but_transitions_before_them_go(make_basket: Any) -> None:
    deck, basket = deck_of(dgrams(TransitionId.Configure, L1, SLOW, L1, L1)), make_basket()
    assert deck.deal(basket, 0, PLENTY) == 1
    assert deck.next_is_event
    assert deck.deal(basket, 2, PLENTY) == 3
    assert deck.events == 2
    assert basket.services == [2, 12, 10, 12]


def test_a_deal_ends_after_enough_bytes(make_basket: Any) -> None:
    deck, basket = deck_of(dgrams(*[L1] * 10)), make_basket()
    assert deck.deal(basket, PLENTY, 1) == 1
    assert deck.deal(basket, PLENTY, 24 + 4 + 24 + 8) == 2


def test_without_a_slot_the_same_dgram_is_offered_again(make_basket: Any) -> None:
    made = dgrams(L1, SLOW, L1, L1)
    deck, small = deck_of(made), make_basket(events=1, transitions=0)
    assert deck.deal(small, PLENTY, PLENTY) == 1
    assert deck.deal(small, PLENTY, PLENTY) == 0
    rest = make_basket()
    assert deck.deal(rest, PLENTY, PLENTY) == 3
    assert small.dgrams + rest.dgrams == made


def test_a_loop_repeats_its_part_later_by_its_span(make_basket: Any) -> None:
    made = dgrams(TransitionId.Configure, TransitionId.Enable, L1, SLOW, L1)
    deck, basket = deck_of(made), make_basket(events=5)
    times = np.array([1, 2, 3, 4, 5], np.uint64) * np.uint64(10**9)
    deck.loop(2, 5, times, np.array([0, 0, 100, 0, 120], np.uint64), 3 * 10**9, 40)
    deck.deal(basket, 5, PLENTY)
    assert basket.services == [2, 8, 12, 10, 12, 12, 10, 12, 12, 10]
    assert basket.times_ns == [k * 10**9 for k in range(1, 11)]
    assert basket.pulse_ids == [0, 0, 100, 0, 120, 140, 0, 160, 180, 0]
    assert deck.lap == 2
    assert not deck.done


def test_stamping_by_event_is_what_beam_says(make_basket: Any) -> None:
    deck, basket = deck_of(dgrams(L1, L1, L1)), make_basket(events=1000)
    pulse0 = beam.ORIGIN_PULSE + 5
    deck.tick(pulse0, 929, beam.ORIGIN_PULSE, beam.ORIGIN_NS)
    deck.deal(basket, 500, PLENTY)
    later = pulse0 + 10**9
    deck.tick(later, 929, beam.ORIGIN_PULSE, beam.ORIGIN_NS)
    deck.deal(basket, 500, PLENTY)
    pulses = [pulse0 + 929 * k for k in range(500)] + [later + 929 * k for k in range(500, 1000)]
    assert basket.pulse_ids == pulses
    assert basket.timestamps == [beam.timestamp(pulse) for pulse in pulses]


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 23), (1, 28), (1 << 63, 24), (0, 1 << 63), (4, (1 << 64) - 2), (0, 25)]
)
def test_a_dgram_outside_its_buffer_is_refused(offset: int, size: int) -> None:
    one = np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match="dgram 0"):
        Deck([dgrams(L1)[0]], one, np.array([offset], np.uint64), np.array([size], np.uint64), one)


def test_a_loop_outside_the_deck_is_refused() -> None:
    deck = deck_of(dgrams(L1, L1))
    two = np.zeros(2, np.uint64)
    for first, stop in ((-1, 1), (1, 1), (0, 3)):
        with pytest.raises(ValueError, match="loop"):
            deck.loop(first, stop, two, two, 1, 1)
    with pytest.raises(ValueError, match="times"):
        deck.loop(0, 2, two[:1], two, 1, 1)


class Pool:
    """A real pebble, and a batch that has all its slots; `size_bytes` an odd number of cache lines, so that it is the stride too."""

    def __init__(self, events: int, transitions: int, size_bytes: int) -> None:
        names = Names(1, "d", "d", "", 0, Alg("raw"), (Field("x", DataType.UINT8),))
        self.pebble = Pebble(events, size_bytes, transitions, size_bytes)
        self.notify = os.eventfd(0, os.EFD_NONBLOCK)
        flow = Flow(self.pebble, L1Recorder(Gather(), NamesTable([names])), self.notify)
        self.batch = SlotBatch(self.pebble, Sequencer("test"))
        flow.hand_in(self.batch, 0, 0)
        self.stride = size_bytes

    def held(self) -> list[bytes]:
        """What lies in the slots, in the order of time."""
        view = memoryview(self.pebble.segment)
        used = [at for at in range(0, len(view), self.stride) if any(view[at : at + 24])]
        return [bytes(one) for one in sorted((Dgram(view, at) for at in used), key=lambda one: one.timestamp)]


def test_a_real_batch_gets_what_any_batch_gets(make_basket: Any) -> None:
    head = [TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable]
    made = dgrams(*head, L1, SLOW, L1, L1)
    times = np.arange(1, 9, dtype=np.uint64) * np.uint64(10**9)
    decks = [deck_of(made), deck_of(made)]
    for deck in decks:
        deck.loop(4, 8, times, np.zeros(8, np.uint64), 4 * 10**9, 0)
    pool, basket = Pool(12, 32, 192), make_basket(events=12)
    decks[0].deal(basket, PLENTY, PLENTY)
    try:
        put = decks[1].deal(pool.batch, PLENTY, PLENTY)
        assert put == len(basket.dgrams)
        assert pool.batch.events_free == 0
        assert [raw[8:] for raw in pool.held()] == [raw[8:] for raw in basket.dgrams]
        assert pool.held() == basket.dgrams
    finally:
        os.close(pool.notify)


def triggers(*pulses: int, env: int = L1 << 24 | wire.KEEP_RAW | 0x21) -> np.ndarray:
    out = np.zeros(len(pulses), wire.TRIGGER)
    out["pulse_id"], out["timestamp"], out["env"] = pulses, [beam.timestamp(one) for one in pulses], env
    return out.view(np.uint8)


def test_a_real_batch_gets_the_stamps_of_triggers_as_any_batch_does(make_basket: Any) -> None:
    head = dgrams(TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable)
    made = dgrams(L1, L1, L1)
    stamps = triggers(*(beam.ORIGIN_PULSE + n for n in range(1, 6)))
    pool, basket = Pool(4, 32, 192), make_basket(events=4)
    try:
        for slots, deck in ((basket, deck_of(made)), (pool.batch, deck_of(made))):
            deck.turn()
            assert all(slots.put(one) for one in head)
            assert deck.follow(slots, stamps, 1, 1) == 1, "enough was copied"
            assert deck.follow(slots, stamps, 2, PLENTY) == 3
            assert deck.follow(slots, stamps, 4, PLENTY) == 0
            deck.rewind()
            assert deck.position == 0
        assert pool.held() == basket.dgrams
        assert [one[8:12] for one in basket.dgrams[4:]] == [struct.pack("<I", L1 << 24 | 1 << 22 | 0x21)] * 4
        assert [one[24:] for one in basket.dgrams[4:]] == [made[n % 3][24:] for n in range(4)]
        assert basket.pulse_ids[4:] == [beam.ORIGIN_PULSE + n for n in range(2, 6)]
    finally:
        os.close(pool.notify)


def test_only_events_follow_triggers_and_only_triggers_that_are_there(make_basket: Any) -> None:
    deck = deck_of(dgrams(SLOW, L1))
    with pytest.raises(ValueError, match="trigger 0 of 1"):
        deck.follow(make_basket(), triggers(1), 0, PLENTY)
    deck.turn()
    with pytest.raises(ValueError, match="no L1Accept"):
        deck.follow(make_basket(), triggers(1), 0, PLENTY)
    with pytest.raises(ValueError, match="trigger 2 of 1"):
        deck.follow(make_basket(), triggers(1), 2, PLENTY)
