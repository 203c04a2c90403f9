"""The link to tebs: what they say decides, and while one is away its events are kept and named."""

import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_teb import FakeTeb, until
from flow_bench import CONFIGURE, DISABLE, ENABLE, L1, SLOW, Bench, fex_data
from hypothesis import given
from hypothesis import strategies as st

from drp.core import wire
from drp.core.ledger import Fate
from drp.core.wire import Header, Kind
from drp.engine.judging import Told, Words
from drp.engine.teblink import Me, Owed, TebLinks, as_verdicts
from drp.shm._block import encode_block
from tests.support.drp_fixtures import folder_in_memory
from xtc import DataType, TransitionId

COMMON = 1
WORD = struct.Struct("<I")
WORDS = Words((("x", DataType.UINT32),))
PERSIST = wire.PERSIST


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with folder_in_memory(0o755) as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        yield path


@dataclass
class Trial:
    """A bench whose events are judged by fake tebs; all but the judge's thread is turned by hand."""

    tebs: list[FakeTeb]
    options: dict[str, Any] = field(default_factory=dict)
    begins: bool = True

    def __post_init__(self) -> None:
        self.bench = Bench(n_events=32, arena_bytes=1 << 14, trigger=0)
        self.flow = self.bench.flow
        me = Me("epix_0", "epix", id=3, group=0)
        options = {"limit_s": 5.0, **self.options}
        self.links = TebLinks([teb.endpoint for teb in self.tebs], me, groups=COMMON, **options)
        self.links.start(self.flow)
        self.bench.add_worker(0)
        self.pulse = 100
        if self.begins:
            self.begin()

    def begin(self) -> None:
        self.links.transition(Told(1, TransitionId.Configure, 0, 1, CONFIGURE << 24, WORDS))
        self.until(lambda: self.links.ready)
        self.bench.begin()

    def until(self, condition: Callable[[], Any]) -> Any:
        return until(condition, *self.tebs)

    def close(self) -> None:
        self.links.close()
        for teb in self.tebs:
            teb.stop()
        self.bench.close()

    def event(self, word: int = 0, *, pulse_id: int | None = None) -> int:
        self.pulse += 1
        seq = self.flow.submit_next
        assert self.bench.put(L1, b"raw", pulse_id=self.pulse if pulse_id is None else pulse_id)
        self.bench.turn()
        (worker,) = self.bench.workers.values()
        entry = worker.take()
        assert entry and entry.seq == seq
        worker.answer(seq, 0, *encode_block(adds=[(0, (), WORD.pack(word))], words=True))
        self.bench.turn()
        return seq

    def words(self) -> list[int]:
        """The words of the events in the file, once all that came are recorded."""
        self.until(lambda: self.flow.judged_next == self.flow.retire_next)
        while self.flow.record_turn():
            pass
        self.flow.hand_in(self.bench.batch, 0, 0)
        records = [one for one in self.bench.dgrams() if one[11] & 15 == L1]
        return [WORD.unpack_from(one, fex_data(one) + 12)[0] for one in records]

    def fates(self) -> dict[str, int]:
        return {fate.name: n for fate, n in zip(Fate, self.flow.counts()["fates"], strict=True) if n}


