"""The ipc socket between a drp and its workers, for real: threads and zmq, a shared segment played by a bytearray."""

from __future__ import annotations

import os
import socket as plain
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zmq

from calib.broadcast import pack
from calib.broadcast.messages import Ask, Offer, Taken, encode
from calib.broadcast.packing import Packed
from calib.broadcast.publisher import Publisher
from calib.broadcast.subscriber import Subscriber
from calib.errors import BroadcastError

LIMIT_S = 20.0


class Memory:
    """Stands for shared memory: sets by id."""

    def __init__(self) -> None:
        self.segments: dict[int, bytearray] = {}
        self.attached = 0

    def place(self, value: float) -> Offer:
        plan = pack({"det/pedestals": np.full((2, 3), value, np.float32)})
        number = len(self.segments) + 1
        self.segments[number] = bytearray(plan.size_bytes)
        plan.write(self.segments[number])
        return Offer(number, 0, plan.digest, number, plan.size_bytes, plan.entries)

    def attach(self, segment_id: int, size_bytes: int) -> bytes:
        self.attached += 1
        if segment_id not in self.segments:
            raise OSError(22, "no such segment")
        return bytes(self.segments[segment_id][:size_bytes])


def at(offer: Offer, stamp: int, version: int | None = None) -> Offer:
    """The offer for another BeginRun."""
    fields = {name: getattr(offer, name) for name in ("digest", "segment_id", "size_bytes", "entries")}
    return Offer(version=offer.version if version is None else version, stamp=stamp, **fields)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(tmp_path / "drp.sock", repeat_s=0.1)
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def in_thread(
    call: Callable[[], tuple[Offer, Packed]],
) -> tuple[threading.Thread, list[tuple[Offer, Packed]]]:
    got: list[tuple[Offer, Packed]] = []
    thread = threading.Thread(target=lambda: got.append(call()), daemon=True)
    thread.start()
    return thread, got


def value_of(packed: Packed) -> float:
    value = packed.values["det/pedestals"]
    assert isinstance(value, np.ndarray)
    return float(value[0, 0])


def test_the_socket_is_for_this_user_only_and_goes_with_the_publisher(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "a.sock")
    status = (tmp_path / "a.sock").stat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    publisher.close()
    assert not list(tmp_path.iterdir())


def test_a_path_too_long_for_a_socket_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BroadcastError, match="XDG_RUNTIME_DIR"):
        Publisher(tmp_path / ("x" * 120))


def test_a_worker_that_is_early_gets_the_set_when_it_is_there(publisher: Publisher, memory: Memory) -> None:
    publisher.expect("t1", "worker 1")
    publisher.begin(5)
    subscriber = Subscriber(publisher.address, "t1", memory.attach, limit_s=LIMIT_S)
    thread, got = in_thread(lambda: subscriber.take(5))
    until(lambda: publisher.story("t1") == "it asked, and was sent nothing")
    publisher.publish(at(memory.place(1.5), 5))
    thread.join(LIMIT_S)
    assert value_of(got[0][1]) == 1.5
    assert publisher.has("t1")


def test_someone_who_asks_for_a_run_not_begun_rouses_drp(tmp_path: Path, memory: Memory) -> None:
    roused = threading.Event()
    publisher = Publisher(tmp_path / "b.sock", on_early=roused.set)
    publisher.expect("t1", "worker 1")
    thread, got = in_thread(
        lambda: Subscriber(publisher.address, "t1", memory.attach, limit_s=LIMIT_S).take(9)
    )
    assert roused.wait(LIMIT_S)
    publisher.begin(9)
    publisher.publish(at(memory.place(2.0), 9))
    thread.join(LIMIT_S)
    assert value_of(got[0][1]) == 2.0
    publisher.close()


def test_an_unchanged_set_is_attached_once(publisher: Publisher, memory: Memory) -> None:
    publisher.expect("t1", "worker 1")
    subscriber = Subscriber(publisher.address, "t1", memory.attach, limit_s=LIMIT_S)
    offer = memory.place(1.0)
    for run in range(1, 4):
        publisher.begin(run)
        publisher.publish(at(offer, run, version=run))
        found, _ = subscriber.take(run)
        assert found.version == run
        assert publisher.has("t1")
    assert memory.attached == 1
    publisher.begin(9)
    publisher.publish(at(memory.place(3.0), 9))
    assert value_of(subscriber.take(9)[1]) == 3.0
    assert memory.attached == 2


def test_many_workers_take_one_set(publisher: Publisher, memory: Memory) -> None:
    publisher.begin(1)
    threads = []
    for number in range(16):
        publisher.expect(f"t{number}", f"worker {number}")
        one = Subscriber(publisher.address, f"t{number}", memory.attach, limit_s=LIMIT_S)
        threads.append(in_thread(lambda one=one: one.take(1)))  # type: ignore[misc]
    publisher.publish(at(memory.place(4.0), 1))
    for thread, got in threads:
        thread.join(LIMIT_S)
        assert value_of(got[0][1]) == 4.0
    assert all(publisher.has(f"t{number}") for number in range(16))


