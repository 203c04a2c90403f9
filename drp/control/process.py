"""The control process: sockets around the state machine of a partition.

One thread, three sockets: members and clients each talk to a ROUTER, the status goes out by PUB. What must be kept is on disk before anything
is sent that follows from it. Nothing that anybody sends ends the process.
"""

from __future__ import annotations

import errno
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import zmq

from drp.control.jobs import Configs, Done, Keep, Out, Publish, Send, Settings
from drp.control.runs import Store, StoreError
from drp.control.service import Reply, Service
from drp.control.states import Partition
from drp.control.takeover import Takeover, snapshot
from drp.core.errors import MessageError
from drp.core.partition import State
from drp.link.control import HEARTBEAT, HEARTBEAT_S, Message, decode, encode
from drp.link.metrics import Labelled
from drp.link.sockets import Endpoint

TICK_S = 0.1
STATUS_S = 1.0
LATE_S = 1.0
AT_ONCE = 256

log = logging.getLogger("drp.control")

_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING}


@dataclass(frozen=True, slots=True)
class Sockets:
    """Control's three sockets, and where others find them."""

    members: zmq.Socket[bytes]
    clients: zmq.Socket[bytes]
    status: zmq.Socket[bytes]
    endpoints: tuple[Endpoint, Endpoint, Endpoint]

    def close(self) -> None:
        """Close them."""
        for one in (self.members, self.clients, self.status):
            one.close()


@dataclass(slots=True)
class _Links:
    """Where members are reached: addresses by id, which a member changes when it connects anew."""

    addresses: dict[str, bytes] = field(default_factory=dict)

    def uid_of(self, address: bytes) -> str:
        return next((uid for uid, one in self.addresses.items() if one == address), "")