@pytest.fixture
def trial(folder: Path) -> Iterator[Callable[..., Trial]]:
    made: list[Trial] = []

    def make(*tebs: FakeTeb, **options: Any) -> Trial:
        made.append(Trial(list(tebs), options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def odd(_seq: int, _pulse: int, words: bytes) -> int:
    return PERSIST if WORD.unpack_from(words)[0] % 2 else 0


def test_the_file_holds_what_the_teb_says(trial: Callable[..., Trial]) -> None:
    one = trial(FakeTeb(rule=odd))
    for word in range(20):
        one.event(word)
    assert one.words() == list(range(1, 20, 2))
    assert one.fates() == {"recorded_verdict": 10, "filtered": 10}
    assert one.links.lost == [] and one.links.trouble == ""
    (hello,) = one.tebs[0].hellos
    assert hello == {"alias": "epix_0", "level": "drp", "id": 3, "epoch": 1, "group": 0, "last": 0}


def test_the_teb_hears_configure_with_the_words_and_everything_in_order(trial: Callable[..., Trial]) -> None:
    one = trial(FakeTeb())
    first = one.event(1)
    one.bench.put(SLOW, b"slow")
    one.bench.turn()
    one.bench.answer_all()
    second = one.event(2)
    assert one.words() == [1, 2]
    one.links.transition(Told(second, TransitionId.Disable, 7, 9, DISABLE << 24))
    one.links.transition(Told(second, TransitionId.Enable, 8, 9, ENABLE << 24))
    third = one.event(3)
    one.words()
    body = {"words": [["x", "UINT32"]], "words_bytes": 4, "alias": "epix_0", "detector": "epix"}
    assert one.tebs[0].heard == [
        (CONFIGURE, body),
        (L1, first),
        (SLOW, {}),
        (L1, second),
        (DISABLE, {}),
        (ENABLE, {}),
        (L1, third),
    ]


def test_while_the_teb_is_away_events_are_kept_and_named(
    trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture
) -> None:
    one = trial(FakeTeb(rule=lambda *_: None))
    (teb,) = one.tebs
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        seqs = [one.event(word, pulse_id=200 + word) for word in range(3)]
        one.until(lambda: len([1 for kind, _ in teb.heard if kind == L1]) == 3)
        old = teb.sessions[-1]
        teb.stop()
        assert one.words() == [0, 1, 2]  # those it had, when the connection is closed
        one.event(3, pulse_id=203)
        assert one.words() == [0, 1, 2, 3]
        assert one.links.trouble == "teb0 away"
        teb.rule = odd
        teb.start()
        one.until(lambda: one.links.trouble == "")
        later = one.event(4, pulse_id=210)
        one.event(5, pulse_id=211)
        assert one.words() == [0, 1, 2, 3, 5]
        assert teb.hellos[-1]["last"] == 202
        assert teb.heard[-3] == (CONFIGURE, teb.heard[0][1])  # again, for who has begun anew
        teb.verdict(old, seqs[0], 200, 0)
        teb.verdict(teb.sessions[-1], seqs[1], 201, 0)
        teb.verdict(teb.sessions[-1], later, 210, PERSIST)
        (link,) = one.links._links
        one.until(lambda: link.dropped == 3)
    assert one.fates() == {"recorded_no_verdict": 4, "recorded_verdict": 1, "filtered": 1}
    (lost,) = one.links.lost
    assert (lost.first_pulse_id, lost.last_pulse_id, lost.events) == (200, 203, 4)
    assert str(lost) == (
        "4 events of pulse ids 200 to 203 kept without a verdict: teb0: the connection is closed"
    )
    assert one.flow.n_unknown == one.flow.n_repeated == 0


def test_a_teb_that_decides_nothing_is_given_up(
    trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        one = trial(FakeTeb(rule=lambda *_: None), limit_s=0.3)
        one.event(1)
        assert one.words() == [1]
        assert one.links.lost[0].why == "it has decided nothing for 0.3 s"
        one.links._links[0]._limit_s = 30.0
        one.tebs[0].rule = odd
        one.until(lambda: one.links.trouble == "" and len(one.tebs[0].sessions) == 2)
        one.event(2)
        one.event(3)
        assert one.words() == [1, 3]


def test_no_more_wait_for_a_verdict_than_the_window_has_room_for(trial: Callable[..., Trial]) -> None:
    held: list[tuple[int, int]] = []
    one = trial(FakeTeb(rule=lambda seq, pulse, _: held.append((seq, pulse)), window=4))
    (teb,) = one.tebs
    for word in range(20):
        one.event(word)
    for number in range(20):
        one.until(lambda number=number: len(held) > number)
        teb.verdict(teb.sessions[-1], *held[number], PERSIST)
    assert one.words() == list(range(20))
    assert teb.most <= 4


def test_tebs_are_chosen_by_pulse_id_and_fail_alone(
    trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture
) -> None:
    one = trial(FakeTeb("teb0", rule=odd), FakeTeb("teb1", rule=lambda *_: 0))
    pulses = [64 * number + number for number in range(2, 12)]
    seqs = [one.event(2 * number + 1, pulse_id=pulse) for number, pulse in enumerate(pulses)]
    assert one.words() == [2 * number + 1 for number in range(0, 10, 2)]
    for number, teb in enumerate(one.tebs):
        assert [seq for kind, seq in teb.heard if kind == L1] == seqs[number::2]
        assert teb.heard[0][0] == CONFIGURE
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        one.tebs[1].stop()
        one.until(lambda: one.links.trouble == "teb1 away")
        for number in range(4):
            one.event(100 + number, pulse_id=64 * (20 + number))
        assert one.words()[5:] == [101, 103]
    (lost,) = one.links.lost
    assert (lost.trigger, lost.first_pulse_id, lost.last_pulse_id, lost.events) == (
        "teb1",
        64 * 21,
        64 * 23,
        2,
    )


def test_one_teb_decides_nothing_that_is_anothers(trial: Callable[..., Trial]) -> None:
    one = trial(FakeTeb("teb0", rule=lambda *_: None), FakeTeb("teb1"))
    seq = one.event(1, pulse_id=128)
    one.until(lambda: (L1, seq) in one.tebs[0].heard)
    one.tebs[1].verdict(one.tebs[1].sessions[-1], seq, 128, 0)
    one.until(lambda: one.links._links[1].dropped == 1)
    one.tebs[0].verdict(one.tebs[0].sessions[-1], seq, 128, PERSIST)
    assert one.words() == [1]


def test_events_whose_pulse_ids_do_not_rise_are_kept(trial: Callable[..., Trial]) -> None:
    one = trial(FakeTeb(rule=lambda *_: 0))
    for word, pulse in enumerate((100, 99, 0, 100, 101)):
        one.event(word, pulse_id=pulse)
    assert one.words() == [1, 2, 3]
    (lost,) = one.links.lost
    assert (lost.why, lost.first_pulse_id, lost.last_pulse_id, lost.events) == (
        "pulse ids do not rise",
        0,
        100,
        3,
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello world, this is no message",
        lambda session: Header(Kind.EVENTS, session, 7).encode() + bytes(24),
        lambda session: Header(Kind.EVENTS, session, 1 << 31).encode(),
        lambda session: Header(Kind.CREDIT, session).encode() + bytes(8),
        lambda session: Header(Kind.TRANSITION, session, 1).encode() + bytes(5),
        lambda session: Header(Kind.TRANSITION, session, 1).encode() + bytes(32) + b'{"service": "Nonsense"}',
        lambda session: wire.encode_json(Kind.WELCOME, session, {"epoch": 9, "window": 3}),
        lambda session: wire.encode_json(Kind.ERROR, session, {"what": "enough of you"}),
        lambda session: Header(Kind.BYE, session).encode(),
    ],
)
def test_a_teb_that_makes_no_sense_is_left_and_joined_again(
    trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture, answer: bytes | Callable[[int], bytes]
) -> None:
    one = trial(FakeTeb(rule=lambda *_: None))
    (teb,) = one.tebs
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        seq = one.event(1)
        one.until(lambda: (L1, seq) in teb.heard)
        teb.send(answer if isinstance(answer, bytes) else answer(teb.sessions[-1]))
        assert one.words() == [1]
        teb.rule = odd
        one.until(lambda: one.links.trouble == "" and len(teb.sessions) == 2)
        one.event(2)
        one.event(3)
        assert one.words() == [1, 3]
    assert one.links.error is None


def test_a_teb_of_another_epoch_is_asked_again_until_it_has_ours(
    trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture
) -> None:
    teb = FakeTeb(epoch=0)
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        one = Trial([teb], begins=False)
        one.until(lambda: len(teb.hellos) >= 2)
        assert teb.sessions == [] and one.links.trouble == "teb0 away"
        teb.epoch = 1
        one.begin()
    one.event(1)
    assert one.words() == [1]
    assert one.fates() == {"recorded_verdict": 1}
    one.close()


def test_a_run_that_needs_its_teb_does_not_begin_without_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        for required in (True, False):
            teb = FakeTeb(answers_configure=False, epoch=1 if required else 5)
            one = Trial([teb], {"required": required, "ready_limit_s": 0.5}, begins=False)
            assert not one.links.ready
            one.links.transition(Told(1, TransitionId.Configure, 0, 1, CONFIGURE << 24, WORDS))
            assert not one.links.ready
            one.until(lambda one=one: one.links.ready or one.links.error)
            if required:
                assert "the trigger does not stand after 0.5 s: teb0 (no answer to Configure)" in str(
                    one.links.error
                )
            else:
                assert one.links.error is None
            one.close()


def records(first: int, n: int) -> np.ndarray:
    out = np.zeros(n, wire.CONTRIBUTION)
    out["seq"] = np.arange(first, first + n)
    out["pulse_id"] = 10 * out["seq"]
    return out


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 9)),
            st.tuples(st.just("send"), st.integers(1, 12), st.booleans()),
            st.tuples(st.just("settle"), st.lists(st.integers(0, 40), max_size=8)),
            st.tuples(st.just("give_up")),
        ),
        max_size=30,
    )
)
def test_every_event_is_settled_once_or_given_up_once(steps: list[tuple]) -> None:
    owed = Owed()
    put: list[int] = []
    sent: list[int] = []
    settled: list[int] = []
    for name, *arguments in steps:
        if name == "add":
            asked = records(len(put) + 1, arguments[0])
            owed.add(asked, memoryview(np.repeat(asked["seq"].astype(np.uint8), 40).tobytes()))
            put += asked["seq"].tolist()
        elif name == "send":
            window, works = arguments
            some = owed.next(window)
            room = window - len(set(sent) - set(settled))
            waiting = put[len(sent) :]
            assert (some is None) == (room <= 0 or not waiting)
            if some is None:
                continue
            asked, rows = some
            assert asked["seq"].tolist() == waiting[: len(asked)] and len(asked) <= room
            assert bytes(rows) == b"".join(bytes([seq % 256]) * 40 for seq in asked["seq"].tolist())
            if not works:
                owed.put_back(asked, rows)
                continue
            owed.has_sent(asked)
            sent += asked["seq"].tolist()
        elif name == "settle":
            verdicts = as_verdicts(records(0, 60))[arguments[0]]
            verdicts["result"] = np.arange(len(verdicts))
            new = owed.settle(verdicts)
            expected = sorted(set(arguments[0]) & set(sent) - set(settled))
            assert new["seq"].tolist() == expected
            assert new["result"].tolist() == [arguments[0].index(seq) for seq in expected]
            settled += expected
        else:
            left = owed.give_up()
            assert left["seq"].tolist() == [seq for seq in put if seq not in settled]
            assert (left["pulse_id"] == 10 * left["seq"]).all()
            settled += left["seq"].tolist()
            sent = list(put)
        assert len(owed) == len(put) - len(settled)
