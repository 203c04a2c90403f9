"""Built events as an event builder gives them: contributors with words, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drp.core.batch import EVENT, Contributor, Layout
from drp.core.wire import CONTRIBUTION, Contributed
from drp.script.trigger import setup_dgram
from drp.teb.connect import connect_info
from xtc import TransitionId, encode_dgram

EPIX = Contributor(3, "epix_0", 1, (("npeaks", "<u4"), ("total", "<f8")))
TIMING = Contributor(0, "timing_1", 0, (("beam", "<u1"), *((f"codes{k}", "<u4") for k in range(9))))
BOTH = (EPIX, TIMING)
SECOND = 1 << 32


def built(
    contributors: Sequence[Contributor],
    words: Sequence[Mapping[str, Mapping[str, float]]],
    *,
    first: int = 100,
    env: int = 3,
) -> tuple[Any, list[Any]]:
    """Return events and rows: `words[k]` are those of event k by contributor and name; who is not named did not contribute, and is missing if the event is of its group."""
    n = len(words)
    events = np.zeros(n, EVENT)
    events["pulse_id"] = np.arange(first, first + n)
    events["number"] = events["pulse_id"] + 1000
    events["timestamp"] = events["pulse_id"] * 1000 + 5 * SECOND
    events["env"] = TransitionId.L1Accept << 24 | env
    rows = []
    for place, one in enumerate(contributors):
        whole = np.zeros((n, one.stride), np.uint8)
        head = whole[:, : CONTRIBUTION.itemsize].view(CONTRIBUTION)[:, 0]
        record = np.zeros(n, one.dtype)
        for k, given in enumerate(words):
            if one.alias not in given:
                events["missing"][k] |= (env >> one.group & 1) << place
                continue
            events["present"][k] |= 1 << place
            for name in ("pulse_id", "timestamp", "env"):
                head[name][k] = events[name][k]
            head["flags"][k] = Contributed.words
            for name, value in given[one.alias].items():
                record[name][k] = value
        size = one.dtype.itemsize if one.words else 0
        whole[:, CONTRIBUTION.itemsize : CONTRIBUTION.itemsize + size] = record.view(np.uint8).reshape(n, -1)[
            :, :size
        ]
        rows.append(whole)
    return events, rows


def peaks(values: Sequence[int], **options: Any) -> tuple[Any, list[Any]]:
    """Return events to which both contribute, with these numbers of peaks."""
    return built(BOTH, [{"epix_0": {"npeaks": value}, "timing_1": {}} for value in values], **options)


def stream(
    contributors: Sequence[Contributor], batches: Sequence[tuple[Any, list[Any]]], **told: Any
) -> list[bytes]:
    """Return the dgrams of a whole run of a trigger script."""
    platform = told.pop("platform", 0)
    layout = Layout(tuple(contributors))
    connect = connect_info(contributors, platform=platform, **told)
    before = (TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable)
    after = (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun, TransitionId.Unconfigure)
    return [
        setup_dgram(contributors, connect, platform, 1),
        *(encode_dgram(one, 2, []) for one in before),
        *(layout.encode(events, rows) for events, rows in batches),
        *(encode_dgram(one, 9 * SECOND, []) for one in after),
    ]
