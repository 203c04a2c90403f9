"""The stream of trigger words: what a teb publishes of every event it has decided on, byte by byte.

A message is one frame (`drp.core.wire`), `session` is a number of the teb's own:

* TRANSITION: JSON, whose words they are: {"contributors": [{"alias", "id", "group", "words": [[name, type], ...]}], "turn"}; to all at a
  Configure, which begins another turn, and whenever somebody subscribes;
* EVENTS: `count` events, as below;
* CREDIT: u64, the number of the last event, twice a second: a subscriber then knows what it has lost.

An EVENTS payload is `count` EVENTs, as many u32 results (filled up to a multiple of 8), and for each contributor in turn its rows, as in
`drp.core.batch`. Events of a turn are numbered from 1 in the order in which they were built, which is that of pulse ids: a gap is what was lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.batch import EVENT, Contributor, Layout
from drp.core.errors import MessageError
from drp.core.wire import CONTRIBUTION, MAX_DRPS, Header, Kind, decode_json

MAX_EVENTS = 4096
ALIGN = 8


@dataclass(frozen=True, slots=True)
class WordsBatch:
    """Events decided on, one after the other: `events` (n,) EVENT, `results` (n,) uint32 as in wire.VERDICT.

    `words` by alias: (n,) packed records with the fields of its add_trigger, zeros where `present` (n,) bool says that there are none.
    """

    events: npt.NDArray[Any]
    results: npt.NDArray[np.uint32]
    words: dict[str, npt.NDArray[Any]]
    present: dict[str, npt.NDArray[np.bool_]]


def encode_schema(session: int, contributors: Sequence[Contributor], turn: int) -> bytes:
    """Return the message that says whose words are published, and how many Configures there were before."""
    found = [{"alias": c.alias, "id": c.id, "group": c.group, "words": c.words} for c in contributors]
    body = {"contributors": found, "turn": turn}
    return Header(Kind.TRANSITION, session).encode() + json.dumps(body, separators=(",", ":")).encode()


def decode_schema(payload: memoryview) -> tuple[Layout, int]:
    """Return the layout of what follows, and its turn. MessageError."""
    body = decode_json(payload)
    try:
        found = [
            Contributor(
                int(one["id"]),
                str(one["alias"]),
                int(one["group"]),
                tuple((str(name), str(kind)) for name, kind in one["words"]),
            )
            for one in body["contributors"][: MAX_DRPS + 1]
        ]
        layout = Layout(tuple(found))
        for one in layout.contributors:
            if one.dtype.hasobject:
                raise ValueError(f"{one.alias} has words of no size")
        return layout, int(body["turn"])
    except (LookupError, TypeError, ValueError) as error:
        raise MessageError(f"the words cannot be understood: {error}") from None


def encode_events(
    session: int,
    events: npt.NDArray[Any],
    rows: Sequence[npt.NDArray[np.uint8]],
    results: npt.NDArray[np.uint32],
) -> bytes:
    """Return the message for these events, at most MAX_EVENTS, with each contributor's rows (n, stride)."""
    n = len(events)
    fill = bytes(-4 * n % ALIGN)
    head = Header(Kind.EVENTS, session, n).encode()
    return b"".join(
        [
            head,
            events.tobytes(),
            results.astype("<u4", copy=False).tobytes(),
            fill,
            *(one.tobytes() for one in rows),
        ]
    )


def decode_events(layout: Layout, payload: memoryview, count: int) -> WordsBatch:
    """Return the events of a message, as read-only views of it. MessageError: they are none of this layout."""
    results_at = count * EVENT.itemsize
    at = results_at + count * 4 + -4 * count % ALIGN
    if not 0 < count <= MAX_EVENTS or len(payload) != at + count * sum(
        one.stride for one in layout.contributors
    ):
        raise MessageError(f"{len(payload)} bytes are not {count} events with their words")
    events = np.frombuffer(payload, EVENT, count)
    words, present = {}, {}
    for place, one in enumerate(layout.contributors):
        rows = np.frombuffer(payload, np.uint8, count * one.stride, at).reshape(count, one.stride)
        at += rows.nbytes
        dtype = one.dtype
        part = rows[:, CONTRIBUTION.itemsize : CONTRIBUTION.itemsize + dtype.itemsize]
        words[one.alias] = (
            np.ascontiguousarray(part).view(dtype)[:, 0] if dtype.itemsize else np.empty(count, dtype)
        )
        present[one.alias] = _has_words(rows) & (events["present"] >> np.uint64(place) & np.uint64(1) != 0)
    return WordsBatch(events, np.frombuffer(payload, "<u4", count, results_at), words, present)


def _has_words(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    heads = np.ascontiguousarray(rows[:, : CONTRIBUTION.itemsize]).view(CONTRIBUTION)[:, 0]
    found: npt.NDArray[np.bool_] = heads["flags"] & 1 != 0
    return found
