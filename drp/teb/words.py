"""A teb's stream of trigger words: every event it has decided on goes to whoever subscribes, as soon as it is decided (`drp.core.words`).

Nobody is waited for: to a subscriber that does not keep up the socket drops messages, and the numbers of the events tell it so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from drp.core.batch import Contributor
from drp.core.wire import Header, Kind
from drp.core.words import MAX_EVENTS, encode_events, encode_schema
from drp.link.keys import Keys
from drp.link.sockets import listen

HIGH_WATER = 256
BEAT_S = 0.5
LOOK_S = 0.02
SUBSCRIBE = b"\x01"


class WordsPublisher:
    """Publishes on a socket `words-NAME`, from one thread. `subscribers`: how many there are. LinkError where it cannot be made."""

    def __init__(self, name: str, *, bind: str | None = None, keys: Keys | None = None) -> None:
        self.socket, self.endpoint = listen(
            zmq.XPUB, f"words-{name}", bind=bind, keys=keys, high_water=HIGH_WATER
        )
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self.subscribers = 0
        self._session = random.getrandbits(32) or 1
        self._turn = self._number = 0
        self._beat_s = self._looked_s = 0.0
        self._contributors: tuple[Contributor, ...] = ()

    def configure(self, contributors: Sequence[Contributor]) -> None:
        """Say whose words are published from now on."""
        self._contributors = tuple(contributors)
        self._number = 0
        self._turn += 1
        self._tell()

    def publish(
        self,
        events: npt.NDArray[Any],
        rows: Sequence[npt.NDArray[np.uint8]],
        results: npt.NDArray[np.uint32],
    ) -> None:
        """Publish events with the rows of each contributor and their verdicts. `number` of events rises by one, in the order of `configure`."""
        if not len(events):
            return
        self._number = int(events["number"][-1])
        if not self.subscribers:
            return
        for at in range(0, len(events), MAX_EVENTS):
            part = slice(at, at + MAX_EVENTS)
            self._send(encode_events(self._session, events[part], [one[part] for one in rows], results[part]))

    def look(self) -> None:
        """Take note of who subscribes, and twice a second tell all how many events there were."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        while True:
            try:
                word = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            came = word[:1] == SUBSCRIBE
            self.subscribers = max(0, self.subscribers + (1 if came else -1))
            if came:  # those who know it already pass over it
                self._tell()
        if now_s - self._beat_s >= BEAT_S:
            self._beat_s = now_s
            self._send(Header(Kind.CREDIT, self._session).encode() + self._number.to_bytes(8, "little"))

    def close(self) -> None:
        """End the stream."""
        self._send(Header(Kind.BYE, self._session).encode())
        self.socket.close()

    def _tell(self) -> None:
        self._send(encode_schema(self._session, self._contributors, self._turn))

    def _send(self, frame: bytes) -> None:
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:  # an XPUB drops instead; whatever it is, nobody is waited for
            return