def test_a_publisher_that_is_not_there_is_an_error_in_time(tmp_path: Path, memory: Memory) -> None:
    one = Subscriber(f"ipc://{tmp_path}/none.sock", "t", memory.attach, limit_s=LIMIT_S, silence_s=0.2)
    with pytest.raises(BroadcastError, match="has not answered"):
        one.take(1)


def test_a_set_that_does_not_come_is_an_error_in_time(publisher: Publisher, memory: Memory) -> None:
    publisher.expect("t1", "worker 1")
    publisher.begin(1)
    with pytest.raises(BroadcastError, match="no constants within"):
        Subscriber(publisher.address, "t1", memory.attach, limit_s=0.2).take(1)


def test_a_segment_that_is_not_there_or_holds_something_else_is_an_error(
    publisher: Publisher, memory: Memory
) -> None:
    publisher.expect("t1", "worker 1")
    publisher.begin(1)
    offer = memory.place(1.0)
    subscriber = Subscriber(publisher.address, "t1", memory.attach, limit_s=LIMIT_S)
    memory.segments[1][200] ^= 1
    publisher.publish(at(offer, 1))
    memory.segments[1][70] ^= 1
    with pytest.raises(BroadcastError, match="digest"):
        subscriber.take(1)
    del memory.segments[1]
    with pytest.raises(BroadcastError, match="cannot be attached"):
        subscriber.take(1)
    assert not publisher.has("t1")


@pytest.mark.parametrize("gone", [False, True])
def test_who_is_overtaken_by_the_next_run_takes_its_set(
    publisher: Publisher, memory: Memory, gone: bool
) -> None:
    """The next set is there, and with `gone` the first one is not any more, while the first is being attached."""
    publisher.expect("t1", "spare 1")
    publisher.begin(1)
    publisher.publish(at(memory.place(1.0), 1))
    overtaken = []

    def attach(segment_id: int, size_bytes: int) -> bytes:
        if not overtaken:
            overtaken.append(segment_id)
            publisher.begin(2)
            publisher.publish(at(memory.place(2.0), 2))
            if gone:
                del memory.segments[segment_id]
        return memory.attach(segment_id, size_bytes)

    offer, packed = Subscriber(publisher.address, "t1", attach, limit_s=LIMIT_S).take(1)
    assert offer.stamp == 2
    assert value_of(packed) == 2.0
    assert publisher.has("t1")


def test_oversized_foreign_and_unsigned_messages_are_refused_and_the_service_goes_on(
    publisher: Publisher, memory: Memory
) -> None:
    publisher.expect("t1", "worker 1")
    publisher.begin(1)
    publisher.publish(at(memory.place(7.0), 1))
    with zmq.Context() as context:
        for frames in ([b"x" * (1 << 20)], [b"nonsense"], [b""], [b"{}", b"{}"], [encode(Ask("stolen", 1))]):
            with context.socket(zmq.DEALER) as socket:
                socket.setsockopt(zmq.LINGER, 1000)
                socket.connect(publisher.address)
                socket.send_multipart(frames)
                assert not socket.poll(30)
        with context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 1000)
            socket.connect(publisher.address)
            socket.send(encode(Taken("t2", 1, "0" * 64)))
    with plain.socket(plain.AF_UNIX) as raw:
        raw.connect(str(publisher.path))
        raw.sendall(os.urandom(4096))
    until(lambda: publisher.refused >= 3 and publisher.strangers == 2)
    assert not publisher.has("t1")
    assert value_of(Subscriber(publisher.address, "t1", memory.attach, limit_s=LIMIT_S).take(1)[1]) == 7.0


def test_a_lost_acknowledgement_is_made_good(publisher: Publisher, memory: Memory) -> None:
    """A peer takes the offer and says nothing: it is offered again, and settles with the next answer."""
    publisher.expect("t1", "worker 1")
    publisher.begin(1)
    offer = at(memory.place(1.0), 1)
    publisher.publish(offer)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(publisher.address)
        socket.send(encode(Ask("t1", 1)))
        for _ in range(3):
            assert socket.poll(int(LIMIT_S * 1000))
            socket.recv()
        assert not publisher.has("t1")
        socket.send(encode(Taken("t1", offer.version, offer.digest)))
        until(lambda: publisher.has("t1"))


def test_one_that_floods_the_socket_does_not_keep_the_others_waiting(
    publisher: Publisher, memory: Memory
) -> None:
    over = threading.Event()

    def flood() -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as flooding:
            flooding.setsockopt(zmq.LINGER, 0)
            flooding.connect(publisher.address)
            while not over.is_set():
                with suppress(zmq.Again):
                    flooding.send(b"junk", zmq.NOBLOCK)

    publisher.expect("t1", "worker 1")
    publisher.begin(5)
    publisher.publish(at(memory.place(1.5), 5))
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        until(lambda: publisher.refused > 1000)
        assert value_of(Subscriber(publisher.address, "t1", memory.attach, limit_s=5.0).take(5)[1]) == 1.5
    finally:
        over.set()
        thread.join(LIMIT_S)
