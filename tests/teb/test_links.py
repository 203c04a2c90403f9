"""A teb's links with real sockets: contributors that come late, twice, or not at all, and those that are none."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from drp.core import wire
from drp.core.batch import Contributor
from drp.core.building import Answer
from drp.core.wire import Header, Kind
from xtc import TransitionId

WORDS = [("npeaks", "UINT32")]
PEAKS = np.dtype([("npeaks", "<u4")])
PERSIST, PRESCALE = wire.PERSIST, wire.PRESCALE
DROPPED, OUT_OF_ORDER = 16, 2
TWO = [Contributor(0, "epix_0", 0), Contributor(7, "hsd_0", 0)]


def peaks(*values):
    return np.array([(one,) for one in values], PEAKS)


@pytest.fixture
def pair(serve, join):
    """A teb with two contributors that have said Configure."""

    def make(**options):
        served = serve(TWO, **options)
        a, b = join(served), join(served, 7, "hsd_0")
        for one in (a, b):
            one.hello()
            one.configure(1, WORDS if one is a else (), 4 if one is a else 0)
        for one in (a, b):
            assert one.await_transition("Configure")["missing"] == []
        return served, a, b

    return make


def test_a_condition_decides_for_all_contributors_alike(pair):
    _, a, b = pair(keep_if="npeaks > 15", prescale=4)
    a.events([10, 11, 12, 13], peaks(20, 3, 15, 16))
    b.events([10, 11, 12, 13])
    for one in (a, b):
        one.await_verdicts(4)
        assert [one.verdicts[i][0] for i in range(4)] == [PERSIST, 0, 0, PERSIST | PRESCALE]


def test_an_event_whose_script_failed_or_that_has_no_words_persists(pair):
    _, a, b = pair(keep_if="npeaks > 15")
    a.events([10], peaks(3), flags=wire.Contributed.words | wire.Contributed.failed)
    a.events([11], peaks(3), flags=0)
    a.events([12], peaks(3))
    b.events([10, 11, 12])
    b.await_verdicts(3)
    assert [b.verdicts[i][0] for i in range(3)] == [PERSIST, PERSIST, 0]


def test_keep_raw_of_the_env_prescales(pair):
    _, a, b = pair(keep_if="npeaks > 15")
    for one in (a, b):
        one.events([10], peaks(3) if one is a else None, env=1 | wire.KEEP_RAW)
    for one in (a, b):
        one.await_verdicts(1)
        assert one.verdicts[0][0] == PRESCALE


def test_who_comes_late_is_given_the_same_verdict(pair):
    _, a, b = pair(timeout_s=0.2, keep_if="npeaks > 15")
    a.events([10, 11], peaks(20, 3))
    a.await_verdicts(2)
    assert a.verdicts == {0: (PERSIST, DROPPED, 0), 1: (0, DROPPED, 0)}
    b.events([10, 11])
    b.await_verdicts(2)
    assert b.verdicts == {0: (PERSIST, DROPPED, Answer.late), 1: (0, DROPPED, Answer.late)}


def test_who_leaves_in_good_order_is_waited_for_no_longer(pair):
    _, a, b = pair()
    b.send(Header(Kind.BYE, b.session).encode())
    a.events([10], peaks(1))
    a.await_verdicts(1)
    assert a.verdicts[0] == (PERSIST, 0, 0)
    b.hello()
    a.events([11], peaks(1))
    b.events([11])
    b.await_verdicts(1)
    assert b.verdicts[0] == (PERSIST, 0, 0)


def test_who_is_gone_is_waited_for_no_longer(pair):
    served, a, b = pair()
    a.events([10], peaks(1))
    served.do(lambda: served.teb.links.gone(7))
    a.await_verdicts(1)
    b.events([10])
    b.until(lambda: bool(b.errors), "an error")
    assert "no such session" in b.errors[0]


def test_a_contributor_that_begins_anew_is_given_no_verdict_of_before(pair):
    served, a, b = pair()
    b.events([10, 11])
    b.receive(50)
    b.hello()
    a.events([10, 11, 12], peaks(1, 2, 3))
    b.sent = 100
    b.events([12])
    a.await_verdicts(3)
    b.await_verdicts(1)
    assert list(b.verdicts) == [100]
    assert served.teb.metrics()["EB_undelivered"] == 2


def test_a_second_process_of_the_same_id_takes_the_place_of_the_first(pair, join):
    served, a, b = pair()
    new = join(served, 7, "hsd_0")
    new.hello()
    b.until(lambda: bool(b.errors), "an error")
    assert "taken the place" in b.errors[0]
    a.events([10], peaks(1))
    new.events([10])
    new.await_verdicts(1)


def test_a_configure_that_is_told_again_is_answered_and_not_built_again(pair):
    served, a, b = pair()
    a.transitions.clear()
    a.hello()
    a.configure(1, WORDS, 4)
    assert a.await_transition("Configure")["missing"] == []
    a.events([10], peaks(1))
    b.events([10])
    a.await_verdicts(1)
    assert served.teb.counts.transitions == 1


def test_a_transition_comes_after_the_verdicts_before_it_and_names_who_is_missing(pair):
    _, a, b = pair(timeout_s=0.2)
    a.events([10], peaks(1))
    a.transition(TransitionId.Disable, 11)
    assert a.await_transition("Disable")["missing"] == ["hsd_0"]
    assert len(a.verdicts) == 1
    assert b.await_transition("Disable")["missing"] == ["hsd_0"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epoch": 2}, "epoch"),
        ({"id": 9}, "contributor"),
        ({"id": "0"}, "HELLO"),
        ({"id": True}, "HELLO"),
        ({"id": -1}, "HELLO"),
        ({"epoch": None}, "HELLO"),
        ({"id": 1 << 70}, "HELLO"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused(serve, join, changed, said):
    one = join(serve())
    one.hello(**changed)
    assert said in one.errors[0]
    one.hello()
    assert one.window == 64


def test_a_new_epoch_ends_all_sessions(pair):
    served, a, _ = pair()
    a.events([10], peaks(1))
    served.do(lambda: served.teb.begin(2, TWO, {}))
    a.until(lambda: bool(a.errors), "an error")
    a.epoch = 2
    a.hello()
    assert a.window == 64


def rubbish():
    rng = random.Random(1)
    session = 5
    good = Header(Kind.EVENTS, session, 1).encode()
    yield b""
    yield b"x" * 15
    yield rng.randbytes(16)
    yield rng.randbytes(4096)
    yield good[:4] + b"\xff\xff" + good[6:]
    yield good[:6] + b"\xff\xff" + good[8:]
    for kind in Kind:
        for count in (0, 1, 65537, (1 << 32) - 1):
            for payload in (
                b"",
                b"{",
                b"[" * 100_000,
                b"{}",
                rng.randbytes(31),
                bytes(32),
                bytes(33),
                b"null",
                bytes(32) + b"{}",
            ):
                yield Header(kind, session, count).encode() + payload


def test_rubbish_is_answered_and_hurts_nobody(pair, join):
    served, a, b = pair()
    stranger = join(served)
    sent = 0
    for frame in rubbish():
        stranger.send(frame)
        sent += 1
        while stranger.receive():
            pass
    stranger.until(lambda: len(stranger.errors) == sent, f"{sent} errors")
    stranger.socket.send_multipart([b"two", b"frames"])
    stranger.until(lambda: len(stranger.errors) == sent + 1, "an error")
    a.events([10], peaks(1))
    b.events([10])
    a.await_verdicts(1)


def test_rubbish_of_a_contributor_ends_its_session_only(pair):
    served, a, b = pair()
    said = 0
    twice = [["a", "UINT8"]]
    words = (
        5,
        [["a"]],
        [["\ud800", "UINT8"]],
        [["a\n", "UINT8"]],
        [["", "UINT8"]],
        [["a", "complex"]],
        [["a", "O"]],
        [["a", "3u4"]],
        [["a", "no"]],
        twice * 2,
        twice * 300,
    )
    for body in ({"words": one} for one in words):
        b.transition(TransitionId.Configure, 20, body)
        said += 1
        b.until(lambda said=said: len(b.errors) == said, "an error")
        b.hello()
    for service in (0, 1, 11, 12, 13, 15):
        record = np.array([(0, 30, 60, 1 | service << 24, 0, 0)], wire.CONTRIBUTION).tobytes()
        b.send(Header(Kind.TRANSITION, b.session, 1).encode() + record + b"{}")
        said += 1
        b.until(lambda said=said: len(b.errors) == said, "an error")
        b.hello()
    a.events([10], peaks(1))
    b.events([10])
    a.await_verdicts(1)
    assert served.teb.counts.transitions == 1


def test_more_than_the_window_ends_the_session(pair):
    _, a, _ = pair(window=8)
    a.events(range(10, 26), peaks(*[1] * 16))
    assert not a.errors
    a.events([26], peaks(1))
    a.until(lambda: bool(a.errors), "an error")
    assert "window" not in a.errors[0] and "no verdict" in a.errors[0]
    a.hello()
    assert a.window == 8


def test_who_does_not_read_its_verdicts_holds_up_nobody_else(serve, join):
    served = serve([Contributor(0, "epix_0", 0), Contributor(7, "hsd_0", 1)], window=64)
    a, b = join(served), join(served, 7, "hsd_0")
    for one in (a, b):
        one.hello()
        one.configure(1)
    a.await_transition("Configure")
    for k in range(200):
        a.events([10 + k])
        b.events([10 + k], env=2)
        a.await_verdicts(k + 1)
    b.await_verdicts(200)


def test_a_clock_that_jumps_holds_up_nobody(pair):
    _, a, b = pair(timeout_s=0.2)
    a.events([1 << 40], peaks(1))
    for pulse in range(10, 30):
        b.events([pulse])
    b.await_verdicts(20)
    assert {one[:2] for one in b.verdicts.values()} == {(PERSIST, DROPPED)}
    a.await_verdicts(1)
    a.events([30], peaks(1))
    b.events([30])
    b.await_verdicts(21)
    a.await_verdicts(2)
    assert b.verdicts[20] == (PERSIST, OUT_OF_ORDER, 0)
    a.events([31], peaks(1))
    b.events([31])
    b.await_verdicts(22)
    assert b.verdicts[21] == (PERSIST, 0, 0)


def test_a_lone_contributor_begins_a_new_epoch_by_itself(serve, join):
    served = serve(alone=(Contributor(0, "epix_0", 0),))
    one = join(served, epoch=5)
    one.hello()
    one.configure(1)
    one.events([10])
    one.await_verdicts(1)
    one.epoch = 6
    one.hello()
    one.configure(2)
    one.events([3])
    one.await_verdicts(2)
    assert one.verdicts[1] == (PERSIST, 0, 0)
    one.hello(epoch=5)
    assert "epoch" in one.errors[-1]


def test_events_before_any_configure_persist(serve, join):
    served = serve([Contributor(0, "epix_0", 0)])
    one = join(served)
    one.hello()
    one.events([10, 11])
    one.await_verdicts(2)
    assert served.teb.counts.unanswered == 2


def test_counters_have_the_names_of_the_reference(pair):
    served, a, b = pair(keep_if="npeaks > 15", prescale=2)
    a.events([10, 11, 12], peaks(20, 3, 2))
    b.events([10, 11, 12])
    a.await_verdicts(3)
    found = served.teb.metrics()
    assert {
        name: found[name] for name in ("TEB_EvtCt", "TEB_WrtCt", "TEB_PsclCt", "TEB_TrCt", "EB_FxUpCt")
    } == {
        "TEB_EvtCt": 3,
        "TEB_WrtCt": 1,
        "TEB_PsclCt": 1,
        "TEB_TrCt": 1,
        "EB_FxUpCt": 0,
    }


def test_verdicts_that_come_after_the_end_of_an_epoch_let_a_teb_sleep(serve):
    served = serve()
    teb = served.teb

    def end():
        teb.end("a test")
        os.eventfd_write(teb._decider.fd, 1)
        teb.turn(0)

    served.do(end)
    assert teb._poller.poll(0) == []
