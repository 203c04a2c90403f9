"""The event builder, one promise at a time."""

import numpy as np
import pytest

from drp.core import wire
from drp.core._builder import EventBuilder
from drp.core.building import Answer, Batch, Transition

TIMEOUT = 100
L1, SLOW, DISABLE = 12, 10, 9
COMMON = 1
SECOND = 2
DROPPED, OUT_OF_ORDER = 16, 2
FAR = 1 << 50


def said(*pulses: int, env: int = COMMON, seq: int = 0, service: int = L1) -> bytes:
    """Contributions without words; the sequence number is the pulse id unless one is given."""
    return np.array(
        [(seq or p, p, p * 10, env | service << 24, 0, 0) for p in pulses], wire.CONTRIBUTION
    ).tobytes()


def builder(*groups: int, window: int = 16, max_events: int = 0) -> EventBuilder:
    return EventBuilder(dict(enumerate(groups)), TIMEOUT, 4 * TIMEOUT, window, max_events)


def put(
    build: EventBuilder, contributor: int, *pulses: int, now: int = 0, env: int = COMMON, seq: int = 0
) -> None:
    assert build.add(contributor, said(*pulses, env=env, seq=seq), len(pulses), 32, now) == len(pulses)


def built(build: EventBuilder) -> list[tuple[int, int]]:
    """Take everything: pulse id and damage of each event."""
    out = []
    while isinstance(batch := build.take(), Batch):
        out += batch.events[["pulse_id", "damage"]].tolist()
    return out


def answers(build: EventBuilder, contributor: int) -> list[tuple[int, int, int]]:
    """Sequence number, result and flags of each verdict."""
    return np.frombuffer(build.verdicts(contributor), wire.VERDICT)[["seq", "result", "flags"]].tolist()


def test_an_event_is_built_when_all_of_its_readout_groups_have_come() -> None:
    build = builder(0, 0, 1)
    put(build, 0, 1, 2, env=COMMON)
    assert build.take() is None
    put(build, 1, 1, 2, env=COMMON)
    assert built(build) == [(1, 0), (2, 0)]
    put(build, 0, 3, env=COMMON | SECOND)
    put(build, 1, 3, env=COMMON | SECOND)
    assert build.take() is None
    put(build, 2, 3, env=COMMON | SECOND)
    assert built(build) == [(3, 0)]


def test_who_has_said_a_later_pulse_id_is_waited_for_no_longer() -> None:
    build = builder(0, 0)
    put(build, 0, 1, 2)
    put(build, 1, 2)
    assert built(build) == [(1, DROPPED), (2, 0)]


def test_a_newer_complete_event_forces_no_older_one_out() -> None:
    build = builder(0, 0, 1)
    put(build, 0, 1, env=COMMON | SECOND)
    put(build, 1, 1, env=COMMON | SECOND)
    put(build, 0, 2)
    put(build, 1, 2)
    assert build.take() is None
    put(build, 2, 1, env=COMMON | SECOND)
    assert built(build) == [(1, 0), (2, 0)]


def test_an_event_is_waited_for_no_longer_than_the_time_out() -> None:
    build = builder(0, 0)
    put(build, 0, 1, now=5)
    put(build, 0, 2, now=50)
    assert build.next_due_ns == 5 + TIMEOUT
    build.expire(5 + TIMEOUT - 1)
    assert build.take() is None
    build.expire(5 + TIMEOUT)
    assert built(build) == [(1, DROPPED)]
    assert build.next_due_ns == 50 + TIMEOUT


def test_who_comes_late_is_given_the_verdict_that_was_made() -> None:
    build = builder(0, 0)
    put(build, 0, 1, 2)
    build.expire(TIMEOUT)
    assert len(built(build)) == 2
    build.judge(np.array([4], np.uint32))
    put(build, 1, 1, 2, now=TIMEOUT)
    assert answers(build, 1) == [(1, 4, Answer.late)]
    build.judge(np.array([8], np.uint32))
    assert answers(build, 0) == [(1, 4, 0), (2, 8, 0)]
    assert answers(build, 1) == [(2, 8, Answer.late)]
    assert build.counts()["late"] == 2


