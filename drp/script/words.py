"""Trigger words as they are decided on: for scripts that steer by them.

    from drp import words

    for event in words("tst:0"):
        if event.words["epix_0"] is not None:
            steer(event.pulse_id, event.words["epix_0"]["npeaks"])

All events of the common readout group come, monitored or not, recorded or not, in the order of pulse ids. Over several tebs an event is held back
until each has gone past it, `HOLD_S` at most. Who is too slow loses events, and `lost` says how many; the tebs and the run do not notice.
"""

from __future__ import annotations

import heapq
import logging
import re
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import zmq

from drp.core.batch import Layout
from drp.core.errors import MessageError
from drp.core.wire import Kind, decode
from drp.core.words import WordsBatch, decode_events, decode_schema
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join, served, well_known
from drp.script.errors import ScriptError

HIGH_WATER = 256
HOLD_S = 0.005
POLL_MS = 100
TELL_S = 3.0
LOOK_S = 0.5
_WHERE = re.compile(r"(?P<instrument>[A-Za-z0-9_.-]+)(:(?P<platform>[0-7]))?(/(?P<alias>[A-Za-z0-9_.-]+))?")

log = logging.getLogger("drp.monitor")


class Words(NamedTuple):
    """One event: `result` as in LCLS's ResultDgram, `words` a record of numbers by alias, None where there are none."""

    pulse_id: int
    timestamp: int
    result: int
    words: dict[str, Any]


class _Stream:
    """One teb's stream."""

    def __init__(self, endpoint: Endpoint, keys: Keys | None) -> None:
        self.socket = join(zmq.SUB, endpoint, keys=keys, high_water=HIGH_WATER)
        self.socket.subscribe(b"")
        weakref.finalize(self, self.socket.close)
        self.layout: Layout | None = None
        self.session = self.last = self.lost = 0
        self._turn = 0
        self._number: int | None = None

    def take(self, frame: bytes) -> WordsBatch | None:
        """Take a message; return its events, if it has some."""
        header, payload = decode(frame)
        if header.kind == Kind.TRANSITION:
            layout, turn = decode_schema(payload)
            if (header.session, turn) != (self.session, self._turn):
                # Who has just come knows of nothing before the first event it is told of.
                self._number = 0 if header.session == self.session else None
            self.layout, self.session, self._turn = layout, header.session, turn
        elif header.session != self.session or self.layout is None:
            return None
        elif header.kind == Kind.CREDIT:
            self._until(int.from_bytes(payload[:8], "little"))
        elif header.kind == Kind.EVENTS:
            batch = decode_events(self.layout, payload, header.count)
            first, last = int(batch.events["number"][0]), int(batch.events["number"][-1])
            self._until(first - 1)
            self._number, self.last = last, int(batch.events["pulse_id"][-1])
            return batch
        return None

    def _until(self, number: int) -> None:
        before = number if self._number is None else self._number
        self.lost += max(0, number - before)
        self._number = max(number, before)


