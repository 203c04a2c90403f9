"""The source's thread: what a source puts, loses or breaks, and how its run is closed."""

import os
import struct
import threading
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

    def __init__(self, services: list[int], error: Exception | None = None) -> None:
        self.left = [dgram(service, 10 + 10 * i) for i, service in enumerate(services)]
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


@pytest.fixture
def flow() -> Iterator[Flow]:
    notify = os.eventfd(0, os.EFD_NONBLOCK)
    yield Flow(Pebble(64, 128, 32, 256), Recorder(None).l1, notify)
    os.close(notify)


def services(flow: Flow) -> list[int]:
    """What stands in the flow, in order: nothing was dispatched, so all of it."""
    return [flow.transition(seq)[0][11] & 0xF for seq in range(1, flow.submit_next)]


def run(source: Scripted, flow: Flow, events: int | None = None) -> Feed:
    feed = Feed(source, flow.pebble, flow, events=events, name="scripted")
    feed.start()
    assert feed.join(10)
    assert source.closed.is_set()
    return feed


CLOSING = [TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun, TransitionId.Unconfigure]


def test_a_source_of_events_alone_becomes_a_whole_run(flow: Flow) -> None:
    feed = run(Scripted([TransitionId.Configure, *[TransitionId.L1Accept] * 3]), flow)
    begin = [TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable]
    assert services(flow) == [*begin, *[TransitionId.L1Accept] * 3, *CLOSING]
    assert feed.events == 3
    assert feed.lost == 3


def test_the_events_wanted_end_the_source_and_close_the_run(flow: Flow) -> None:
    feed = run(Scripted([TransitionId.Configure, *[TransitionId.L1Accept] * 30]), flow, events=5)
    assert services(flow).count(TransitionId.L1Accept) == feed.events == 5
    assert services(flow)[-4:] == CLOSING


def test_a_source_that_breaks_closes_its_run_and_is_told_of(
    flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    feed = run(Scripted([TransitionId.Configure, TransitionId.L1Accept], ValueError("detector off")), flow)
    assert isinstance(feed.error, ValueError)
    assert services(flow)[-4:] == CLOSING
    assert "the source failed" in caplog.text


def test_an_event_before_configure_is_the_sources_error(flow: Flow) -> None:
    feed = run(Scripted([TransitionId.L1Accept]), flow)
    assert "Configure" in str(feed.error)
    assert flow.submit_next == 1


def test_a_held_feed_takes_nothing(flow: Flow) -> None:
    source = Scripted([TransitionId.Configure])
    feed = Feed(source, flow.pebble, flow, events=None, name="scripted")
    feed.hold()
    feed.start()
    assert not feed.join(0.1)
    assert flow.submit_next == 1
    feed.resume()
    assert feed.join(10)
    assert services(flow)[0] == TransitionId.Configure
