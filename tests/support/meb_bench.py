"""A meb in a thread, and drps that are plain sockets, for tests of what lies between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import zmq
from dgrams import Builder

from drp.core.wire import Header, Kind, decode, decode_json, encode_json, encode_monitored
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join
from drp.meb.assembly import Contributor
from drp.meb.server import Meb, MebConfig
from xtc import TransitionId

LIMIT_S = 10.0
NAME = "meb0-tst-p0"


def until(what: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until something holds; AssertionError where it does not in time."""
    end_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end_s, "it did not come to that in time"
        time.sleep(0.005)


@contextmanager
def served(
    buffers: int = 16, contributors: Iterable[Contributor] | None = None, config: MebConfig | None = None
) -> Iterator[Meb]:
    """A meb turned by a thread of its own; of what it has, look at counts only."""
    stop = threading.Event()
    with Meb(config or MebConfig(NAME, buffers)) as meb:
        meb.configure(0, contributors)

        def turn() -> None:
            while not stop.is_set():
                meb.turn(20)

        thread = threading.Thread(target=turn)
        thread.start()
        try:
            yield meb
        finally:
            stop.set()
            thread.join(LIMIT_S)
            assert not thread.is_alive()


class FakeDrp:
    """A drp as the meb sees it. Its detector is `det`; its Names bear the same node number as those of any other."""

    def __init__(
        self, endpoint: Endpoint, drp_id: int, det: str = "cam", session: int = 0, keys: Keys | None = None
    ) -> None:
        self.builder = Builder(1)
        if det != "cam":
            self.builder.raw = [
                type(one)(one.names_id, one.dettype, det, one.detid, one.segment, one.alg, one.fields)
                for one in self.builder.raw
            ]
            self.builder.names = [*self.builder.raw, *self.builder.names[1:2], self.builder.names[-1]]
        self.id = drp_id
        self.session = session or 100 + drp_id
        self.credit = 0
        self.socket = join(zmq.DEALER, endpoint, keys=keys, max_bytes=1 << 30)

    def hello(self, epoch: int = 0) -> dict[str, object]:
        body = {
            "alias": f"drp{self.id}",
            "level": "drp",
            "id": self.id,
            "epoch": epoch,
            "group": 0,
            "last": 0,
        }
        self.socket.send(encode_json(Kind.HELLO, self.session, body))
        header, payload = self.receive()
        assert header.session == self.session
        answer = decode_json(payload)
        if header.kind == Kind.WELCOME:
            self.credit = int(answer["window"])
        return {"kind": header.kind} | answer

    def receive(self) -> tuple[Header, memoryview]:
        assert self.socket.poll(LIMIT_S * 1000)
        return decode(self.socket.recv())

    def await_credit(self, least: int = 1) -> None:
        while self.credit < least:
            header, payload = self.receive()
            if header.kind == Kind.CREDIT:
                self.credit = int.from_bytes(payload, "little")

    def send(self, dgrams: bytes, pulse_id: int, *, again: bool = False, result: int = 4) -> None:
        head = Header(Kind.DGRAM, self.session, int(again)).encode()
        self.socket.send(head + encode_monitored(pulse_id, result, self.id) + dgrams)

    def configure(self) -> bytes:
        parts = [one.encode() for one in self.builder.names]
        from xtc import encode_dgram

        return encode_dgram(TransitionId.Configure, 1, parts)

    def begin(self, pulse_id: int = 1, *, again: bool = False) -> None:
        self.builder.time = (1000 << 32) + pulse_id
        self.send(self.configure() + self.builder.begin_run(), pulse_id, again=again)
        self.send(self.builder.begin_step(), pulse_id + 1, again=again)
        self.send(self.builder.bare(TransitionId.Enable), pulse_id + 2, again=again)

    def events(self, pulse_ids: Iterable[int]) -> None:
        for pulse_id in pulse_ids:
            self.builder.time = (1000 << 32) + pulse_id
            self.send(self.builder.event(pulse_id), pulse_id)

    def end(self, pulse_id: int) -> None:
        self.builder.time = (1000 << 32) + pulse_id
        for service in (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun):
            self.send(self.builder.bare(service), pulse_id + service)

    def close(self) -> None:
        self.socket.close()
