"""A drp's end of the link to timing: triggers come in, credit goes out.

It says HELLO until it is welcome, and begins again, with the same epoch and the last pulse id it had, whenever timing no longer knows it: timing was
restarted, or the connection was lost. Nothing of this blocks. What is lost on the way is seen by the number in each trigger and counted.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from drp.core import wire
from drp.core.errors import MessageError
from drp.core.wire import Header, Kind
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join
from xtc import TransitionId

RETRY_S = 0.2
KEEP_ALIVE_S = 1.0
MOST_FRAMES = 64

log = logging.getLogger("drp.source.timing")


@dataclass(frozen=True, slots=True)
class Who:
    """What a drp says of itself."""

    alias: str
    drp_id: int
    group: int
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition of timing's, and what control said in its phase 1."""

    service: TransitionId
    pulse_id: int
    timestamp: int
    env: int
    info: dict[str, Any]


@dataclass(slots=True)
class Events:
    """Triggers: the bytes of wire.TRIGGER records, of which `at` have been dealt."""

    triggers: npt.NDArray[np.uint8]
    count: int
    at: int = 0


class TimingLink:
    """Used by one thread. LinkError: the endpoint is none, or has no keys."""

    def __init__(
        self,
        endpoint: Endpoint,
        who: Who,
        *,
        keys: Keys | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.who = who
        self.lost = 0
        """Triggers that were sent and did not come."""
        self.sessions = 0
        self._socket = join(zmq.DEALER, endpoint, keys=keys)
        self._address = endpoint.address
        self._clock = clock_s
        self._session = 0
        self._welcome = False
        self._said_at = -RETRY_S
        self._next_number = 1
        self._last_pulse = 0
        self._received = 0
        self.refused = ""
        """Why timing does not know this drp; empty while it does."""
        self.dealt = 0
        """Events of this session that went into slots."""
        self.granted = 0

    @property
    def welcome(self) -> bool:
        """Whether timing knows this drp."""
        return self._welcome

    @property
    def unspent(self) -> int:
        """Events that timing may still send."""
        return self.granted - (self._next_number - 1)

    def receive(self) -> list[Events | Transition]:
        """Return what has come, in order."""
        self._greet()
        found: list[Events | Transition] = []
        for _ in range(MOST_FRAMES):
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                found += self._take(frame)
            except MessageError as error:
                self._restart(f"what timing sent cannot be used: {error}")
        return found

    def grant(self, total: int) -> None:
        """Tell timing how many events it may send in this session, in all."""
        now = self._clock()
        if not self._welcome or (total <= self.granted and now - self._said_at < KEEP_ALIVE_S):
            return
        total = max(total, self.granted)
        if self._send(Header(Kind.CREDIT, self._session).encode() + total.to_bytes(8, "little")):
            self.granted = total
            self._said_at = now

    def wait(self, timeout_s: float) -> None:
        """Wait until something has come."""
        self._socket.poll(max(1, round(timeout_s * 1000)))

    def close(self) -> None:
        """Say good-bye; once more does nothing."""
        if self._socket.closed:
            return
        if self._welcome:
            self._send(Header(Kind.BYE, self._session).encode())
        self._socket.close(linger=200)

    def _greet(self) -> None:
        now = self._clock()
        if self._welcome or now - self._said_at < RETRY_S:
            return
        self._session = secrets.randbelow((1 << 32) - 1) + 1
        who = self.who
        body = {
            "alias": who.alias,
            "level": "drp",
            "id": who.drp_id,
            "epoch": who.epoch,
            "group": who.group,
            "last": self._last_pulse,
            "received": self._received,
        }
        self._send(wire.encode_json(Kind.HELLO, self._session, body))
        self._said_at = now

    def _send(self, frame: bytes) -> bool:
        with contextlib.suppress(zmq.Again):
            self._socket.send(frame, zmq.NOBLOCK)
            return True
        return False

    def _take(self, frame: bytes) -> list[Events | Transition]:
        header, payload = wire.decode(frame)
        if header.session != self._session:
            return []
        if header.kind == Kind.WELCOME:
            self._welcome, self._next_number, self.granted, self.dealt, self.refused = True, 1, 0, 0, ""
            self.sessions += 1
            self._count_lost(wire.decode_json(payload).get("missed", 0))
            return []
        if header.kind in (Kind.ERROR, Kind.BYE):
            what = (
                "timing left" if header.kind == Kind.BYE else str(wire.decode_json(payload).get("what", ""))
            )
            self._restart(what[:400])
            return []
        if not self._welcome:
            raise MessageError(f"{header.kind.name} before WELCOME")
        if header.kind == Kind.EVENTS:
            records = wire.records(payload, header.count, wire.TRIGGER)
            self._follow(records)
            return [Events(np.frombuffer(payload, np.uint8), header.count)] if header.count else []
        if header.kind == Kind.TRANSITION:
            return [self._transition(payload)]
        raise MessageError(f"{header.kind.name} is not for a drp")

    def _transition(self, payload: memoryview) -> Transition:
        size = wire.TRIGGER.itemsize
        record = wire.records(payload[:size], 1, wire.TRIGGER)
        self._follow(record)
        one = record[0]
        env = int(one["env"])
        try:
            service = TransitionId(env >> 24 & 0xF)
        except ValueError:
            raise MessageError(f"there is no transition {env >> 24 & 0xF}") from None
        info = wire.decode_json(payload[size:])
        return Transition(service, int(one["pulse_id"]), int(one["timestamp"]), env, info)

    def _follow(self, records: npt.NDArray[Any]) -> None:
        """See that nothing is missing and that pulse ids rise. MessageError: they do not."""
        if not len(records):
            return
        numbers, pulses = records["number"].astype(np.int64), records["pulse_id"].astype(np.int64)
        if int(pulses[0]) <= self._last_pulse or (np.diff(pulses) <= 0).any():
            raise MessageError(f"pulse ids do not rise after {self._last_pulse}")
        missing = int(numbers[-1]) + 1 - self._next_number - len(records)
        if missing < 0 or missing >= 1 << 31:
            raise MessageError(f"trigger {numbers[0]} came where {self._next_number} was next")
        self._received += len(records)
        self._count_lost(missing)
        self._next_number = int(numbers[-1]) + 1
        self._last_pulse = int(pulses[-1])

    def _count_lost(self, missing: object) -> None:
        if isinstance(missing, int) and 0 < missing < 1 << 31:
            self.lost += missing
            self._received += missing
            log.error("%s: %d triggers of timing's were lost on the way", self.who.alias, missing)

    def _restart(self, why: str) -> None:
        if why != self.refused:
            log.log(
                logging.WARNING if self._welcome else logging.INFO, "%s: %s; trying again", self._address, why
            )
            self.refused = why
        if self._welcome:
            self._send(Header(Kind.BYE, self._session).encode())
        self._welcome = False
        self._said_at = self._clock()
