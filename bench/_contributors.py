"""Contributors of a teb in one process, with events made ahead: what they cost is sending, receiving and a look at the count."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zmq

from drp.core import wire
from drp.core.wire import Header, Kind
from drp.link.sockets import Endpoint, join, well_known
from xtc import TransitionId

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "import sys; from drp_start import teb; sys.exit(teb())"
LIMIT_S = 60.0
WORDS = np.dtype([("npeaks", "<u4")])
STRIDE = wire.stride_of(WORDS.itemsize)
SESSION = 1


def aliases(n: int) -> list[str]:
    """Return the names of `n` contributors."""
    return [f"epix_{i}" for i in range(n)]


@contextmanager
def teb(names: Sequence[str], *options: str) -> Iterator[list[Contributor]]:
    """Run a teb with these contributors, configured."""
    served = f"bench-{os.getpid()}"
    lone = [word for name in names for word in ("--lone", name)]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--serve", served, *lone, *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    made: list[Contributor] = []
    try:
        made = [Contributor(well_known(served), i, name) for i, name in enumerate(names)]
        for one in made:
            one.hello()
        for one in made:
            one.configure()
        for one in made:
            one.await_configured()
        yield made
    finally:
        for one in made:
            one.socket.close(0)
        process.terminate()
        process.wait(LIMIT_S)


class Contributor:
    """One contributor. Its pulse ids rise from event to event; every other one has many peaks."""

    def __init__(self, endpoint: Endpoint, number: int, alias: str) -> None:
        self.socket = join(zmq.DEALER, endpoint)
        self.number, self.alias = number, alias
        self.made = 0
        self.decided = 0
        self.kept = 0
        self.built: list[str] = []

    def hello(self) -> None:
        """Begin a session."""
        body = {"alias": self.alias, "level": "drp", "id": self.number, "epoch": 1, "group": 0, "last": 0}
        self.socket.poll(int(LIMIT_S * 1000), zmq.POLLOUT)
        self.socket.send(wire.encode_json(Kind.HELLO, SESSION, body))
        header, _ = self._receive()
        if header.kind is not Kind.WELCOME:
            raise SystemExit(f"bench: the teb answers {header}")

    def configure(self) -> None:
        """Declare one word."""
        body = {"words": [["npeaks", "UINT32"]], "words_bytes": 4, "alias": self.alias, "detector": "epix"}
        record = np.array([(0, 1, 1, 1 | TransitionId.Configure << 24, 0, 0)], wire.CONTRIBUTION).tobytes()
        text = wire.encode_json(Kind.TRANSITION, SESSION, body)[Header.SIZE :]
        self.socket.send(Header(Kind.TRANSITION, SESSION, 1).encode() + record + text)

    def await_configured(self) -> None:
        """Wait until the trigger script stands."""
        header, payload = self._receive()
        if header.kind is not Kind.TRANSITION:
            raise SystemExit(f"bench: the teb answers {header} {bytes(payload)[:200]!r}")

    def _receive(self) -> tuple[Header, memoryview]:
        if not self.socket.poll(int(LIMIT_S * 1000)):
            raise SystemExit("bench: the teb does not answer")
        return wire.decode(self.socket.recv())

    def frames(self, events: int, size: int) -> list[bytes]:
        """Return messages of `size` events each, for so many events in all."""
        rows = np.zeros((events, STRIDE), np.uint8)
        records = np.zeros(events, wire.CONTRIBUTION)
        records["seq"] = np.arange(self.made, self.made + events)
        records["pulse_id"] = records["timestamp"] = records["seq"] * 9 + 100
        records["env"], records["flags"] = 1 | TransitionId.L1Accept << 24, wire.Contributed.words
        rows[:, :32] = records.view(np.uint8).reshape(events, 32)
        rows[:, 32:36] = ((records["seq"] % 2) * 100).astype("<u4").view(np.uint8).reshape(events, 4)
        self.made += events
        parts = [rows[i : i + size] for i in range(0, events, size)]
        return [Header(Kind.EVENTS, SESSION, len(part)).encode() + part.tobytes() for part in parts]

    def take(self) -> int:
        """Take the verdicts that have come; returns how many."""
        found = 0
        while True:
            try:
                header, payload = wire.decode(self.socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                break
            if header.kind is not Kind.EVENTS:
                raise SystemExit(f"bench: the teb says {header} {bytes(payload)[:200]!r}")
            verdicts = wire.records(payload, header.count, wire.VERDICT)
            found += header.count
            self.kept += int(np.count_nonzero(verdicts["result"] & wire.PERSIST))
        self.decided += found
        return found


def decide(made: Sequence[Contributor], events: int, size: int, in_flight: int) -> float:
    """Have so many events decided on, `size` in a message and `in_flight` undecided at most; returns the events per second. SystemExit: wrong verdicts."""
    frames = [one.frames(events, size) for one in made]
    sent = [0] * len(made)
    goal = [one.decided + events for one in made]
    start = [one.decided for one in made]
    kept = [one.kept for one in made]
    poller = zmq.Poller()
    for one in made:
        poller.register(one.socket, zmq.POLLIN)
    began = time.perf_counter()
    while any(one.decided < end for one, end in zip(made, goal, strict=True)):
        moved = False
        for i, one in enumerate(made):
            moved = bool(one.take()) or moved
            while sent[i] < len(frames[i]) and (sent[i] + 1) * size - (one.decided - start[i]) <= in_flight:
                one.socket.send(frames[i][sent[i]])
                sent[i] += 1
                moved = True
        if not moved and not poller.poll(int(LIMIT_S * 1000)):
            raise SystemExit("bench: the teb decides nothing any more")
    took = time.perf_counter() - began
    if any(one.kept - before != events // 2 for one, before in zip(made, kept, strict=True)):
        raise SystemExit(f"bench: of {events} events {[one.kept for one in made]} were kept")
    return events / took


def latencies(made: Sequence[Contributor], events: int, rate_hz: float) -> list[float]:
    """Have events decided on one at a time, at this rate; returns the seconds from the last contribution to the first verdict of each."""
    frames = [one.frames(events, 1) for one in made]
    first = made[0]
    out = []
    due = time.perf_counter()
    for k in range(events):
        due += 1 / rate_hz
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        for one, own in zip(made, frames, strict=True):
            one.socket.send(own[k])
        sent = time.perf_counter()
        if not first.socket.poll(int(LIMIT_S * 1000)):
            raise SystemExit("bench: the teb does not answer")
        out.append(time.perf_counter() - sent)
        for one in made:
            if one.socket.poll(int(LIMIT_S * 1000)):
                one.take()
    return out
