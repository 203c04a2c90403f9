"""Real psana reads what the simulator makes as the detectors it stands for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from drp.source import open_source
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from xtc import Dgram, TransitionId, encode_dgram

pytestmark = pytest.mark.real
EVENTS = 5


class Taken:
    """Slots that keep what is put in them."""

    events_free = EVENTS
    transitions_free = 1000

    def __init__(self) -> None:
        self.dgrams: list[bytes] = []

    def put(self, dgram: Any, pulse_id: int = 0) -> bool:
        is_event = Dgram(dgram).service == TransitionId.L1Accept
        if is_event and not self.events_free:
            return False
        self.events_free -= is_event
        self.dgrams.append(bytes(dgram))
        return True


@pytest.mark.parametrize("kind", ["epixhr,segments=3", "jungfrau:1M"])
def test_psana_sees_the_frames_of_the_truth(psana: Any, tmp_path: Path, kind: str) -> None:
    source, taken = open_source(f"sim:{kind},frames=3,steps=2,step_events=3"), Taken()
    while taken.events_free:
        source.fill(taken)
    last = Dgram(taken.dgrams[-1]).timestamp
    ends = (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun)
    path = tmp_path / "sim.xtc2"
    path.write_bytes(
        b"".join([*taken.dgrams, *(encode_dgram(one, last + k) for k, one in enumerate(ends, 1))])
    )
    truth = SimTruth(parse(kind))
    (run,) = psana.files(path, truth.options.detname, steps=True)
    assert (run["expt"], run["runnum"]) == ("tstsim0001", 1)
    assert [len(step["events"]) for step in run["steps"]] == [3, 2]
    events = [event for step in run["steps"] for event in step["events"]]
    for number, event in enumerate(events):
        raw = event["raw"][truth.options.detname]
        frame = truth.raw(number % 3)
        assert raw["shape"] == list(frame.shape)
        assert raw["sha256"] == hashlib.sha256(frame.tobytes()).hexdigest()