class Control:
    """Serves until `stop` is readable. The sockets are the caller's."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sockets,
        store: Store,
        *,
        configs: Configs | None = None,
        gone_after_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """StoreError where what an earlier control kept cannot be read."""
        kept = store.load(settings.name)
        self._store = store
        self._sockets = sockets
        self._clock = clock
        self._links = _Links()
        self._kept: dict[str, Any] = {}
        self._beat_s = self._status_s = 0.0
        self._held: list[tuple[bytes, Message]] = []
        more: dict[str, Any] = {} if configs is None else {"configs": configs}
        if gone_after_s is not None:
            more["gone_after_s"] = gone_after_s
        self.partition = Partition(
            settings, store, lambda: secrets.token_hex(8), epoch=int(kept.get("epoch", 0)), **more
        )
        self.service = Service(self.partition, store)
        self.takeover = Takeover(kept, self.partition, clock())

    def serve(self, stop: int) -> None:
        """Serve until the descriptor `stop` is readable."""
        poller = zmq.Poller()
        for one in (self._sockets.members, self._sockets.clients, stop):
            poller.register(one, zmq.POLLIN)
        before_s = self._clock()
        while True:
            ready = {one for one, _ in poller.poll(int(TICK_S * 1000))}
            now = self._clock()
            if now - before_s > LATE_S:
                # Control itself stood still: nobody is silent for that, and what they said meanwhile is read first.
                self.partition.members.shift(now - before_s)
            before_s = now
            if stop in ready:
                return
            if self._sockets.members in ready:
                self._hear_members(now)
            if self._sockets.clients in ready:
                self._hear_clients(now)
            self.tick(now)

    def metrics(self) -> dict[str, float | Labelled]:
        """Return what Prometheus is shown, by name; may be called from any thread."""
        partition = self.partition
        heard = {peer.name: float(not peer.silent) for peer in partition.members}
        gone = {peer.name: 0.0 for peer in tuple(partition.active) if peer.gone}
        return {
            "control_state": Labelled("state", {str(one): float(one is partition.state) for one in State}),
            "control_run": float(partition.run),
            "control_member_up": Labelled("member", heard | gone),
        }

    def tick(self, now: float) -> None:
        """Let time pass, and send what comes of everything so far."""
        looking = not self.takeover.over
        self.takeover.tick(now)
        if looking and self.takeover.over:
            self._found(now)
        self.partition.tick(now)
        self._dispatch(self.partition.take(), now)
        if now >= self._beat_s:
            self._beat_s = now + HEARTBEAT_S
            self._beat(now)
        if now >= self._status_s:
            self._status_s = now + STATUS_S
            self.partition.publish_status()
            self._dispatch(self.partition.take(), now)

    def _found(self, now: float) -> None:
        state = self.partition.state
        if self.takeover.taken:
            log.warning("the partition of an earlier control is taken over as it is: %s", state)
        else:
            log.warning("an earlier control left the partition in a state that is not sound: it is reset")
        for address, message in self._held:
            self._ask(address, message, now)
        self._held.clear()

    # What comes in.

    def _hear_members(self, now: float) -> None:
        for address, frame in _frames(self._sockets.members):
            try:
                message = decode(frame)
            except MessageError as error:
                uid = self._links.uid_of(address)
                log.warning("%s says what cannot be read: %s", uid or "a stranger", error)
                self.partition.nonsense(uid, error.what, now)
                continue
            self._links.addresses[message.sender_id] = address
            self.partition.message(message.sender_id, message, now)
            self._dispatch(self.partition.take(), now)
            if self.partition.members.get(message.sender_id) is None:
                self._links.addresses.pop(message.sender_id, None)

    def _hear_clients(self, now: float) -> None:
        for address, frame in _frames(self._sockets.clients):
            try:
                message = decode(frame)
            except MessageError as error:
                log.warning("a client says what cannot be read: %s", error)
                continue
            if self.takeover.over:
                self._ask(address, message, now)
            else:
                self._held.append((address, message))

    def _ask(self, address: bytes, message: Message, now: float) -> None:
        reply = self.service.request(address, message, now)
        self._dispatch(self.partition.take(), now)
        if reply is not None:
            self._reply(reply)

    # What goes out.

    def _dispatch(self, out: list[Out], now: float) -> None:
        if out:
            self._keep_state()
        for one in out:
            match one:
                case Send():
                    self._send(one, now)
                case Publish():
                    self._publish(one)
                case Done():
                    reply = self.service.done(one.job, one.failures, one.warnings)
                    if reply is not None:
                        self._reply(reply)
                case Keep():
                    self._keep_account(one)

    def _send(self, one: Send, now: float) -> None:
        address = self._links.addresses.get(one.uid)
        if address is None:
            return
        try:
            frame = encode(one.key, one.body, msg_id=one.msg_id, sender_id="control")
            self._sockets.members.send_multipart([address, frame], zmq.NOBLOCK)
        except MessageError as error:
            log.error("%s cannot be told %s: %s", one.uid, one.key, error)
        except zmq.ZMQError as error:
            self._lost(one.uid, error, now)

    def _beat(self, now: float) -> None:
        """Tell all members, and the clients that wait, that control is there; who has left is found by that."""
        for uid in tuple(self._links.addresses):
            if self.partition.members.get(uid) is None:
                del self._links.addresses[uid]
                continue
            self._send(Send(uid, HEARTBEAT, "", {"state": self.partition.state}), now)
        for address, message in self.service.waiting:
            said = {"busy": self.partition.busy, "awaited": self.partition.awaited}
            self._reply(Reply(address, HEARTBEAT, message.msg_id, said))

    def _lost(self, uid: str, error: zmq.ZMQError, now: float) -> None:
        if error.errno == errno.EHOSTUNREACH:
            self.partition.closed(uid, now)
        elif not isinstance(error, zmq.Again):
            log.error("%s is not reached: %s", uid, error)

    def _publish(self, one: Publish) -> None:
        if one.key in _LEVELS:
            log.log(_LEVELS[one.key], "%s", one.body.get("err_info"))
        if one.key == "ledger":
            log.info("%s", "\n".join(one.body["text"]))
        with suppress(zmq.Again, MessageError):
            self._sockets.status.send(encode(one.key, one.body, sender_id="control"), zmq.NOBLOCK)

    def _reply(self, reply: Reply) -> None:
        frame = encode(reply.key, reply.body, msg_id=reply.msg_id, sender_id="control")
        # A client that has left does not want it any more.
        with suppress(zmq.ZMQError):
            self._sockets.clients.send_multipart([reply.address, frame], zmq.NOBLOCK)

    def _keep_state(self) -> None:
        kept = snapshot(self.partition)
        if kept == self._kept or not self.takeover.over:
            return
        try:
            self._store.save(self.partition.settings.name, kept)
            self._kept = kept
        except StoreError as error:
            log.error("the partition's state is not kept: %s", error)

    def _keep_account(self, one: Keep) -> None:
        if not one.account.run:
            return
        try:
            self._store.save(
                f"ledgers/{one.account.experiment}-r{one.account.run:04d}", one.account.as_dict()
            )
        except StoreError as error:
            log.error("the ledger of run %d is not kept: %s", one.account.run, error)


def _frames(router: zmq.Socket[bytes]) -> list[tuple[bytes, bytes]]:
    """Return what is there to read: address and frame; a message of more frames is none of ours, and comes as an empty one."""
    found = []
    for _ in range(AT_ONCE):
        try:
            address, *frames = router.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            break
        found.append((address, frames[0] if len(frames) == 1 else b""))
    return found
