"""A teb publishes the words of every event that it has decided on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

import numpy as np
from teb_stand_in import StandIn

import drp
from drp.core import wire
from drp.core.batch import Contributor
from drp.teb.words import WordsPublisher

PEAKS = np.dtype([("npeaks", "<u4")])
TWO = [Contributor(0, "epix_0", 0), Contributor(7, "hsd_0", 0)]


def test_subscribers_see_words_and_verdicts_of_all_events_in_order(
    serve: Callable[..., object], join: Callable[..., StandIn]
) -> None:
    words = WordsPublisher("teb0-tst-p0")
    with drp.words("tst:0", limit_s=5.0) as stream:
        served = serve(TWO, keep_if="npeaks > 15", words=words)
        a, b = join(served), join(served, 7, "hsd_0")
        for one in (a, b):
            one.hello()
            one.configure(1, [("npeaks", "UINT32")] if one is a else (), 4 if one is a else 0)
        for one in (a, b):
            one.await_transition("Configure")
        (only,) = stream._streams
        while only.layout is None or not only.layout.contributors or not words.subscribers:
            only.socket.poll(20)
            stream._take_all(only, deque())
        a.events([10, 11], np.array([(20,), (3,)], PEAKS))
        b.events([10, 11])
        found = list(islice(stream, 2))
        assert [(one.pulse_id, one.result) for one in found] == [(10, wire.PERSIST), (11, 0)]
        assert [int(one.words["epix_0"]["npeaks"]) for one in found] == [20, 3]
        a.events([12], np.array([(99,)], PEAKS))
        b.events([12])
        (last,) = islice(stream, 1)
        assert (last.pulse_id, stream.lost) == (12, 0)
