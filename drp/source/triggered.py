"""Triggered: a source that follows triggers. What is in its events comes from a stock of simulated or recorded ones, when they come from timing.

Each trigger is dealt into one slot, without the GIL, with its pulse id, time stamp, keepRaw and readout groups stamped
on it; the credit that goes back is what has been dealt and the slots in hand, so no trigger ever comes that has no slot,
and a script that hangs stops the triggers of its readout group. Transitions come from timing too; what they hold comes
from the stock (Configure, SlowUpdates) and from control (run, step). The stream ends with Unconfigure. While timing is
away, the source waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from drp.core.errors import SourceError
from drp.link.sockets import Endpoint, well_known
from drp.source._deck import Deck
from drp.source.base import END, Slots, Source, SourceOptions
from drp.source.base import open_source as open_inner
from drp.source.replay import Replay
from drp.source.sim import Simulator
from drp.source.stock import RunNames, Stock
from drp.source.timing_link import Events, TimingLink, Transition, Who
from drp.source.ts import TimingEvents
from xtc import TransitionId, encode_dgram
from xtc.records import DGRAM_BYTES

ENOUGH_BYTES = 4 << 20
STEP_BYTES = 64 << 10
"""Room in a transition for what control says of a step or a run."""
_TEXT_LIMIT = STEP_BYTES // 2


class Triggered:
    """The events of `stock`, when `link` says. `edit` changes the stock's Configure before it is used. Without `scan` the values of
    steps are recorded elsewhere.

    The link is closed with this source; whatever the stock came from is its owner's.
    """

    def __init__(
        self,
        stock: Stock,
        link: TimingLink,
        *,
        name: str = "",
        edit: Callable[[bytes], bytes] | None = None,
        scan: bool = True,
    ) -> None:
        self._stock = stock
        self._link = link
        self._name = name
        self._configure = edit(stock.configure) if edit else stock.configure
        self._scan = scan
        self._names = RunNames(self._configure, scan=scan)
        self._items: deque[Events | Transition] = deque()
        self._made: bytes | None = None
        self._deck: Deck | None = None
        self._slow = 0
        self._most_free = 0
        self._ended = False
        self.max_event_bytes = stock.max_event_bytes
        sizes = [len(one) for one in stock.slow_updates]
        self.max_transition_bytes = max(len(self._names.configure) + STEP_BYTES, *sizes, DGRAM_BYTES)

    @property
    def lost_events(self) -> int:
        """Triggers that were sent and did not come."""
        return self._link.lost

    def fill(self, slots: Slots) -> int:
        """Put what has been triggered and has a slot; END after Unconfigure."""
        if self._ended:
            return END
        put = 0
        self._grant(slots)
        while self._items or self._receive():
            item = self._items[0]
            done = self._deal(item, slots) if isinstance(item, Events) else self._put(item, slots)
            if done == 0:
                break
            put += done
            if isinstance(item, Events):
                self._link.dealt += done
                if item.at < item.count:
                    break
            self._items.popleft()
            self._made = self._deck = None
            if self._ended:
                break
        return put

    def wait(self, timeout_s: float) -> None:
        """Wait until something has come from timing."""
        self._link.wait(timeout_s)

    def wait_s(self) -> float:
        """Return a millisecond: when the next trigger comes is not known, and `wait` tells."""
        return 0.001

    def close(self) -> None:
        """Leave timing."""
        self._link.close()

    def describe(self) -> str:
        """Return one line: what is dealt, and in which readout group."""
        who = self._link.who
        return f"{self._name or 'events'} triggered by timing, readout group {who.group}"

    def _receive(self) -> bool:
        self._items.extend(self._link.receive())
        return bool(self._items)

    def _grant(self, slots: Slots) -> None:
        """Tell how many slots there are where that is news enough: each message costs both sides something."""
        link, free = self._link, slots.events_free
        self._most_free = max(self._most_free, free)
        more = link.dealt + free - link.granted
        worth = more * 8 >= self._most_free or link.unspent * 2 <= self._most_free
        link.grant(link.granted + max(more, 0) if worth else link.granted)

    def _deal(self, item: Events, slots: Slots) -> int:
        if self._deck is None:
            self._deck = self._stock.deck_for(item.triggers)
        dealt = self._deck.follow(slots, item.triggers, item.at, ENOUGH_BYTES)
        item.at += dealt
        return dealt

    def _put(self, item: Transition, slots: Slots) -> int:
        if self._made is None:
            self._made = self._make(item)
        if not slots.put(self._made, item.pulse_id):
            return 0
        self._ended = item.service == TransitionId.Unconfigure
        return 1

    def _make(self, item: Transition) -> bytes:
        """Return the dgram of a transition."""
        if item.service == TransitionId.Configure:
            keys = item.info.get("step_keys")
            self._names = RunNames(self._configure, keys if isinstance(keys, list) else (), scan=self._scan)
            return _stamped(self._names.configure, item)
        if item.service == TransitionId.SlowUpdate:
            self._stock.slow_update(item.info)
        if item.service == TransitionId.SlowUpdate and self._stock.slow_updates:
            self._slow += 1
            return _stamped(self._stock.slow_updates[(self._slow - 1) % len(self._stock.slow_updates)], item)
        parts: list[bytes] = []
        if item.service == TransitionId.BeginRun:
            self._stock.begin_run()
            self._slow = 0
            said = _object(item.info, "run_info")
            run = said.get("run_number", 0)
            run = run if isinstance(run, int) and 0 <= run < 1 << 32 else 0
            parts = [self._names.begin_run(str(said.get("experiment_name", ""))[:_TEXT_LIMIT], run)]
        elif item.service == TransitionId.BeginStep and (values := _object(item.info, "step_values")):
            parts = [self._names.begin_step(_short(values))]
        return encode_dgram(item.service, item.timestamp, parts, env=item.env & 0xFFFFFF)


def open_source(rest: str, options: SourceOptions) -> Source:
    """Open `triggered:TIMING[,group=G][,id=N][,alias=NAME][,epoch=E][,offset=K][,inner=SOURCE]`.

    TIMING is the name or address that timing serves; SOURCE, which goes on to the end of the text, is what is dealt,
    of a recording from event K on.
    """
    head, _, inner = rest.partition(",inner=")
    address, *words = head.split(",")
    if not address:
        raise SourceError(
            "triggered needs timing's name: triggered:NAME,inner=sim:epixhr", source="triggered"
        )
    values = {"group": "0", "id": "0", "alias": "", "epoch": "1", "offset": "0"}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in values or not equals:
            known = ", ".join((*values, "inner"))
            raise SourceError(f"there is no option {word!r}", source="triggered", hint=f"Known are {known}")
        values[key] = value
    try:
        group, number, epoch, offset = (int(values[key]) for key in ("group", "id", "epoch", "offset"))
    except ValueError:
        raise SourceError("group, id, epoch and offset are numbers", source="triggered") from None
    source = open_inner(inner or "sim:epixhr", options)
    stock = stock_of(source, offset)
    who = Who(values["alias"] or f"drp_{number}", number, group, epoch)
    endpoint = Endpoint(address) if "://" in address else well_known(address)
    return Triggered(stock, TimingLink(endpoint, who), name=source.describe())


def stock_of(source: Source, first_event: int = 0) -> Stock:
    """Return what a source has to deal, of a recorded one from event number `first_event` on. SourceError: it cannot follow triggers."""
    if isinstance(source, Simulator | TimingEvents):
        return source.stock()
    if isinstance(source, Replay):
        return source.stock(first_event)
    raise SourceError(
        "it makes its events itself and cannot follow triggers",
        source=source.describe(),
        hint="Give a simulated detector, xtc2 files, or ts",
    )


def _object(info: dict[str, object], key: str) -> dict[str, object]:
    found = info.get(key)
    return found if isinstance(found, dict) else {}


def _short(values: dict[str, object]) -> dict[str, object]:
    """Return the values with no text longer than a transition has room for."""
    return {
        str(key)[:256]: value[:_TEXT_LIMIT] if isinstance(value, str) else value
        for key, value in values.items()
    }


def _stamped(dgram: bytes, item: Transition) -> bytes:
    """Return a dgram with the time stamp and the readout groups of a transition."""
    out = bytearray(dgram)
    out[0:8] = item.timestamp.to_bytes(8, "little")
    out[8:11] = (item.env & 0xFFFFFF).to_bytes(3, "little")
    return bytes(out)
