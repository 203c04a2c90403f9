"""The timing stream: events that hold what timing says of each pulse, as the timing detector of LCLS has it (dettype `ts`, alg `raw`).

There is nothing to simulate: everything comes with the triggers, so this source exists only where triggers are followed. A batch of triggers becomes
a batch of datagrams, all of one size and layout, with a few array operations. psana reads them (`Detector("timing").raw.eventcodes(evt)`).

`inhibitCounts` are the triggers of each readout group that were inhibited in this run, as of the last SlowUpdate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core import wire
from drp.core.errors import SourceError
from drp.source._deck import Deck
from drp.source.base import Slots, Source, SourceOptions
from drp.source.stock import Stock
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

NODE = 1
SEQUENCE_WORDS = wire.N_EVENT_CODES // 16
BEAM_PRESENT = 0x80
_DATA = np.dtype(
    [
        ("pulseId", "<u8"),
        ("timeStamp", "<u8"),
        ("ebeamPresent", "u1"),
        ("ebeamDestn", "u1"),
        ("sequenceValues", "<u2", (SEQUENCE_WORDS,)),  # bit n % 16 of word n / 16: event code n
        ("inhibitCounts", "<u4", (wire.MAX_GROUPS,)),
    ]
)
_FIELDS = (
    Field("pulseId", DataType.UINT64),
    Field("timeStamp", DataType.UINT64),
    Field("ebeamPresent", DataType.UINT8),
    Field("ebeamDestn", DataType.UINT8),
    Field("sequenceValues", DataType.UINT16, 1),
    Field("inhibitCounts", DataType.UINT32, 1),
)
_RAW = Names(NODE << 8, "ts", "timing", "timing-0001", 0, Alg("raw", (2, 1, 0)), _FIELDS)


class TimingStock(Stock):
    """Events made of the triggers themselves."""

    def __init__(self) -> None:
        nothing = (0, 0, 0, 0, np.zeros(SEQUENCE_WORDS, np.uint16), np.zeros(wire.MAX_GROUPS, np.uint32))
        blank = encode_dgram(TransitionId.L1Accept, 0, [encode_shapes_data(_RAW, nothing)], src=NODE)
        self._blank = np.frombuffer(blank, np.uint8)
        self._inhibited = np.zeros(wire.MAX_GROUPS, np.uint32)
        configure = encode_dgram(TransitionId.Configure, 0, [_RAW.encode()], src=NODE)
        super().__init__(self._deck_of(self._blank.reshape(1, -1).copy()), configure, (), len(blank))

    def deck_for(self, triggers: npt.NDArray[np.uint8]) -> Deck:
        """Return the events of these triggers."""
        records = triggers.view(wire.TRIGGER)
        dgrams = np.empty((len(records), len(self._blank)), np.uint8)
        dgrams[:] = self._blank
        data = dgrams[:, -_DATA.itemsize :].view(_DATA)[:, 0]
        data["pulseId"], data["timeStamp"] = records["pulse_id"], records["timestamp"]
        data["ebeamPresent"] = records["beam"] >> 7 & 1
        data["ebeamDestn"] = records["beam"] & 0x7F
        data["sequenceValues"] = np.ascontiguousarray(records["event_codes"]).view("<u2")
        data["inhibitCounts"] = self._inhibited
        return self._deck_of(dgrams)

    def begin_run(self) -> None:
        """Nothing was inhibited yet."""
        self._inhibited[:] = 0

    def slow_update(self, info: Mapping[str, Any]) -> None:
        """Take the counts of inhibited triggers."""
        counts = info.get("inhibited")
        if isinstance(counts, list) and len(counts) == wire.MAX_GROUPS:
            self._inhibited[:] = [int(one) & 0xFFFFFFFF if isinstance(one, int) else 0 for one in counts]

    @staticmethod
    def _deck_of(dgrams: npt.NDArray[np.uint8]) -> Deck:
        count, size = dgrams.shape
        zeros = np.zeros(count, np.uint64)
        offsets = np.arange(count, dtype=np.uint64) * np.uint64(size)
        deck = Deck([dgrams.reshape(-1)], zeros, offsets, np.full(count, size, np.uint64), zeros)
        deck.turn()
        return deck


class TimingEvents:
    """The source that `ts` names: it has a stock, and cannot be filled from."""

    def __init__(self) -> None:
        self._stock = TimingStock()
        self.max_event_bytes = self._stock.max_event_bytes
        self.max_transition_bytes = len(self._stock.configure)

    def stock(self) -> TimingStock:
        """Return what follows triggers."""
        return self._stock

    def fill(self, slots: Slots) -> int:  # noqa: ARG002 - the protocol's
        """Raise SourceError: without triggers there are no events."""
        raise SourceError(
            "it has no events of its own",
            source="ts",
            hint="It follows timing: --source triggered:TIMING,inner=ts",
        )

    def wait_s(self) -> float:
        """Return 0."""
        return 0.0

    def close(self) -> None:
        """Nothing is held."""

    def describe(self) -> str:
        """Return one line."""
        return "the timing stream"


def open_source(rest: str, _options: SourceOptions) -> Source:
    """Open `ts`."""
    if rest:
        raise SourceError("it takes no options", source=f"ts:{rest}")
    return TimingEvents()
