"""The teb's end of its links: who contributes, their sessions, and the event builder between what comes in and what goes out.

A contributor says HELLO with its id and the epoch, and is a session from then on; whoever else says anything is answered ERROR, and so is what
makes no sense, which ends the session. A new HELLO of an id takes the place of its old session. What the builder has no room for waits here, up
to one window for each; what a contributor does not read waits in the builder, and counts against its window. So nothing grows without bound,
whoever is slow, stopped or hostile. This module knows no trigger.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import zmq

from drp.core import wire
from drp.core._builder import EventBuilder
from drp.core.batch import Contributor, Layout
from drp.core.building import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TRANSITION_TIMEOUT_S,
    DEFAULT_WINDOW,
    MAX_STRIDE,
    Transition,
)
from drp.core.errors import MessageError
from drp.core.wire import CONTRIBUTION, Header, Kind
from xtc import TransitionId

MESSAGES_AT_ONCE = 256
MAX_WORDS = 256
MAX_NAME = 200
WORD_BYTES = 8

TRANSITIONS = frozenset(range(TransitionId.Configure, TransitionId.SlowUpdate + 1))

log = logging.getLogger("drp.teb")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an event and a transition are waited for, in seconds, and how many contributions each contributor may have without a verdict."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    transition_timeout_s: float = DEFAULT_TRANSITION_TIMEOUT_S
    window: int = DEFAULT_WINDOW


@dataclass(slots=True)
class _Session:
    """Who is heard from under one address. `waiting`: contributions, or one to a transition, that the builder has had no room for."""

    id: int
    alias: str
    number: int
    waiting: deque[tuple[memoryview, int, int]] = field(default_factory=deque)
    n_waiting: int = 0
    unsent: bytes = b""


@dataclass(slots=True)
class Counts:
    """What came and went on the links."""

    messages: int = 0
    contributions: int = 0
    verdicts: int = 0
    errors: int = 0
    sessions: int = 0
    ended: int = 0


class Links:
    """Serve contributors on a ROUTER socket. `now_ns` is the clock that the builder is given.

    `alone`: these, and no control: whoever of them says HELLO of a higher epoch begins that.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        now_ns: Callable[[], int],
        limits: Limits,
        *,
        alone: Sequence[Contributor] = (),
    ) -> None:
        self.socket = router
        self.limits = limits
        self.counts = Counts()
        self.contributors: dict[int, Contributor] = {}
        self.builder: EventBuilder | None = None
        self.epoch = 0
        self._now_ns = now_ns
        self._alone = alone
        self._sessions: dict[bytes, _Session] = {}
        self._configured: dict[int, int] = {}
        self._configure: Transition | None = None

    def begin(self, epoch: int, contributors: Iterable[Contributor]) -> None:
        """Begin an epoch with these contributors; the sessions of the one before are over."""
        self.end("the epoch is over")
        self.epoch = epoch
        self.contributors = {one.id: one for one in contributors}
        self._configured.clear()
        self._configure = None
        self.builder = None
        if self.contributors:
            limits = self.limits
            self.builder = EventBuilder(
                {one.id: one.group for one in self.contributors.values()},
                int(limits.timeout_s * 1e9),
                int(limits.transition_timeout_s * 1e9),
                limits.window,
            )

    def end(self, why: str) -> None:
        """End all sessions, and say why."""
        for address, session in tuple(self._sessions.items()):
            self._refuse(address, session.number, why)
        self._sessions.clear()
        self.builder = None

    def gone(self, contributor: int) -> None:
        """Have a contributor that died waited for no longer in this epoch."""
        if self.builder is not None and contributor in self.contributors:
            self.builder.gone(contributor)
        for address, session in tuple(self._sessions.items()):
            if session.id == contributor:
                self._drop(address)

    @property
    def here(self) -> set[int]:
        """The contributors that have a session."""
        return {one.id for one in self._sessions.values()}

    # What comes in.

    def receive(self) -> bool:
        """Take what has come, up to a limit; returns whether there may be more."""
        self._retry()
        for _ in range(MESSAGES_AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.counts.messages += 1
            self._take(frames[0], frames[1:])
        return True

    def _take(self, address: bytes, frames: list[bytes]) -> None:
        number = 0
        try:
            if len(frames) != 1:
                raise MessageError(f"{len(frames)} frames are no message")
            header, payload = wire.decode(frames[0])
            number = header.session
            if header.kind is Kind.HELLO:
                self._hello(address, number, wire.decode_json(payload))
                return
            session = self._sessions.get(address)
            if session is None or session.number != number:
                raise MessageError("there is no such session", hint="Say HELLO.")
            self._said(address, session, header, payload)
        except MessageError as error:
            self.counts.errors += 1
            if address in self._sessions:
                log.warning("%s: %s", self._sessions[address].alias, error)
            self._refuse(address, number, error.what, error.hint)
            self._drop(address)

    def _hello(self, address: bytes, number: int, body: dict[str, Any]) -> None:
        said = {name: body.get(name) for name in ("id", "epoch")}
        if not all(
            isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 1 << 62 for one in said.values()
        ):
            raise MessageError(f"{str(body)[:MAX_NAME]} is no HELLO")
        contributor, epoch = int(said["id"] or 0), int(said["epoch"] or 0)
        if self._alone and (epoch > self.epoch or self.builder is None):
            self.begin(epoch, self._alone)
        if self.builder is None or epoch != self.epoch:
            raise MessageError(f"the epoch is {self.epoch}, not {epoch}", hint="Say HELLO again.")
        if contributor not in self.contributors:
            raise MessageError(f"there is no contributor {contributor} in this epoch")
        for other, session in tuple(self._sessions.items()):
            if session.id == contributor and other != address:
                self._refuse(other, session.number, "another process has taken the place of this one")
                self._drop(other)
        self.builder.back(contributor)
        self._sessions[address] = _Session(contributor, self.contributors[contributor].alias, number)
        self.counts.sessions += 1
        log.debug("%s is here", self.contributors[contributor].alias)
        self._send(
            address, wire.encode_json(Kind.WELCOME, number, {"epoch": epoch, "window": self.limits.window})
        )

    def _said(self, address: bytes, session: _Session, header: Header, payload: memoryview) -> None:
        match header.kind:
            case Kind.EVENTS:
                stride = len(payload) // header.count if header.count else 0
                if not CONTRIBUTION.itemsize <= stride <= MAX_STRIDE or header.count > wire.MAX_RECORDS:
                    raise MessageError(f"{len(payload)} bytes are not {header.count} contributions")
                if len(payload) != stride * header.count:
                    raise MessageError(
                        f"{len(payload)} bytes are not {header.count} contributions of {stride}"
                    )
                self._offer(session, payload, header.count, stride)
            case Kind.TRANSITION:
                record = payload[: CONTRIBUTION.itemsize]
                said = wire.records(record, 1, CONTRIBUTION)[0]
                service = int(said["env"]) >> 24 & 0xF
                body = wire.decode_json(payload[CONTRIBUTION.itemsize :])
                if service not in TRANSITIONS:
                    raise MessageError(f"service {service} is no transition")
                new = service != TransitionId.Configure or self._declare(session, body, int(said["pulse_id"]))
                if new:
                    self._offer(session, record, 0, 0)
                elif self._configure is not None:
                    self._tell(address, session, self._configure)
            case Kind.BYE:
                log.info("%s has left", session.alias)
                if self.builder is not None:
                    self.builder.gone(session.id)
                self._drop(address)
            case _:
                raise MessageError(f"{header.kind.name} is not for a teb")

    def _declare(self, session: _Session, body: dict[str, Any], pulse_id: int) -> bool:
        """Take what a contributor declares; False where this is the Configure that it has told before, in another session."""
        words = body.get("words", [])
        good = isinstance(words, list) and len(words) <= MAX_WORDS
        good = good and all(
            isinstance(one, list) and len(one) == 2 and all(_is_name(part) for part in one) for one in words
        )
        if not good:
            raise MessageError("the words of a Configure are [[name, type], ...]")
        before = self.contributors[session.id]
        alias = body.get("alias")
        named = alias if isinstance(alias, str) and _is_name(alias) else before.alias
        declared = replace(before, alias=named, words=tuple((one[0], one[1]) for one in words))
        others = tuple(declared if one.id == session.id else one for one in self.contributors.values())
        try:
            stride = declared.stride
            fields = [declared.dtype[name] for name in declared.dtype.names or ()]
            if wrong := [one.str for one in fields if one.kind not in "uif" or one.itemsize > WORD_BYTES]:
                raise MessageError(f"{wrong[0]} is no type of a trigger word")
            Layout(others)
        except (ValueError, TypeError) as error:
            raise MessageError(str(error)) from None
        if stride > MAX_STRIDE:
            raise MessageError(f"contributions of {stride} bytes are over the limit of {MAX_STRIDE}")
        assert self.builder is not None
        self.builder.declare(session.id, stride)
        self.contributors[session.id] = declared
        again = self._configured.get(session.id) == pulse_id
        self._configured[session.id] = pulse_id
        return not again

    # Between here and the builder.

    def _offer(self, session: _Session, payload: memoryview, count: int, stride: int) -> None:
        """Give contributions to the builder (`count` 0: one to a transition), or have them wait."""
        self.counts.contributions += count
        session.waiting.append((payload, count, stride))
        session.n_waiting += max(count, 1)
        self._offer_waiting(session)
        if session.n_waiting > self.limits.window:
            raise MessageError(
                f"more than {self.limits.window} contributions have no verdict",
                hint="Heed the window of WELCOME.",
            )

    def _offer_waiting(self, session: _Session) -> None:
        builder = self.builder
        while builder is not None and session.waiting:
            payload, count, stride = session.waiting[0]
            taken = self._give(builder, session.id, payload, count, stride)
            session.n_waiting -= taken
            if taken < max(count, 1):
                session.waiting[0] = (payload[taken * stride :], count - taken, stride)
                return
            session.waiting.popleft()

    def _give(self, builder: EventBuilder, number: int, payload: memoryview, count: int, stride: int) -> int:
        now = self._now_ns()
        if count == 0:
            return int(builder.add_transition(number, payload, now))
        return builder.add(number, payload, count, stride, now)

    def _retry(self) -> None:
        for session in self._sessions.values():
            if session.waiting:
                self._offer_waiting(session)

    # What goes out.

    def deliver(self) -> None:
        """Send the verdicts there are. Who takes none keeps them waiting, for nobody else."""
        builder = self.builder
        if builder is None:
            return
        for address, session in tuple(self._sessions.items()):
            frame = session.unsent or self._verdicts(builder, session)
            while frame:
                if not self._send(address, frame):
                    session.unsent = frame if address in self._sessions else b""
                    break
                session.unsent = b""
                frame = self._verdicts(builder, session)

    def _verdicts(self, builder: EventBuilder, session: _Session) -> bytes:
        verdicts = builder.verdicts(session.id)
        if not verdicts:
            return b""
        count = len(verdicts) // wire.VERDICT.itemsize
        self.counts.verdicts += count
        return Header(Kind.EVENTS, session.number, count).encode() + verdicts

    def tell(self, built: Transition) -> list[str]:
        """Tell all that a transition is built; return the aliases of those who did not come to it."""
        if built.service == TransitionId.Configure:
            self._configure = built
        for address, session in tuple(self._sessions.items()):
            self._tell(address, session, built)
        return self._aliases(built.missing)

    def _tell(self, address: bytes, session: _Session, built: Transition) -> None:
        record = np.array([(0, built.pulse_id, built.timestamp, built.env, 0, 0)], CONTRIBUTION).tobytes()
        body = {"service": TransitionId(built.service).name, "missing": self._aliases(built.missing)}
        text = wire.encode_json(Kind.TRANSITION, session.number, body)[Header.SIZE :]
        self._send(address, Header(Kind.TRANSITION, session.number, 1).encode() + record + text)

    def _aliases(self, contributors: Iterable[int]) -> list[str]:
        return [self.contributors[one].alias for one in contributors]

    def _refuse(self, address: bytes, number: int, what: str, hint: str = "") -> None:
        self._send(address, wire.encode_json(Kind.ERROR, number, {"what": what, "hint": hint}))

    def _drop(self, address: bytes) -> None:
        if self._sessions.pop(address, None) is not None:
            self.counts.ended += 1

    def _send(self, address: bytes, frame: bytes) -> bool:
        """Send without waiting; False: it is full, or nobody is there any more, whose session is over then."""
        try:
            self.socket.send_multipart([address, frame], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._drop(address)
            return False
        return True


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_NAME and text.isprintable()
