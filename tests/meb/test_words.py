"""The stream of trigger words: in order, complete to who keeps up, counted to who does not, and never in the teb's way."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from meb_bench import until

import drp
from drp.core.batch import EVENT, Contributor, Layout
from drp.core.errors import MessageError
from drp.core.wire import CONTRIBUTION, PERSIST, decode
from drp.core.words import decode_events, decode_schema, encode_events, encode_schema
from drp.script.errors import ScriptError
from drp.script.words import WordsStream
from drp.teb.words import WordsPublisher

pytestmark = pytest.mark.timeout(20)
CONTRIBUTORS = (
    Contributor(0, "epix_0", 0, (("npeaks", "<u2"), ("mean", "FLOAT"))),
    Contributor(3, "ts_0", 0),
)


class Publisher(WordsPublisher):
    """Publishes events whose words follow from their pulse id."""

    n = 0

    def events(self, pulse_ids: range) -> None:
        n = len(pulse_ids)
        events = np.zeros(n, EVENT)
        events["number"] = self.n + 1 + np.arange(n)
        self.n += n
        events["pulse_id"], events["timestamp"], events["present"] = pulse_ids, np.array(pulse_ids) + 7, 1
        rows = [np.zeros((n, one.stride), np.uint8) for one in CONTRIBUTORS]
        heads = rows[0][:, : CONTRIBUTION.itemsize].copy().view(CONTRIBUTION)[:, 0]
        heads["flags"] = np.array(pulse_ids) % 3 != 0
        rows[0][:, : CONTRIBUTION.itemsize] = heads[:, None].view(np.uint8)
        words = np.zeros(n, CONTRIBUTORS[0].dtype)
        words["npeaks"], words["mean"] = np.array(pulse_ids) % 1000, np.array(pulse_ids) / 2
        rows[0][:, 32 : 32 + words.itemsize] = words[:, None].view(np.uint8)
        self.publish(events, rows, np.full(n, PERSIST, np.uint32))


@pytest.fixture
def tebs() -> Iterator[list[Publisher]]:
    made = [Publisher(f"teb{one}-tst-p0") for one in range(2)]
    for one in made:
        one.configure(CONTRIBUTORS)
    yield made
    for one in made:
        if not one.socket.closed:
            one.close()


def subscribe(*to: Publisher, where: str = "tst:0", limit_s: float = 0.3) -> WordsStream:
    stream = drp.words(where, limit_s=limit_s)

    def joined() -> bool:
        for one in to:
            one.look()
        stream._receive(0.0, deque())
        return all(one.layout for one in stream._streams) and all(one.subscribers for one in to)

    until(joined)
    return stream


def test_every_event_comes_with_its_verdict_and_words(tebs: list[Publisher]) -> None:
    teb, other = tebs
    other.close()
    with subscribe(teb, where="tst:0/teb0") as stream:
        teb.events(range(10, 14))
        teb.events(range(14, 15))
        found = list(islice(stream, 5))
        assert [(one.pulse_id, one.timestamp, one.result) for one in found] == [
            (k, k + 7, PERSIST) for k in range(10, 15)
        ]
        assert [one.words["epix_0"] is None for one in found] == [False, False, True, False, False]
        assert (found[1].words["epix_0"]["npeaks"], found[1].words["epix_0"]["mean"]) == (11, 5.5)
        assert found[0].words.keys() == {"epix_0"} and stream.lost == 0


def test_the_streams_of_several_tebs_come_in_one_order(tebs: list[Publisher]) -> None:
    with subscribe(*tebs) as stream:
        blocks = [range(64 * k, 64 * k + 64) for k in range(1, 9)]
        for k, block in reversed(list(enumerate(blocks[:2]))):
            tebs[k % 2].events(block)
        for k, block in enumerate(blocks[2:]):
            tebs[k % 2].events(block)
        found = [one.pulse_id for one in islice(stream, 64 * 8)]
        assert found == list(range(64, 64 * 9)) and stream.lost == 0


def test_a_subscriber_that_does_not_read_loses_and_is_told_and_the_teb_goes_on(tebs: list[Publisher]) -> None:
    teb = tebs[0]
    with subscribe(teb, where="tst:0/teb0") as stream:
        for k in range(3000):
            teb.events(range(1000 * k, 1000 * k + 100))
        teb._beat_s = 0.0
        got = sum(len(batch.events) for batch in stream.batches())
        until(lambda: teb.look() or list(stream) or got + stream.lost == 300_000)
        assert stream.lost > 0


def test_who_comes_later_has_lost_nothing_and_another_configure_begins_anew(tebs: list[Publisher]) -> None:
    teb = tebs[0]
    teb.events(range(5))
    with subscribe(teb, where="tst:0/teb0") as stream:
        teb.events(range(10, 12))
        assert [one.pulse_id for one in stream] == [10, 11]
        teb.n = 0
        teb.configure(CONTRIBUTORS)
        teb.events(range(20, 22))
        assert [one.pulse_id for one in stream] == [20, 21] and stream.lost == 0


def test_without_subscribers_nothing_is_encoded(
    tebs: list[Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drp.teb.words.encode_events", lambda *_: pytest.fail("encoded for nobody"))
    tebs[0].events(range(5))


@pytest.mark.parametrize("change", [b"", b"\0", bytes(100)])
def test_a_message_of_another_length_is_refused(change: bytes) -> None:
    layout = Layout(CONTRIBUTORS)
    rows = [np.zeros((3, one.stride), np.uint8) for one in CONTRIBUTORS]
    whole = encode_events(1, np.zeros(3, EVENT), rows, np.zeros(3, np.uint32))
    header, payload = decode(whole)
    assert len(decode_events(layout, payload, header.count).events) == 3
    with pytest.raises(MessageError, match="are not"):
        decode_events(layout, memoryview(bytes(payload[:-1]) + change[1:]), header.count)


@pytest.mark.parametrize(
    "words", [[["a"]], [["a", "O"]], [["a", "nonsense"]], "x", [["a", "<u4"], ["a", "<u4"]]]
)
def test_words_that_are_none_are_refused(words: object) -> None:
    text = json.dumps({"contributors": [{"id": 0, "alias": "a", "group": 0, "words": words}], "number": 0})
    with pytest.raises(MessageError):
        decode_schema(memoryview(text.encode()))


def test_a_schema_is_read_as_it_was_written() -> None:
    _, payload = decode(encode_schema(5, CONTRIBUTORS, 17))
    layout, number = decode_schema(payload)
    assert [one.dtype for one in layout.contributors] == [one.dtype for one in CONTRIBUTORS] and number == 17


def test_where_nobody_publishes_is_said() -> None:
    with pytest.raises(ScriptError, match="no teb of tst-p5"):
        drp.words("tst:5", limit_s=0.0)
    with pytest.raises(ScriptError, match="INSTRUMENT:PLATFORM"):
        drp.words("a b")
