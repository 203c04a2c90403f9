"""The judge of a partition: contributions go to one to four tebs, chosen by pulse id, and verdicts come back.

A link to a teb is down, greeted or up. Down: HELLO is said every 0.2 s, each time for a new session. Greeted: no WELCOME yet. Up: contributions go
out, at most as many without a verdict as the teb's window has room for; more wait here, and they are no more than drp has slots. A link is lost
when the connection closes, when the teb stands still, says so or makes no sense, and when nothing it owes has come for `limit_s`. Then all that
it owes is kept without a verdict, as is all that is its to judge until it is up again, and the pulse ids of those are told. What a lost session
still says is dropped by its number: nothing is decided twice.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq
from zmq.utils.monitor import recv_monitor_message

from drp.core import wire
from drp.core.errors import DrpError, MessageError
from drp.core.wire import Header, Kind
from drp.engine.judging import SLEEP_MS, JudgeThread, Lost, Told
from drp.link.keys import Keys
from drp.link.sockets import Endpoint, join
from xtc import TransitionId

HELLO_EVERY_S = 0.2
CONNECTING_S = 0.01
WELCOME_S = 1.0
VERDICT_LIMIT_S = 75.0
"""Longer than a trigger script may take for its first event."""
SILENT_S = 3.0
READY_LIMIT_S = 10.0
GOODBYE_MS = 200
PULSES_OF_ONE_TEB = 64
MAX_RANGES = 100
NOT_RISING = "pulse ids do not rise"

log = logging.getLogger("drp.trigger")
Records = npt.NDArray[Any]


class TebError(DrpError):
    """A teb that a run cannot begin without."""


@dataclass(frozen=True, slots=True)
class Me:
    """Who contributes: as it says in HELLO and in its Configure. `group`: its readout group. An alias that is empty is that of the trigger words."""

    alias: str
    detector: str
    id: int = 0
    group: int = 0
    epoch: int = 1


@dataclass(slots=True)
class Owed:
    """What one teb has been sent, or is to be sent, and has not decided, by rising number. It knows no socket."""

    sent: Records = field(default_factory=lambda: np.empty(0, wire.VERDICT))
    waiting: deque[tuple[Records, memoryview]] = field(default_factory=deque)
    last_pulse: int = 0

    def __len__(self) -> int:
        return len(self.sent) + sum(len(asked) for asked, _ in self.waiting)

    def add(self, asked: Records, rows: memoryview) -> None:
        """Have contributions wait to be sent; `rows` are their bytes."""
        self.waiting.append((asked, rows))
        self.last_pulse = int(asked["pulse_id"][-1])

    def next(self, window: int) -> tuple[Records, memoryview] | None:
        """Return contributions that may be sent now, all at once; None where there are none, or no room in the window."""
        room = min(window - len(self.sent), wire.MAX_RECORDS)
        if not self.waiting or room <= 0:
            return None
        asked, rows = self.waiting.popleft()
        if len(asked) <= room:
            return asked, rows
        cut = room * (len(rows) // len(asked))
        self.waiting.appendleft((asked[room:], rows[cut:]))
        return asked[:room], rows[:cut]

    def put_back(self, asked: Records, rows: memoryview) -> None:
        """Take back what could not be sent."""
        self.waiting.appendleft((asked, rows))

    def has_sent(self, asked: Records) -> None:
        """Note what was sent."""
        self.sent = np.concatenate([self.sent, as_verdicts(asked)])

    def settle(self, verdicts: Records) -> Records:
        """Return those verdicts that are owed, each once, and owe them no more."""
        numbers, first = np.unique(verdicts["seq"], return_index=True)
        at = np.searchsorted(self.sent["seq"], numbers)
        owed = at < len(self.sent)
        owed[owed] &= self.sent["seq"][at[owed]] == numbers[owed]
        self.sent = np.delete(self.sent, at[owed])
        settled: Records = verdicts[first[owed]]
        return settled

    def give_up(self) -> Records:
        """Return all that is owed, as VERDICTs, and owe nothing."""
        out = np.concatenate([self.sent, *(as_verdicts(asked) for asked, _ in self.waiting)])
        self.sent = self.sent[:0]
        self.waiting.clear()
        return out


def as_verdicts(asked: Records) -> Records:
    """Return VERDICTs, empty but for number and pulse id, on these contributions."""
    out = np.zeros(len(asked), wire.VERDICT)
    out["seq"], out["pulse_id"] = asked["seq"], asked["pulse_id"]
    return out


class Link:
    """One teb. All in the judge's thread; `lost` takes what is kept without a verdict, `decided` what is decided."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        me: Me,
        keys: Keys | None,
        decided: Callable[[Records], None],
        lost: Callable[[Link, str, Records], None],
        limit_s: float,
    ) -> None:
        self.name = name
        self.up = False
        self.why = "it has not answered yet"
        self.stands = False
        self.dropped = 0
        self._endpoint = endpoint
        self._me = me
        self._keys = keys
        self._decided = decided
        self._lost = lost
        self._limit_s = limit_s
        self._owed = Owed()
        self._session = 0
        self._window = 0
        self._hello_s = 0.0
        self._greeted_s: float | None = None
        self._heard_s = 0.0
        self._told = ""
        self._configure: tuple[Records, dict[str, Any]] | None = None
        self._connect()

    def _connect(self) -> None:
        self.socket = join(zmq.DEALER, self._endpoint, keys=self._keys, silent_s=SILENT_S)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def close(self) -> None:
        """Say goodbye and close."""
        if self.up:
            self._send(Header(Kind.BYE, self._session).encode())
        self._disconnect(GOODBYE_MS)

    def _disconnect(self, linger_ms: int = 0) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger_ms)

    # What goes out.

    def ask(self, asked: Records, rows: memoryview) -> None:
        """Have these contributions judged, in rising order; where the teb is away, or has had a later pulse id, they are kept."""
        if not self.up:
            self._lost(self, self.why, as_verdicts(asked))
            return
        pulses = asked["pulse_id"]
        before = np.maximum.accumulate(np.concatenate([[np.uint64(self._owed.last_pulse)], pulses[:-1]]))
        if (late := pulses <= before).any():
            self._lost(self, NOT_RISING, as_verdicts(asked[late]))
            size = len(rows) // len(asked)
            whole = np.frombuffer(rows, np.uint8).reshape(-1, size)[~late]
            asked, rows = asked[~late], memoryview(whole.tobytes())
            if not len(asked):
                return
        if not len(self._owed):
            self._heard_s = time.monotonic()
        self._owed.add(asked, rows)
        self.push()

    def push(self) -> None:
        """Send what may be sent."""
        while self.up and (some := self._owed.next(self._window)) is not None:
            asked, rows = some
            if not self._send(Header(Kind.EVENTS, self._session, len(asked)).encode() + rows):
                self._owed.put_back(asked, rows)
                return
            self._owed.has_sent(asked)

    def tell(self, record: Records, body: dict[str, Any]) -> None:
        """Pass on a transition, with all events before it."""
        if record["env"][0] >> 24 & 0xF == TransitionId.Configure:
            self._configure, self.stands = (record, body), False
        if self.up:
            self.push()
            self._tell(record, body)

    def _tell(self, record: Records, body: dict[str, Any]) -> None:
        head = wire.encode_json(Kind.TRANSITION, self._session, body)
        frame = Header(Kind.TRANSITION, self._session, 1).encode() + record.tobytes() + head[Header.SIZE :]
        if not self._send(frame):
            self.lose("it takes nothing any more")

    def _send(self, frame: bytes) -> bool:
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    # What comes in, and what time does.

    def receive(self) -> bool:
        """Take all that has come; returns whether anything had."""
        found = False
        while True:
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                break
            found = True
            try:
                self._take(frame)
            except (MessageError, KeyError, TypeError, ValueError) as error:
                self.lose(f"it makes no sense: {error}")
        while self.monitor.poll(0):
            recv_monitor_message(self.monitor)
            self.lose("the connection is closed")
        return found

    def _take(self, frame: bytes) -> None:
        header, payload = wire.decode(frame)
        if header.session != self._session:
            self.dropped += 1
            return
        match header.kind:
            case Kind.WELCOME if self._greeted_s is not None:
                self._welcome(wire.decode_json(payload))
            case Kind.EVENTS if self.up:
                self._verdicts(wire.records(payload, header.count, wire.VERDICT))
            case Kind.TRANSITION if self.up:
                wire.records(payload[: wire.CONTRIBUTION.itemsize], 1, wire.CONTRIBUTION)
                self._built(wire.decode_json(payload[wire.CONTRIBUTION.itemsize :]))
            case Kind.ERROR:
                self.lose(str(wire.decode_json(payload).get("what", "it refuses"))[:200])
            case Kind.BYE:
                self.lose("it has left")
            case _:
                raise MessageError(f"{header.kind.name} does not come now")

    def _welcome(self, body: dict[str, Any]) -> None:
        if body["epoch"] != self._me.epoch:
            raise MessageError(f"its epoch is {body['epoch']}, ours {self._me.epoch}")
        self._window = max(1, min(int(body["window"]), wire.MAX_RECORDS))
        self._greeted_s = None
        self.up = True
        self._heard_s = time.monotonic()
        if self._told:
            log.warning("%s is back", self.name)
        self.why = self._told = ""
        if self._configure is not None:
            self._tell(*self._configure)

    def _verdicts(self, verdicts: Records) -> None:
        settled = self._owed.settle(verdicts)
        self.dropped += len(verdicts) - len(settled)
        if len(settled):
            self._heard_s = time.monotonic()
            self._decided(settled)
        self.push()

    def _built(self, body: dict[str, Any]) -> None:
        service = TransitionId[str(body["service"])]
        if missing := body.get("missing"):
            log.error("%s: %s is not complete: %s", self.name, service.name, ", ".join(map(str, missing)))
        self.stands |= service == TransitionId.Configure

    def lose(self, why: str) -> None:
        """The session is over: keep what it owes, and begin another."""
        if why != self._told:
            log.error("%s: %s; its events are kept without a verdict until it is back", self.name, why)
        self.why = self._told = why
        self.up = False
        self._greeted_s = None
        self._disconnect()
        self._connect()
        self._hello_s = time.monotonic()
        owed = self._owed.give_up()
        if len(owed):
            self._lost(self, why, owed)

    def look(self, now_s: float) -> None:
        """Do what is due: HELLO, or giving up."""
        if self.up:
            if len(self._owed) and now_s - self._heard_s > self._limit_s:
                self.lose(f"it has decided nothing for {self._limit_s:g} s")
            return
        if self._greeted_s is not None and now_s - self._greeted_s > WELCOME_S:
            self.lose("it does not answer")
        if self._greeted_s is None and now_s - self._hello_s >= HELLO_EVERY_S:
            self._hello_s = now_s
            self._session = random.getrandbits(32) or 1
            me = self._me
            body = {
                "alias": me.alias,
                "level": "drp",
                "id": me.id,
                "epoch": me.epoch,
                "group": me.group,
                "last": self._owed.last_pulse,
            }
            if self._send(wire.encode_json(Kind.HELLO, self._session, body)):
                self._greeted_s = now_s
            else:
                self._hello_s += CONNECTING_S - HELLO_EVERY_S


