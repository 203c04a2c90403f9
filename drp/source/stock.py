"""Stock: what a source has to give apart from its time: events in turn, a Configure, SlowUpdates. And the transitions of a run made from it.

Who follows triggers stamps them. The Configure of the stock is made that of a run of ours: `runinfo` and `scan`, the detectors that say which run
and which step it is, are declared anew with what control will say in BeginRun and BeginStep, so that readers find them whatever the stock had.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.source._deck import Deck
from xtc import Alg, DataType, Dgram, Field, Names, TypeId, XtcError, encode_shapes_data
from xtc.config import read_names
from xtc.records import DGRAM_BYTES, XTC_BYTES, DgramHeader

log = logging.getLogger(__name__)

RUNINFO, SCAN = "runinfo", "scan"
_RUNINFO_INDEX = 255
_RESERVED = 252
_NODE = 1
_TEXT_KEYS = ("step_docstring",)
MAX_STEP_KEYS = 64


class Stock:
    """`deck` deals L1Accepts in turn for ever (`follow`); `slow_updates` are dealt in turn too."""

    def __init__(
        self, deck: Deck, configure: bytes, slow_updates: tuple[bytes, ...], max_event_bytes: int
    ) -> None:
        self.deck = deck
        self.configure = configure
        self.slow_updates = slow_updates
        self.max_event_bytes = max_event_bytes

    def deck_for(self, triggers: npt.NDArray[np.uint8]) -> Deck:  # noqa: ARG002 - it has the same for all
        """Return what deals the events of these triggers, wire.TRIGGER records, one for each."""
        return self.deck

    def begin_run(self) -> None:
        """Begin again with the first event."""
        self.deck.rewind()

    def slow_update(self, info: Mapping[str, Any]) -> None:
        """Take note of what timing says at a SlowUpdate."""


class RunNames:
    """A Configure with `runinfo` and `scan` of ours in it, and what they say later.

    Without `scan` steps say nothing: of the streams of one run only one may have it, for readers that put them together.
    """

    def __init__(self, configure: bytes, step_keys: Sequence[str] = (), *, scan: bool = True) -> None:
        dgram = Dgram(configure)
        known = read_names(dgram)
        kept = [one for one in known if one.detname not in (RUNINFO, SCAN)]
        node: int = kept[0].node if kept else _NODE
        taken = {one.names_id for one in kept}
        self.runinfo = _runinfo(_free_id(node, taken, _RUNINFO_INDEX))
        scan_id = _free_id(node, taken | {self.runinfo.names_id}, 0)
        self.scan = _scan(scan_id, step_keys) if scan else None
        dropped = {one.names_id for one in known if one not in kept}
        body = b"".join(
            (*_without(dgram, dropped), self.runinfo.encode(), (self.scan.encode() if self.scan else b""))
        )
        header = replace(DgramHeader.decode(configure), extent=XTC_BYTES + len(body))
        self.configure = header.encode() + body

    def begin_run(self, experiment: str, run: int) -> bytes:
        """Return the runinfo of a BeginRun."""
        return encode_shapes_data(self.runinfo, (experiment, run))

    def begin_step(self, values: Mapping[str, object]) -> bytes:
        """Return the values of a step; a field that they do not name is NaN or empty."""
        if self.scan is None:
            return b""
        row: list[object] = []
        for one in self.scan.fields:
            value = values.get(one.name)
            if one.dtype == DataType.CHARSTR:
                row.append("" if value is None else str(value))
            else:
                row.append(_number(value))
        if unknown := sorted(set(values) - {one.name for one in self.scan.fields}):
            log.warning(
                "BeginStep has values that Configure did not declare, and that are not recorded: %s",
                ", ".join(unknown),
            )
        return encode_shapes_data(self.scan, row)


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def _runinfo(names_id: int) -> Names:
    fields = (Field("expt", DataType.CHARSTR, 1), Field("runnum", DataType.UINT32))
    return Names(names_id, RUNINFO, RUNINFO, "", 0, Alg(RUNINFO, (0, 0, 1)), fields)


def _scan(names_id: int, step_keys: Sequence[str]) -> Names:
    keys = [str(key) for key in step_keys if key not in ("step_value", *_TEXT_KEYS)][:MAX_STEP_KEYS]
    fields = [Field(key, DataType.DOUBLE) for key in dict.fromkeys((*keys, "step_value"))]
    fields += [Field(key, DataType.CHARSTR, 1) for key in _TEXT_KEYS]
    return Names(names_id, SCAN, SCAN, "", 0, Alg("raw", (2, 0, 0)), tuple(fields))


def _free_id(node: int, taken: set[int], wanted: int) -> int:
    for index in (wanted, *range(_RESERVED)):
        names_id: int = node << 8 | index
        if names_id not in taken:
            return names_id
    raise XtcError(f"node {node} has no NamesId left for the run's own detectors")


def _without(dgram: Dgram, dropped: set[int]) -> list[bytes | memoryview]:
    """Return the pieces of a Configure but for Names and ShapesData of the ids dropped."""
    view = dgram.view
    if not dropped:
        return [view[DGRAM_BYTES:]]
    return [
        view[xtc.offset : xtc.offset + xtc.extent]
        for xtc in dgram.xtcs()
        if xtc.parent < 0
        and not (xtc.type in (TypeId.Names, TypeId.ShapesData) and xtc.src & 0x0FFFFFFF in dropped)
    ]
