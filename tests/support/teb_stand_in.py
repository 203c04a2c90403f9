"""A drp's end of a teb's link, for tests and benchmarks: it says what it is told to, and keeps what it hears, with a limit to every wait."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import zmq

from drp.core import wire
from drp.core.wire import Header, Kind
from drp.link.sockets import Endpoint, join, well_known
from xtc import TransitionId

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from drp_start import teb; sys.exit(teb())"
LIMIT_S = 60.0
L1 = TransitionId.L1Accept << 24


class StandIn:
    """One contributor. As a context manager it is closed."""

    def __init__(self, endpoint: Endpoint, number: int = 0, alias: str = "epix_0", epoch: int = 1) -> None:
        self.socket = join(zmq.DEALER, endpoint)
        self.number, self.alias, self.epoch = number, alias, epoch
        self.session = random.getrandbits(32) or 1
        self.verdicts: dict[int, tuple[int, int, int]] = {}
        self.transitions: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.refused = 0
        self.window = 0
        self.sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close(0)

    def send(self, frame: bytes) -> None:
        self.until(lambda: bool(self.socket.poll(100, zmq.POLLOUT)), "room to send")
        self.socket.send(frame)

    def hello(self, **changed: object) -> None:
        """Say HELLO until there is a WELCOME, or an ERROR."""
        body = {
            "alias": self.alias,
            "level": "drp",
            "id": self.number,
            "epoch": self.epoch,
            "group": 0,
            "last": 0,
        } | changed
        self.window = 0
        self.session = random.getrandbits(32) or 1
        self.send(wire.encode_json(Kind.HELLO, self.session, body))
        self.until(lambda: bool(self.window) or self.refused == self.session, "WELCOME")

    def transition(
        self, service: TransitionId, pulse_id: int, body: dict[str, Any] | None = None, groups: int = 1
    ) -> None:
        record = np.array([(0, pulse_id, pulse_id * 2, groups | service << 24, 0, 0)], wire.CONTRIBUTION)
        text = json.dumps(body or {}).encode()
        self.send(Header(Kind.TRANSITION, self.session, 1).encode() + record.tobytes() + text)

    def configure(self, pulse_id: int, words: Sequence[tuple[str, str]] = (), size: int = 0) -> None:
        self.transition(
            TransitionId.Configure,
            pulse_id,
            {
                "words": [list(one) for one in words],
                "words_bytes": size,
                "alias": self.alias,
                "detector": "epix",
            },
        )

    def events(
        self, pulses: Sequence[int], words: npt.NDArray[Any] | None = None, env: int = 1, flags: int = 1
    ) -> None:
        """Contribute to these events; sequence numbers count up."""
        self.send(self.frame(pulses, words, env, flags))
        self.sent += len(pulses)

    def frame(
        self, pulses: Sequence[int], words: npt.NDArray[Any] | None = None, env: int = 1, flags: int = 1
    ) -> bytes:
        n = len(pulses)
        records = np.zeros(n, wire.CONTRIBUTION)
        records["seq"] = np.arange(self.sent, self.sent + n)
        records["pulse_id"] = pulses
        records["timestamp"] = records["pulse_id"] * 2
        records["env"], records["flags"] = env | L1, flags
        rows = records.view(np.uint8).reshape(n, -1)
        if words is not None:
            filled = np.zeros((n, wire.stride_of(words.dtype.itemsize)), np.uint8)
            filled[:, : rows.shape[1]] = rows
            filled[:, rows.shape[1] : rows.shape[1] + words.dtype.itemsize] = words.view(np.uint8).reshape(
                n, -1
            )
            rows = filled
        return Header(Kind.EVENTS, self.session, n).encode() + rows.tobytes()

    def receive(self, timeout_ms: int = 0) -> bool:
        """Take one message; False: there is none."""
        if not self.socket.poll(timeout_ms):
            return False
        header, payload = wire.decode(self.socket.recv())
        if header.kind is Kind.ERROR:
            self.errors.append(wire.decode_json(payload)["what"])
            self.refused = header.session
        elif header.session != self.session:
            return True
        elif header.kind is Kind.WELCOME:
            self.window = wire.decode_json(payload)["window"]
        elif header.kind is Kind.EVENTS:
            for seq, _, result, damage, flags in wire.records(payload, header.count, wire.VERDICT).tolist():
                assert seq not in self.verdicts
                self.verdicts[seq] = (result, damage, flags)
        elif header.kind is Kind.TRANSITION:
            size = wire.CONTRIBUTION.itemsize
            self.transitions.append(wire.decode_json(payload[size:]))
        return True

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Take messages until the condition holds."""
        until = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < until, f"{what}: not within {limit_s:g} s; errors {self.errors}"
            self.receive(10)

    def await_verdicts(self, n: int) -> None:
        self.until(lambda: len(self.verdicts) >= n, f"{n} verdicts")

    def await_transition(self, service: str) -> dict[str, Any]:
        self.until(lambda: any(one["service"] == service for one in self.transitions), service)
        return next(one for one in self.transitions if one["service"] == service)


@contextmanager
def teb_command(
    name: str, *options: str, log: Path | None = None, lone: str = "epix_0"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `teb --lone`, which serves `name` in the run directory; yield it when it stands."""
    argv = [sys.executable, "-c", COMMAND, "--serve", name, *(("--lone", lone) if lone else ()), *options]
    with open(log or os.devnull, "wb") as out:
        process = subprocess.Popen(
            argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def endpoint_of(name: str) -> Endpoint:
    return well_known(name)