def test_a_repeated_contribution_is_answered_like_the_first() -> None:
    build = builder(0, 0)
    put(build, 0, 1)
    put(build, 0, 1, seq=77)
    put(build, 1, 1)
    assert built(build) == [(1, 0)]
    build.judge(np.array([2], np.uint32))
    verdicts = np.frombuffer(build.verdicts(0), wire.VERDICT)
    assert verdicts[["seq", "result", "damage", "flags"]].tolist() == [
        (1, 2, 0, 0),
        (77, 2, OUT_OF_ORDER, Answer.late),
    ]


def test_a_clock_that_jumps_ahead_holds_nobody_up_and_is_not_waited_on_twice() -> None:
    build = builder(0, 0)
    put(build, 0, FAR)
    for pulse in range(1, 9):
        put(build, 1, pulse)
    assert built(build) == [(pulse, DROPPED) for pulse in range(1, 9)]
    build.expire(TIMEOUT)
    assert built(build) == [(FAR, DROPPED)]
    assert build.counts_of(0)["astray"]
    put(build, 0, FAR + 1, now=TIMEOUT)
    assert built(build) == [(FAR + 1, DROPPED)]
    put(build, 0, 9, now=TIMEOUT)
    assert build.take() is None
    put(build, 1, 9, now=TIMEOUT)
    assert built(build) == [(9, OUT_OF_ORDER)]
    assert not build.counts_of(0)["astray"]


def test_a_stopped_contributor_makes_nobody_look_astray() -> None:
    build = builder(0, 0, 0)
    for pulse in range(1, 5):
        put(build, 0, pulse, now=pulse)
        put(build, 1, pulse, now=pulse)
    build.expire(2 * TIMEOUT)
    assert built(build) == [(pulse, DROPPED) for pulse in range(1, 5)]
    assert not build.counts_of(0)["astray"]
    put(build, 2, 1, 2, 3, 4, 5, now=2 * TIMEOUT)
    put(build, 0, 5, now=2 * TIMEOUT)
    put(build, 1, 5, now=2 * TIMEOUT)
    assert built(build) == [(5, 0)]


def test_a_clock_that_goes_back_is_told_and_goes_on() -> None:
    build = builder(0)
    put(build, 0, 5, 6)
    put(build, 0, 2, 3)
    assert built(build) == [(5, 0), (6, 0), (2, OUT_OF_ORDER), (3, 0)]
    assert build.counts()["out_of_order"] == 1


def test_a_transition_waits_for_all_and_parts_the_batches() -> None:
    build = builder(0, 1)
    put(build, 0, 1)
    assert build.add_transition(0, said(2, service=DISABLE), 0)
    put(build, 0, 3)
    assert built(build) == [(1, 0)]
    assert build.take() is None
    assert build.next_service is None
    assert build.add_transition(1, said(2, service=DISABLE), 0)
    assert build.next_service == DISABLE
    assert build.take(0) == Transition(DISABLE, 2, 20, COMMON | DISABLE << 24, (0, 1), ())
    assert build.next_service == L1
    assert build.take(0) is None
    assert built(build) == [(3, 0)]


def test_an_incomplete_transition_says_who_is_missing_and_a_slow_update_waits_no_longer_than_an_event() -> (
    None
):
    build = builder(0, 0)
    build.add_transition(0, said(1, service=SLOW), 0)
    build.add_transition(0, said(2, service=DISABLE), 0)
    build.expire(TIMEOUT)
    slow = build.take()
    assert isinstance(slow, Transition)
    assert (slow.service, slow.missing) == (SLOW, (1,))
    build.expire(4 * TIMEOUT - 1)
    assert build.take() is None
    build.expire(4 * TIMEOUT)
    disable = build.take()
    assert isinstance(disable, Transition)
    assert disable.missing == (1,)


