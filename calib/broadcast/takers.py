"""Who must take a set of constants, who has, and what is to be sent to whom: messages in, messages out, no socket.

    run begins ---> pending --(published)--> offered to whoever asks --(Taken)--> settled, once for each taker

A taker is known by its ticket, a word only it was given. It asks for the set of the BeginRun it has before it, by that BeginRun's
time stamp: one that is late with an old BeginRun gets the current set, for it will see no event of the old one; one that is early
waits. An offer that is not answered is made again every `repeat_s`. The clock is injected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from calib.broadcast.messages import Ask, Message, Offer, Pending, Settled, Taken

REPEAT_S = 1.0

Letter = tuple[bytes, Message]


@dataclass(slots=True)
class Taker:
    """One that must take the set. `address` is where it asked from last, `asked` the stamp it asked for, None where it waits for nothing."""

    name: str
    address: bytes = b""
    asked: int | None = None
    requests: int = 0
    offers: int = 0
    offered_s: float = 0.0
    version: int = 0


class Takers:
    """All takers of one drp, and the set in force."""

    def __init__(self, *, repeat_s: float = REPEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.strangers = 0
        self._repeat_s = repeat_s
        self._clock = clock
        self._takers: dict[str, Taker] = {}
        self._stamp = -1
        self._offer: Offer | None = None

    def expect(self, ticket: str, name: str) -> None:
        """Know a taker from now on."""
        self._takers[ticket] = Taker(name)

    def forget(self, ticket: str) -> None:
        """Know it no more."""
        self._takers.pop(ticket, None)

    def begin(self, stamp: int) -> None:
        """A BeginRun goes out; the set in force is none of its."""
        self._stamp, self._offer = stamp, None
        for one in self._takers.values():
            one.requests = one.offers = 0

    def publish(self, offer: Offer) -> list[Letter]:
        """The set is there: offer it to all who wait."""
        self._offer = offer
        return self._serve(self._waiting())

    def receive(self, address: bytes, message: Message) -> list[Letter]:
        """Take a message in; a ticket that nobody was given is counted in `strangers` and not answered."""
        taker = self._takers.get(message.ticket) if isinstance(message, Ask | Taken) else None
        if taker is None:
            self.strangers += 1
            return []
        taker.address = address
        if isinstance(message, Ask):
            taker.asked = message.stamp
            taker.requests += 1
            return self._serve([taker])
        offer = self._offer
        if (
            isinstance(message, Taken)
            and offer is not None
            and message.digest == offer.digest
            and message.version == offer.version
        ):
            taker.version, taker.asked = offer.version, None
            return [(address, Settled(offer.version))]
        return self._serve([taker])

    def early(self) -> bool:
        """Whether somebody has asked for a BeginRun that has not begun here."""
        return any(one.asked is not None and one.asked > self._stamp for one in self._takers.values())

    def due(self) -> list[Letter]:
        """Return the offers that are to be made again now."""
        now = self._clock()
        return self._serve(one for one in self._waiting() if now - one.offered_s >= self._repeat_s)

    def has(self, ticket: str) -> bool:
        """Whether the taker has taken the set in force."""
        taker = self._takers.get(ticket)
        return taker is not None and self._offer is not None and taker.version == self._offer.version

    def story(self, ticket: str) -> str:
        """Say what is known of a taker that has not taken the set."""
        taker = self._takers.get(ticket)
        if taker is None or not taker.requests:
            return "it never asked for them"
        if not taker.offers:
            return "it asked, and was sent nothing"
        return f"it was sent word of them {taker.offers} times and did not answer"

    def _waiting(self) -> list[Taker]:
        return [one for one in self._takers.values() if one.asked is not None]

    def _serve(self, takers: Iterable[Taker]) -> list[Letter]:
        now = self._clock()
        letters: list[Letter] = []
        for taker in takers:
            stamp = self._stamp if taker.asked is None else taker.asked
            taker.offered_s = now
            if stamp > self._stamp or self._offer is None:
                letters.append((taker.address, Pending(stamp)))
            else:
                taker.offers += 1
                letters.append((taker.address, self._offer))
        return letters
