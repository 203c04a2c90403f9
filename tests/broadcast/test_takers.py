"""Who has taken a set: offers to whoever asks, made again where they are not answered, and nothing for strangers. The clock is the test's."""

from __future__ import annotations

import pytest

from calib.broadcast.messages import Ask, Offer, Pending, Settled, Taken
from calib.broadcast.takers import Takers


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def takers(clock: Clock) -> Takers:
    made = Takers(repeat_s=1.0, clock=clock)
    made.expect("one", "worker 1")
    made.expect("two", "worker 2")
    return made


def offer(version: int, stamp: int) -> Offer:
    return Offer(version, stamp, f"{version:064d}", 5, 4096, ())


def test_who_asks_before_the_set_is_there_waits_and_gets_it_then(takers: Takers) -> None:
    takers.begin(10)
    assert takers.receive(b"1", Ask("one", 10)) == [(b"1", Pending(10))]
    assert takers.publish(offer(1, 10)) == [(b"1", offer(1, 10))]
    assert not takers.has("one")
    assert takers.receive(b"1", Taken("one", 1, offer(1, 10).digest)) == [(b"1", Settled(1))]
    assert takers.has("one")
    assert not takers.has("two")


def test_who_asks_late_gets_the_current_set_at_once(takers: Takers) -> None:
    takers.begin(10)
    takers.publish(offer(1, 10))
    takers.begin(20)
    takers.publish(offer(2, 20))
    assert takers.receive(b"1", Ask("one", 10)) == [(b"1", offer(2, 20))]
    assert takers.receive(b"2", Ask("two", 20)) == [(b"2", offer(2, 20))]


def test_who_asks_for_a_run_that_has_not_begun_here_waits_for_it(takers: Takers) -> None:
    takers.begin(10)
    takers.publish(offer(1, 10))
    assert not takers.early()
    assert takers.receive(b"1", Ask("one", 20)) == [(b"1", Pending(20))]
    assert takers.early()
    takers.begin(20)
    assert not takers.early()
    assert takers.publish(offer(2, 20)) == [(b"1", offer(2, 20))]


def test_an_offer_is_made_again_until_it_is_answered(takers: Takers, clock: Clock) -> None:
    takers.begin(10)
    takers.receive(b"1", Ask("one", 10))
    takers.publish(offer(1, 10))
    assert takers.due() == []
    clock.now_s += 1.5
    assert takers.due() == [(b"1", offer(1, 10))]
    assert takers.due() == []
    clock.now_s += 1.5
    assert takers.due() == [(b"1", offer(1, 10))]
    assert "3 times" in takers.story("one")
    assert takers.story("two") == "it never asked for them"
    takers.receive(b"1", Taken("one", 1, offer(1, 10).digest))
    clock.now_s += 1.5
    assert takers.due() == []


def test_a_wrong_acknowledgement_is_answered_with_the_offer(takers: Takers) -> None:
    takers.begin(10)
    takers.publish(offer(2, 10))
    for wrong in (Taken("one", 1, offer(2, 10).digest), Taken("one", 2, "f" * 64)):
        assert takers.receive(b"1", wrong) == [(b"1", offer(2, 10))]
    assert not takers.has("one")


def test_what_was_taken_before_does_not_count_for_the_next_run(takers: Takers) -> None:
    takers.begin(10)
    takers.publish(offer(1, 10))
    takers.receive(b"1", Taken("one", 1, offer(1, 10).digest))
    takers.begin(20)
    assert not takers.has("one")
    assert takers.story("one") == "it never asked for them"
    takers.publish(offer(2, 20))
    assert not takers.has("one")


def test_strangers_get_no_answer_and_are_counted(takers: Takers) -> None:
    takers.begin(10)
    takers.publish(offer(1, 10))
    takers.forget("two")
    assert takers.receive(b"9", Ask("nobody's", 10)) == []
    assert takers.receive(b"2", Taken("two", 1, offer(1, 10).digest)) == []
    assert takers.strangers == 2
    assert not takers.has("two")


def test_one_that_asks_again_from_elsewhere_is_answered_there(takers: Takers) -> None:
    takers.begin(10)
    takers.receive(b"1", Ask("one", 10))
    takers.receive(b"8", Ask("one", 10))
    assert takers.publish(offer(1, 10)) == [(b"8", offer(1, 10))]
