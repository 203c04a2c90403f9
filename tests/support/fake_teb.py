"""A teb turned by hand: what it was sent, and answers that the test chooses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zmq

from drp.core import wire
from drp.core.wire import Header, Kind
from drp.link.sockets import listen


@dataclass
class FakeTeb:
    """One teb. `rule(seq, pulse id, words)` is the result of an event; None: it keeps silent about it."""

    name: str = "teb0"
    rule: Callable[[int, int, bytes], int | None] = lambda *_: wire.PERSIST
    window: int = 1000
    epoch: int = 1
    hellos: list[dict[str, Any]] = field(default_factory=list)
    heard: list[tuple[int, Any]] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    most: int = 0
    answers_configure: bool = True

    def __post_init__(self) -> None:
        self.stride = wire.stride_of(0)
        self.peer = b""
        self.open = 0
        self.start()

    def start(self) -> None:
        self.socket, self.endpoint = listen(zmq.ROUTER, self.name)

    def stop(self) -> None:
        self.socket.close(0)

    def send(self, frame: bytes) -> None:
        self.socket.send_multipart([self.peer, frame])

    def serve(self) -> None:
        """Answer all that has come."""
        while self.socket.poll(0):
            self.peer, frame = self.socket.recv_multipart()
            header, payload = wire.decode(frame)
            getattr(self, f"on_{header.kind.name.lower()}")(header, payload)

    def on_hello(self, header: Header, payload: memoryview) -> None:
        body = wire.decode_json(payload)
        self.hellos.append(body)
        if body["epoch"] != self.epoch:
            self.send(wire.encode_json(Kind.ERROR, header.session, {"what": "another epoch", "hint": ""}))
            return
        self.sessions.append(header.session)
        self.open = 0
        self.send(
            wire.encode_json(Kind.WELCOME, header.session, {"epoch": self.epoch, "window": self.window})
        )

    def on_transition(self, header: Header, payload: memoryview) -> None:
        record = wire.records(payload[:32], 1, wire.CONTRIBUTION)
        body = wire.decode_json(payload[32:])
        service = int(record["env"][0]) >> 24 & 15
        self.heard.append((service, body))
        if "words_bytes" in body:
            self.stride = wire.stride_of(body["words_bytes"])
            if self.answers_configure:
                told = wire.encode_json(
                    Kind.TRANSITION, header.session, {"service": "Configure", "missing": []}
                )
                self.send(told[: Header.SIZE] + record.tobytes() + told[Header.SIZE :])

    def on_events(self, header: Header, payload: memoryview) -> None:
        asked = wire.records(payload, header.count, wire.CONTRIBUTION, self.stride)
        self.heard += [(12, int(seq)) for seq in asked["seq"]]
        self.open += header.count
        self.most = max(self.most, self.open)
        for number, one in enumerate(asked):
            at = number * self.stride + 32
            result = self.rule(
                int(one["seq"]), int(one["pulse_id"]), bytes(payload[at : at + self.stride - 32])
            )
            if result is not None:
                self.verdict(header.session, int(one["seq"]), int(one["pulse_id"]), result)

    def on_bye(self, header: Header, payload: memoryview) -> None:
        self.heard.append((0, "bye"))

    def verdict(self, session: int, seq: int, pulse_id: int, result: int, damage: int = 0) -> None:
        self.open -= 1
        record = np.array([(seq, pulse_id, result, damage, 0)], wire.VERDICT)
        self.send(Header(Kind.EVENTS, session, 1).encode() + record.tobytes())


def until(condition: Callable[[], Any], *tebs: FakeTeb, limit_s: float = 10.0) -> Any:
    """Have the tebs answer until something is so."""
    end_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it does not come to that"
        for teb in tebs:
            if not teb.socket.closed:
                teb.serve()
        time.sleep(0.0005)
    return found
