"""The source's thread: what a source puts, loses or breaks, and how its run is closed."""

import os
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from drp.engine._flow import Flow
from drp.engine.feed import Feed
from drp.shm._pebble import Pebble
from drp.sink.recorder import Recorder
from drp.source import END
from xtc import TransitionId


def dgram(service: int, timestamp: int) -> bytes:
    return struct.pack("<QIIHHI", timestamp, service << 24, 0, 0, 0, 12)


class Scripted:
    """A source that puts the given services, then ends or raises."""

    max_event_bytes = max_transition_bytes = 24
    lost_events = 3

    def __init__(
        self, services: list[int], error: Exception | None = None, times: list[int] | None = None
    ) -> None:
        times = times or [10 + 10 * i for i in range(len(services))]
        self.left = [dgram(service, time) for service, time in zip(services, times, strict=True)]
        self.error = error
        self.closed = threading.Event()

    def fill(self, slots) -> int:  # type: ignore[no-untyped-def]
        put = 0
        while self.left and slots.put(self.left[0]):
            self.left.pop(0)
            put += 1
        if not self.left and not put and self.error:
            raise self.error
        return put if put or self.left else END

    def wait_s(self) -> float:
        return 0.001

    def close(self) -> None:
        self.closed.set()

    def describe(self) -> str:
        return "scripted"


class Road:
    """A flow without workers: events pass as they are, and every transition is finished as it comes."""

    def __init__(self, notify: int) -> None:
        self.flow = Flow(Pebble(64, 128, 32, 256), Recorder(None).l1, notify)
        self.flow.pass_raw_on(True)
        self.services: list[int] = []

    def turn(self) -> None:
        self.flow.turn()
        while self.flow.record_turn():
            pass
        for notice in self.flow.take_notices():
            self.services += [TransitionId.L1Accept] * (
                self.events - self.services.count(TransitionId.L1Accept)
            )
            self.services.append(notice.service)
            self.flow.finish_transition(notice.seq, b"", b"")
            self.flow.release_barrier()

    @property
    def events(self) -> int:
        return self.flow.counts()["events"]

    def run(self, feed: Feed) -> None:
        until = time.monotonic() + 10
        while not feed.done or self.flow.record_next < self.flow.submit_next:
            self.turn()
            assert time.monotonic() < until
        self.turn()


@pytest.fixture
def road() -> Iterator[Road]:
    notify = os.eventfd(0, os.EFD_NONBLOCK)
    yield Road(notify)
    os.close(notify)


def run(source: Scripted, road: Road, events: int | None = None) -> Feed:
    feed = Feed(source, road.flow.pebble, road.flow, events=events, name="scripted")
    feed.start()
    road.run(feed)
    assert source.closed.is_set()
    return feed


CLOSING = [TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun, TransitionId.Unconfigure]


def test_a_source_of_events_alone_becomes_a_whole_run(road: Road) -> None:
    feed = run(Scripted([TransitionId.Configure, *[TransitionId.L1Accept] * 3]), road)
    begin = [TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable]
    assert road.services == [*begin, *[TransitionId.L1Accept] * 3, *CLOSING]
    assert feed.events == 3
    assert feed.lost == 3


def test_the_events_wanted_end_the_source_and_close_the_run(road: Road) -> None:
    feed = run(Scripted([TransitionId.Configure, *[TransitionId.L1Accept] * 30]), road, events=5)
    assert road.services.count(TransitionId.L1Accept) == feed.events == 5
    assert road.services[-4:] == CLOSING


def test_a_source_that_breaks_closes_its_run_and_is_told_of(
    road: Road, caplog: pytest.LogCaptureFixture
) -> None:
    feed = run(Scripted([TransitionId.Configure, TransitionId.L1Accept], ValueError("detector off")), road)
    assert isinstance(feed.error, ValueError)
    assert road.services[-4:] == CLOSING
    assert "the source failed" in caplog.text


def test_events_that_are_not_later_than_the_one_before_are_counted_and_the_first_told_with_both_times(
    road: Road, caplog: pytest.LogCaptureFixture
) -> None:
    services = [TransitionId.Configure, *[TransitionId.L1Accept] * 5, TransitionId.BeginRun]
    second = 1 << 32
    times = [second, 3 * second + 5, 3 * second + 4, 3 * second + 4, 9 * second, 9 * second + 1, 2 * second]
    feed = run(Scripted([*services, TransitionId.L1Accept], times=[*times, 2 * second + 1]), road)
    assert (feed.events, feed.not_rising) == (6, 2), "a run begins afresh"
    (told,) = [one.getMessage() for one in caplog.records if "not later" in one.getMessage()]
    assert told.startswith(
        "scripted: event 2, at 3.000000004, is not later than the one before it, at 3.000000005"
    )


def test_a_source_that_stamps_nothing_is_told_of(road: Road, caplog: pytest.LogCaptureFixture) -> None:
    feed = run(Scripted([TransitionId.Configure, *[TransitionId.L1Accept] * 3], times=[0] * 4), road)
    assert feed.not_rising == 2
    assert "event 2, at 0.000000000" in caplog.text


def test_an_event_before_configure_is_the_sources_error(road: Road) -> None:
    feed = run(Scripted([TransitionId.L1Accept]), road)
    assert "Configure" in str(feed.error)
    assert road.flow.submit_next == 1


def test_a_held_feed_takes_nothing(road: Road) -> None:
    source = Scripted([TransitionId.Configure])
    feed = Feed(source, road.flow.pebble, road.flow, events=None, name="scripted")
    feed.hold()
    feed.start()
    assert not feed.join(0.1)
    assert road.flow.submit_next == 1
    feed.resume()
    road.run(feed)
    assert road.services[0] == TransitionId.Configure


class Told(Scripted):
    """A scripted source that is told when something is there, as one that follows triggers is."""

    waits = 0

    def wait(self, timeout_s: float) -> None:
        self.waits += 1
        self.closed.wait(timeout_s / 20)


def test_a_transition_gets_through_where_no_slot_for_an_event_is_free(road: Road) -> None:
    """As at 100 % dead time: nobody takes the events that fill all 64 slots, and then comes Disable."""
    begin = [TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable]
    source = Told([*begin, *[TransitionId.L1Accept] * 64])
    feed = Feed(source, road.flow.pebble, road.flow, events=None, name="told")
    source.fill = until_told(source.fill)  # type: ignore[method-assign]
    feed.start()
    until = time.monotonic() + 10
    while TransitionId.Enable not in road.services:
        road.turn()
        assert time.monotonic() < until
    while source.left:
        time.sleep(0.001)
        assert time.monotonic() < until, "the events do not come"
    source.left.append(dgram(TransitionId.Disable, 10_000))
    while source.left:
        time.sleep(0.001)
        assert time.monotonic() < until, "Disable does not get through"
    feed.stop()
    road.run(feed)
    assert feed.events == 64


def until_told(fill):  # type: ignore[no-untyped-def]
    """Return a `fill` that does not end where there is nothing left."""
    return lambda slots: max(fill(slots), 0)
