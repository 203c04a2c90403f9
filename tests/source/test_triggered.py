"""A source that follows triggers: what is dealt, how it is stamped, what transitions hold, and what credit is given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from drp.core import beam, wire
from drp.core.wire import Header, Kind
from drp.link.sockets import listen
from drp.source import END, SourceError, SourceOptions, open_source
from drp.source.sim import Simulator
from drp.source.simoptions import parse
from drp.source.timing_link import TimingLink, Who
from drp.source.triggered import Triggered, stock_of
from tests.support.drp_fixtures import folder_in_memory
from xtc import Config, Dgram, TransitionId

L1 = TransitionId.L1Accept
PULSE = beam.ORIGIN_PULSE + 1000
SIM = "epixhr,segments=1,frames=3,slow=1"
pytestmark = pytest.mark.timeout(30)


class FakeTiming:
    """The other end: it sends what the test says, at once."""

    def __init__(self) -> None:
        self.socket, self.endpoint = listen(zmq.ROUTER, "timing-tst-p0")
        self.number = 0
        self.pulse = PULSE
        self.credit = 0

    def welcome(self, source: Triggered, slots: Any) -> None:
        source.fill(slots)
        end = time.monotonic() + 10
        while not self.socket.poll(10):
            source.fill(slots)
            assert time.monotonic() < end
        self.identity, frame = self.socket.recv_multipart()
        header, payload = wire.decode(frame)
        self.hello = wire.decode_json(payload)
        assert header.kind == Kind.HELLO
        self.session, self.number = header.session, 0
        self.send(wire.encode_json(Kind.WELCOME, self.session, {"epoch": 1}))

    def send(self, frame: bytes) -> None:
        self.socket.send_multipart([self.identity, frame])

    def records(self, count: int, env: int, skip: int = 0) -> np.ndarray:
        out = np.zeros(count, wire.TRIGGER)
        for one in out:
            self.number += 1 + skip
            self.pulse += 929
            one["number"], one["pulse_id"], one["timestamp"] = (
                self.number,
                self.pulse,
                beam.timestamp(self.pulse),
            )
            one["env"] = env
        return out

    def events(self, count: int, env: int = 0x5, skip: int = 0) -> None:
        records = self.records(count, env | L1 << 24, skip)
        self.send(Header(Kind.EVENTS, self.session, count).encode() + records.tobytes())

    def transition(self, service: TransitionId, **info: Any) -> None:
        body = wire.encode_json(Kind.TRANSITION, self.session, info)[Header.SIZE :]
        record = self.records(1, service << 24 | 0x5)
        self.send(Header(Kind.TRANSITION, self.session, 1).encode() + record.tobytes() + body)

    def hear(self, limit_ms: int) -> int:
        """Return the credit that was told last, once nothing has come for so long."""
        while self.socket.poll(limit_ms):
            header, payload = wire.decode(self.socket.recv_multipart()[1])
            if header.kind == Kind.CREDIT:
                self.credit = int.from_bytes(payload, "little")
        return self.credit

    def await_credit(self, total: int) -> None:
        end = time.monotonic() + 10
        while self.hear(10) != total:
            assert time.monotonic() < end, f"{self.credit} and not {total}"


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTiming]:
    with folder_in_memory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        made = FakeTiming()
        yield made
        made.socket.close()


@pytest.fixture
def make(timing: FakeTiming) -> Iterator[Any]:
    made: list[Triggered] = []

    def source(inner: Any = None, **options: Any) -> Triggered:
        stock = (inner or Simulator(parse(SIM))).stock()
        made.append(Triggered(stock, TimingLink(timing.endpoint, Who("drp_0", 0, 2)), **options))
        return made[-1]

    yield source
    for one in made:
        one.close()


def fill(source: Triggered, slots: Any, until: int) -> None:
    """Fill until `slots` has so many dgrams."""
    end = time.monotonic() + 10
    while len(slots.dgrams) < until:
        assert source.fill(slots) != END
        source.wait(0.01)
        assert time.monotonic() < end, f"{len(slots.dgrams)} of {until}"


def run_to_enable(timing: FakeTiming, source: Triggered, basket: Any, **info: Any) -> None:
    timing.welcome(source, basket)
    timing.transition(TransitionId.Configure, step_keys=info.pop("step_keys", []))
    timing.transition(TransitionId.BeginRun, run_info={"experiment_name": "xpp1", "run_number": 12})
    timing.transition(TransitionId.BeginStep, **info)
    timing.transition(TransitionId.Enable)
    fill(source, basket, len(basket.dgrams) + 4)


def test_events_are_the_stocks_in_turn_with_the_stamps_of_their_triggers(
    timing: FakeTiming, make: Any, make_basket: Any
) -> None:
    simulator = Simulator(parse(SIM))
    plain = make_basket(events=7)
    simulator.fill(plain)
    frames = [raw[24:] for raw in plain.dgrams if raw[11] & 0xF == L1]
    source, basket = make(), make_basket()
    run_to_enable(timing, source, basket)
    timing.events(5, env=0x5 | wire.KEEP_RAW)
    timing.events(2)
    fill(source, basket, 11)
    dealt = basket.dgrams[4:]
    assert [raw[24:] for raw in dealt] == frames
    assert [Dgram(raw).env & 0xFFFFFF for raw in dealt] == [0x5 | wire.KEEP_RAW] * 5 + [0x5] * 2
    assert basket.pulse_ids[4:] == [PULSE + 929 * (n + 5) for n in range(7)]
    assert basket.timestamps == [beam.timestamp(pulse) for pulse in basket.pulse_ids]


def test_transitions_say_which_run_and_step_it_is(timing: FakeTiming, make: Any, make_basket: Any) -> None:
    source, basket = make(), make_basket()
    run_to_enable(
        timing,
        source,
        basket,
        step_keys=["motor9"],
        step_values={"motor9": 2.5, "step_value": 3, "step_docstring": "{}", "odd": 1},
    )
    assert basket.services == [2, 4, 6, 8]
    config = Config(Dgram(basket.dgrams[0]))
    assert [field.name for field in config.find("scan", "raw").fields] == [
        "motor9",
        "step_value",
        "step_docstring",
    ]
    values = {}
    for raw in basket.dgrams[1:3]:
        for data in Dgram(raw, config=config).shapes_data():
            names = [field.name for field in data.names.fields]
            values |= dict(zip(names, data.values(), strict=True))
    assert values == {
        "expt": "xpp1",
        "runnum": 12,
        "motor9": 2.5,
        "step_value": 3.0,
        "step_docstring": "{}",
    }


def test_slow_updates_hold_the_stocks_values_in_turn(timing: FakeTiming, make: Any, make_basket: Any) -> None:
    source, basket = make(), make_basket()
    run_to_enable(timing, source, basket)
    timing.transition(TransitionId.SlowUpdate)
    timing.transition(TransitionId.SlowUpdate)
    fill(source, basket, 6)
    one, two = basket.dgrams[4:]
    assert one[11] & 0xF == two[11] & 0xF == TransitionId.SlowUpdate
    assert len(one) > 24
    assert one[24:] != two[24:]


def test_it_ends_with_unconfigure(timing: FakeTiming, make: Any, make_basket: Any) -> None:
    source, basket = make(), make_basket()
    run_to_enable(timing, source, basket)
    for service in (
        TransitionId.Disable,
        TransitionId.EndStep,
        TransitionId.EndRun,
        TransitionId.Unconfigure,
    ):
        timing.transition(service)
    fill(source, basket, 8)
    assert source.fill(basket) == END


def test_credit_is_what_was_dealt_and_the_slots_there_are(
    timing: FakeTiming, make: Any, make_basket: Any
) -> None:
    source, basket = make(), make_basket(events=100)
    run_to_enable(timing, source, basket)
    source.fill(basket)
    timing.await_credit(100)
    timing.events(100)
    fill(source, basket, 104)
    source.fill(basket)
    assert timing.hear(50) == 100, "all slots are full"
    basket.events_free = 30
    source.fill(basket)
    timing.await_credit(130)


def test_transitions_come_through_where_no_slot_for_an_event_is_free(
    timing: FakeTiming, make: Any, make_basket: Any
) -> None:
    source, basket = make(), make_basket(events=2)
    run_to_enable(timing, source, basket)
    timing.events(2)
    timing.transition(TransitionId.Disable)
    fill(source, basket, 7)
    assert basket.services[-1] == TransitionId.Disable


def test_triggers_that_do_not_come_are_counted(timing: FakeTiming, make: Any, make_basket: Any) -> None:
    source, basket = make(), make_basket()
    run_to_enable(timing, source, basket)
    timing.events(1)
    timing.events(1, skip=3)
    fill(source, basket, 6)
    assert source.lost_events == 3


def test_a_timing_that_sends_nonsense_is_left_and_joined_again(
    timing: FakeTiming, make: Any, make_basket: Any
) -> None:
    source, basket = make(), make_basket()
    run_to_enable(timing, source, basket)
    timing.events(1)
    timing.pulse -= 929 * 3
    timing.events(1)
    fill(source, basket, 5)
    assert not source._link.welcome or source.fill(basket) == 0
    timing.hear(50)
    timing.welcome(source, basket)
    assert timing.hello["last"] == basket.pulse_ids[-1]


def test_a_changed_configure_is_what_is_put(timing: FakeTiming, make: Any, make_basket: Any) -> None:
    source, basket = make(edit=lambda raw: raw.replace(b"epixhr\0", b"epixxx\0")), make_basket()
    run_to_enable(timing, source, basket)
    names = Config(Dgram(basket.dgrams[0])).names.values()
    assert {one.detname for one in names} == {"epixxx", "epics", "epicsinfo", "runinfo", "scan"}


def test_recorded_events_are_dealt_from_an_offset_on(
    timing: FakeTiming, make_basket: Any, drain: Any, tmp_path: Path
) -> None:
    path = tmp_path / "recorded.xtc2"
    made = drain(Simulator(parse("digitizer,frames=9,slow=500")), 9).dgrams
    path.write_bytes(b"".join(made))
    recorded = [raw[24:] for raw in made if raw[11] & 0xF == L1]
    inner = open_source(str(path))
    source = Triggered(stock_of(inner, 2), TimingLink(timing.endpoint, Who("drp_0", 0, 2)))
    basket = make_basket()
    run_to_enable(timing, source, basket)
    timing.events(len(recorded))
    fill(source, basket, 4 + len(recorded))
    assert [raw[24:] for raw in basket.dgrams[4:]] == [*recorded[2:], *recorded[2:4]]
    source.close()
    inner.close()
    with pytest.raises(SourceError, match="l1aOffset"):
        stock_of(open_source(str(path)), 10**6)


def test_it_is_opened_by_name(timing: FakeTiming, make_basket: Any) -> None:
    text = f"triggered:timing-tst-p0,group=3,id=5,alias=cam_5,epoch=2,inner=sim:{SIM}"
    source = open_source(text, SourceOptions())
    timing.welcome(source, make_basket())  # type: ignore[arg-type]
    hello = timing.hello
    assert (hello["alias"], hello["id"], hello["group"], hello["epoch"]) == ("cam_5", 5, 3, 2)
    source.close()
    for wrong in ("triggered:", "triggered:x,groups=3", "triggered:x,group=a"):
        with pytest.raises(SourceError):
            open_source(wrong)


def test_the_timing_stream_holds_what_timing_says_of_each_pulse(
    timing: FakeTiming, make: Any, make_basket: Any
) -> None:
    inner = open_source("ts")
    source, basket = make(inner), make_basket()
    run_to_enable(timing, source, basket)
    timing.transition(TransitionId.SlowUpdate, inhibited=[0, 7, 0, 0, 0, 0, 0, 2])
    records = timing.records(3, L1 << 24 | 0x5)
    records["event_codes"][1, 8] = 1 << 31
    records["beam"] = [0x84, 0x04, 0xFF]
    timing.send(Header(Kind.EVENTS, timing.session, 3).encode() + records.tobytes())
    fill(source, basket, 8)
    config = Config(Dgram(basket.dgrams[0]))
    found = []
    for raw in basket.dgrams[5:]:
        (data,) = Dgram(raw, config=config).shapes_data()
        found.append(dict(zip((field.name for field in data.names.fields), data.values(), strict=True)))
    assert [one["pulseId"] for one in found] == basket.pulse_ids[5:] == records["pulse_id"].tolist()
    assert [one["timeStamp"] for one in found] == basket.timestamps[5:]
    assert [(one["ebeamDestn"], one["ebeamPresent"]) for one in found] == [(4, 1), (4, 0), (127, 1)]
    assert [int(one["sequenceValues"][17]) >> 15 for one in found] == [0, 1, 0]
    assert all(one["inhibitCounts"].tolist() == [0, 7, 0, 0, 0, 0, 0, 2] for one in found)
    with pytest.raises(SourceError, match="triggered:"):
        inner.fill(basket)