def test_who_is_gone_is_waited_for_again_once_it_is_back() -> None:
    build = builder(0, 0)
    put(build, 0, 1)
    build.gone(1)
    assert built(build) == [(1, 0)]
    put(build, 1, 2)
    assert answers(build, 1) == [(2, wire.PERSIST, Answer.unasked)]
    build.back(1)
    put(build, 0, 3)
    assert build.take() is None
    put(build, 1, 3)
    assert built(build) == [(3, 0)]


def test_who_begins_anew_is_given_no_verdict_of_before() -> None:
    build = builder(0)
    put(build, 0, 1, 2)
    assert len(built(build)) == 2
    build.judge(np.array([2], np.uint32))
    build.back(0)
    build.judge(np.array([2], np.uint32))
    assert answers(build, 0) == []
    assert build.counts()["undelivered"] == 2


def test_a_contributor_has_no_more_without_verdict_than_its_window() -> None:
    build = builder(0, window=3)
    assert build.add(0, said(1, 2, 3, 4), 4, 32, 0) == 3
    assert len(built(build)) == 3
    assert build.add(0, said(4), 1, 32, 0) == 0
    build.judge(np.array([2], np.uint32))
    assert build.add(0, said(4), 1, 32, 0) == 0
    assert len(answers(build, 0)) == 1
    assert build.add(0, said(4), 1, 32, 0) == 1


def test_a_full_table_takes_what_it_waits_for_and_frees_itself_by_the_time_out() -> None:
    build = builder(0, 0, max_events=2)
    assert build.add(0, said(1, 2, 3), 3, 32, 0) == 2
    assert build.add(1, said(1, 2), 2, 32, 0) == 2
    assert len(built(build)) == 2
    assert build.add(0, said(3), 1, 32, 0) == 0
    build.judge(np.zeros(2, np.uint32))
    assert build.add(0, said(3, 4, 5), 3, 32, 0) == 2
    build.expire(TIMEOUT)
    assert len(built(build)) == 2


def test_there_is_room_for_all_windows_of_as_many_contributors_as_there_may_be() -> None:
    build = EventBuilder(dict.fromkeys(range(64), 0), TIMEOUT)
    for contributor in range(64):
        put(build, contributor, *range(1, 101))
    batch = build.take()
    assert isinstance(batch, Batch)
    assert set(batch.events["present"].tolist()) == {(1 << 64) - 1}
    put(build, 0, *range(10_000, 13_900))
    put(build, 1, *range(20_000, 23_900))
    assert build.n_pending == 7800


def test_words_are_given_out_as_declared() -> None:
    build = builder(0, 0)
    build.declare(0, 48)
    row = np.zeros(40, np.uint8)
    row[:32] = np.frombuffer(said(1), np.uint8)
    row[32:] = 7
    assert build.add(0, row, 1, 40, 0) == 1
    assert build.add(1, row, 1, 40, 0) == 1
    batch = build.take()
    assert isinstance(batch, Batch)
    assert [rows.shape for rows in batch.rows] == [(1, 48), (1, 32)]
    assert batch.rows[0][0].tolist() == [*row.tolist(), *[0] * 8]


@pytest.mark.parametrize(
    "call",
    [
        lambda build: build.add(0, bytes(40), 1, 32, 0),
        lambda build: build.add(0, bytes(31), 1, 31, 0),
        lambda build: build.add(0, bytes(1 << 17), 1, 1 << 17, 0),
        lambda build: build.add_transition(0, bytes(40), 0),
        lambda build: build.declare(0, 8),
        lambda build: build.judge(np.zeros(1, np.uint32)),
        lambda build: build.take(-1),
        lambda build: EventBuilder({}, 1),
        lambda build: EventBuilder({64: 0}, 1),
        lambda build: EventBuilder({0: 16}, 1),
        lambda build: EventBuilder({0: 0}, 1, 1, 0),
    ],
)
def test_calls_that_make_no_sense_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    build = builder(0)
    put(build, 0, 1)
    with pytest.raises((ValueError, KeyError)):
        call(build)
    assert built(build) == [(1, 0)]


def test_an_unknown_contributor_is_refused() -> None:
    with pytest.raises(KeyError, match="no contributor 3"):
        builder(0).add(3, said(1), 1, 32, 0)