class TebLinks(JudgeThread):
    """Have one to four tebs judge.

    `endpoints`: where they are, in the order that all drps of the partition have; `groups`: the common readout group as a mask; `required`: the
    run does not begin before every teb has built the Configure, and fails where one does not. Else it begins after `ready_limit_s` without them.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        me: Me,
        *,
        groups: int,
        keys: Keys | None = None,
        alone: bool = False,
        required: bool = False,
        limit_s: float = VERDICT_LIMIT_S,
        ready_limit_s: float = READY_LIMIT_S,
    ) -> None:
        if not 1 <= len(endpoints) <= wire.MAX_TEBS:
            raise ValueError(f"{len(endpoints)} tebs: a partition has 1 to {wire.MAX_TEBS}")
        super().__init__(groups, alone=alone)
        self._endpoints = endpoints
        self._me = me
        self._keys = keys
        self._required = required
        self._limit_s = limit_s
        self._ready_limit_s = ready_limit_s
        self._ready_by_s = math.inf
        self._configure = 0
        self._heeded = 0
        self._begun = False
        self._stride = wire.stride_of(0)
        self._links: list[Link] = []
        self._outage: dict[str, int] = {}

    # From the main thread.

    def check(self, told: Told) -> None:
        if told.words is not None:
            self._configure, self._begun = told.seq, False
            self._ready_by_s = time.monotonic() + self._ready_limit_s

    @property
    def ready(self) -> bool:
        if self._heeded == self._configure:
            self._begun |= all(link.stands if self._required else link.up for link in self._links)
        if self._begun or time.monotonic() < self._ready_by_s:
            return self._begun
        absent = [link for link in self._links if not link.stands]
        away = ", ".join(f"{link.name} ({link.why or 'no answer to Configure'})" for link in absent)
        if not self._required:
            log.error("the run begins without %s: their events are kept", away)
            self._begun = True
        elif self.error is None:
            text = f"the trigger does not stand after {self._ready_limit_s:g} s: {away}"
            self.error = TebError(text, hint="Its own log says why.")
        return self._begun

    # In the thread.

    def open(self) -> None:
        for number, endpoint in enumerate(self._endpoints):
            name = f"teb{number}"
            self._links.append(
                Link(name, endpoint, self._me, self._keys, self._give, self._keep, self._limit_s)
            )

    def shut(self) -> None:
        while self._told:
            self.heed(self._told.popleft())
        for link in self._links:
            link.close()

    def sleep(self) -> None:
        poller = zmq.Poller()
        poller.register(self._bell, zmq.POLLIN)
        for link in self._links:
            poller.register(link.socket, zmq.POLLIN)
            poller.register(link.monitor, zmq.POLLIN)
        poller.poll(SLEEP_MS)

    def work(self) -> bool:
        now_s = time.monotonic()
        found = False
        for link in self._links:
            found |= link.receive()
            link.look(now_s)
            link.push()
            if link.up:
                self._outage.pop(link.name, None)
        away = [link.name for link in self._links if not link.up]
        self.trouble = f"{', '.join(away)} away" if away else ""
        return super().work() or found

    def heed(self, told: Told) -> None:
        record = np.zeros(1, wire.CONTRIBUTION)
        record["seq"], record["pulse_id"] = told.seq, told.pulse_id
        record["timestamp"], record["env"] = told.timestamp, told.env
        body: dict[str, Any] = {}
        if told.words is not None:
            self._stride = wire.stride_of(told.words.size_bytes)
            body = {
                "words": [[name, kind.name] for name, kind in told.words.fields],
                "words_bytes": told.words.size_bytes,
                "alias": self._me.alias or told.words.alias,
                "detector": self._me.detector,
            }
        self._tell(record, body)
        if told.words is not None:
            self._heeded = told.seq

    def decide(self, taken: bytes) -> None:
        view, stride = memoryview(taken), self._stride
        asked = wire.records(view, len(taken) // stride, wire.CONTRIBUTION, stride)
        slow = np.flatnonzero(asked["env"] >> 24 & 0xF != TransitionId.L1Accept)
        begin = 0
        for at in [*slow.tolist(), len(asked)]:
            if at > begin:
                self._deal(asked[begin:at], view[begin * stride : at * stride])
            if at < len(asked):
                self._tell(asked[at : at + 1], {})
            begin = at + 1

    def _tell(self, record: Records, body: dict[str, Any]) -> None:
        for link in self._links:
            link.tell(record, body)

    def _deal(self, asked: Records, rows: memoryview) -> None:
        if len(self._links) == 1:
            self._links[0].ask(asked, rows)
            return
        of = asked["pulse_id"] // PULSES_OF_ONE_TEB % len(self._links)
        whole = np.frombuffer(rows, np.uint8).reshape(len(asked), -1)
        for number in np.unique(of).tolist():
            its = of == number
            self._links[number].ask(asked[its], memoryview(whole[its].tobytes()))

    def _give(self, verdicts: Records) -> None:
        self._flow.give_verdicts(np.ascontiguousarray(verdicts).data)

    def _keep(self, link: Link, why: str, events: Records) -> None:
        """Keep events without a verdict, and note which: those of one outage together."""
        self._flow.give_verdicts(np.ascontiguousarray(events).data, False)
        pulses = events["pulse_id"]
        lost = Lost(link.name, why, int(pulses.min()), int(pulses.max()), len(events))
        one = f"{link.name}: {why}" if why == NOT_RISING else link.name  # an outage, or all of this kind
        at = self._outage.setdefault(one, len(self.lost))
        if at < len(self.lost):
            self.lost[at] = self.lost[at].with_more(lost)
        elif at < MAX_RANGES:
            self.lost.append(lost)
        else:
            self.lost[-1] = self.lost[-1].with_more(lost)