class WordsStream:
    """The words of a partition, an iterator of `Words`; `batches` is for those who take them as arrays. Not for several threads at once.

    `where`: `tst`, `tst:0`, or `tst:0/teb0`; or endpoints of tebs. `limit_s`: an iteration ends where nothing comes for so long. Raises LinkError,
    ScriptError.
    """

    def __init__(
        self,
        where: str | Sequence[Endpoint],
        *,
        keys: str | Path | None = None,
        limit_s: float | None = None,
    ) -> None:
        known = None if keys is None else Keys.load(keys)
        self._limit_s = limit_s
        self._late = 0
        self._order = 0
        endpoints = _endpoints(where, limit_s) if isinstance(where, str) else list(where)
        self._streams = [_Stream(one, known) for one in endpoints]
        self._poller = zmq.Poller()
        for one in self._streams:
            self._poller.register(one.socket, zmq.POLLIN)

    @property
    def lost(self) -> int:
        """How many events did not come to this subscriber, as far as it knows by now."""
        return sum(one.lost for one in self._streams) + self._late

    def batches(self) -> Iterator[WordsBatch]:
        """Yield what comes, as arrays; over several tebs each batch is in order, and one may overtake that of another teb."""
        ready: deque[WordsBatch] = deque()
        while True:
            while ready:
                yield ready.popleft()
            if not self._receive(self._limit_s, ready):
                return

    def __iter__(self) -> Iterator[Words]:
        if len(self._streams) == 1:
            for batch in self.batches():
                yield from _events(batch)
        else:
            yield from self._merged()

    def close(self) -> None:
        """Let go of the tebs."""
        for one in self._streams:
            one.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _merged(self) -> Iterator[Words]:
        heap: list[tuple[int, int, float, Words]] = []
        came: deque[WordsBatch] = deque()
        passed = 0
        while True:
            found = self._receive(HOLD_S if heap else self._limit_s, came)
            if not found and not heap:
                return
            now_s = time.monotonic()
            while came:
                for event in _events(came.popleft()):
                    self._order += 1
                    heapq.heappush(heap, (event.pulse_id, self._order, now_s, event))
            known = min(one.last for one in self._streams)
            while heap and (heap[0][0] <= known or now_s - heap[0][2] >= HOLD_S):
                event = heapq.heappop(heap)[3]
                if event.pulse_id <= passed:
                    self._late += 1
                else:
                    passed = event.pulse_id
                    yield event

    def _receive(self, limit_s: float | None, ready: deque[WordsBatch]) -> bool:
        """Take what has come, and wait for it; False where nothing came within the limit."""
        end_s = None if limit_s is None else time.monotonic() + limit_s
        while True:
            for one in self._streams:
                self._take_all(one, ready)
            if ready:
                return True
            left_s = POLL_MS / 1000 if end_s is None else min(end_s - time.monotonic(), POLL_MS / 1000)
            if left_s <= 0:
                return False
            self._poller.poll(max(1, int(left_s * 1000)))

    @staticmethod
    def _take_all(stream: _Stream, ready: deque[WordsBatch]) -> None:
        for _ in range(HIGH_WATER):
            try:
                frame = stream.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                batch = stream.take(frame)
            except MessageError as error:
                log.warning("a teb published what cannot be understood: %s", error)
                continue
            if batch is not None:
                ready.append(batch)


def _events(batch: WordsBatch) -> Iterator[Words]:
    columns = [
        (alias, records, batch.present[alias])
        for alias, records in batch.words.items()
        if records.dtype.names
    ]
    pulse_ids, stamps = batch.events["pulse_id"].tolist(), batch.events["timestamp"].tolist()
    for k, (pulse_id, stamp, result) in enumerate(
        zip(pulse_ids, stamps, batch.results.tolist(), strict=True)
    ):
        yield Words(
            pulse_id,
            stamp,
            result,
            {alias: records[k] if present[k] else None for alias, records, present in columns},
        )


def _endpoints(where: str, limit_s: float | None) -> list[Endpoint]:
    """Return where the tebs of a partition on this machine publish, once there are some."""
    match = _WHERE.fullmatch(where)
    if match is None:
        raise ScriptError("a partition is INSTRUMENT:PLATFORM, such as tst:0", found=where)
    partition = f"{match['instrument']}-p{match['platform'] or 0}"
    if match["alias"]:
        return [well_known(f"words-{match['alias']}-{partition}")]
    began_s, told = time.monotonic(), False
    while True:
        found = served(f"words-*-{partition}")
        if found:
            return [well_known(name) for name in found]
        waited_s = time.monotonic() - began_s
        if limit_s is not None and waited_s > limit_s:
            raise ScriptError(
                f"no teb of {partition} publishes words here", hint="Start the partition, or give endpoints."
            )
        if waited_s > TELL_S and not told:
            told = True
            log.warning("no teb of %s publishes words here yet", partition)
        time.sleep(LOOK_S)
