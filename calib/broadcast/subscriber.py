"""A worker's end of the broadcast: ask for the set of a BeginRun, attach it read-only, say so.

The zmq context lives only while a set is taken, so that a process which is forked later, or ends in any way, has none. Every wait
has a limit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import zmq

from calib.broadcast.messages import Ask, Message, Offer, Pending, Settled, Taken, decode, encode
from calib.broadcast.packing import Packed, unpack
from calib.errors import BroadcastError

if TYPE_CHECKING:
    from typing_extensions import Buffer

REPEAT_S = 1.0
SILENCE_S = 10.0


class Subscriber:
    """Take sets from the publisher at `address` with `ticket`; `attach(segment_id, size_bytes)` returns a read-only buffer.

    The segment is kept, and attached once only while offers are of the same digest.
    """

    def __init__(
        self,
        address: str,
        ticket: str,
        attach: Callable[[int, int], Buffer],
        *,
        limit_s: float,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._ticket = ticket
        self._attach = attach
        self._limit_s = limit_s
        self._silence_s = silence_s
        self._clock = clock
        self._packed: Packed | None = None

    def take(self, stamp: int) -> tuple[Offer, Packed]:
        """Return the set for the BeginRun with that time stamp, or a later one, once drp has noted that it was taken.

        Whoever is late may find, at any point here, that the next run has begun: then that run's set is taken instead.

        Raises BroadcastError where drp does not answer for `silence_s`, has none within `limit_s`, or offers what is not there.
        """
        with zmq.Context(io_threads=1) as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self._address)
            offer = self._offer_after(socket, stamp, 0)
            while True:
                try:
                    packed = self._open(offer)
                except BroadcastError:
                    offer = self._offer_after(socket, stamp, offer.version)
                    continue
                reply = self._until(socket, Taken(self._ticket, offer.version, offer.digest), _later(offer))
                if not isinstance(reply, Offer):
                    return offer, packed
                offer = reply

    def _offer_after(self, socket: zmq.Socket[bytes], stamp: int, version: int) -> Offer:
        """Ask for an offer, and raise what opening it raises if it is no other than the last."""
        reply = self._until(socket, Ask(self._ticket, stamp), lambda reply: isinstance(reply, Offer))
        if not isinstance(reply, Offer):
            raise BroadcastError("drp sent something else than an offer", where=self._address)
        if reply.version <= version:
            self._open(reply)
        return reply

    def _open(self, offer: Offer) -> Packed:
        """Attach what is offered, unless it is what there is; the old set is let go of before."""
        if self._packed is not None and self._packed.digest == offer.digest:
            return self._packed
        self._packed = None
        try:
            packed = unpack(self._attach(offer.segment_id, offer.size_bytes), digest=offer.digest)
        except (OSError, ValueError) as error:
            raise BroadcastError(f"the shared memory of the constants cannot be attached: {error}") from error
        if packed.entries != offer.entries:
            raise BroadcastError("what is in shared memory is not what was offered")
        self._packed = packed
        return packed

    def _until(
        self, socket: zmq.Socket[bytes], request: Message, wanted: Callable[[Message], bool]
    ) -> Message:
        """Send a request, again and again, until the wanted reply is there."""
        frame = encode(request)
        began = heard = self._clock()
        while True:
            with contextlib.suppress(zmq.Again):
                socket.send(frame, zmq.NOBLOCK)
            asked = now = self._clock()
            while (left_s := asked + REPEAT_S - now) > 0:
                if socket.poll(max(1, int(left_s * 1000)), zmq.POLLIN):
                    reply = decode(socket.recv(), Offer, Pending, Settled)
                    heard = self._clock()
                    if wanted(reply):
                        return reply
                now = self._clock()
                self._check(now - began, now - heard)

    def _check(self, waited_s: float, silent_s: float) -> None:
        if silent_s > self._silence_s:
            raise BroadcastError(f"drp has not answered for {self._silence_s:g} s", where=self._address)
        if waited_s > self._limit_s:
            raise BroadcastError(f"there were no constants within {self._limit_s:g} s", where=self._address)


def _later(offer: Offer) -> Callable[[Message], bool]:
    """Return what says whether a reply ends the wait for the acknowledgement's own: it is settled, or there is a later offer."""

    def ends(reply: Message) -> bool:
        if isinstance(reply, Offer):
            return reply.version > offer.version
        return isinstance(reply, Settled) and reply.version == offer.version

    return ends
