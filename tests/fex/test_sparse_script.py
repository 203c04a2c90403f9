"""fex_scripts/sparse_bragg.py by the command: frames are those of SparseBragg, live as offline, and hits are told to the trigger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sparse_runs import EVENTS, calibrated, events, reduced, simulated

from drp.fex import SparseBragg, radius_in_pixels
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from tests.support.sparse_runs import SIM


def test_sparse_frames_are_recorded_live_as_offline(tmp_path: Path) -> None:
    source, store = simulated(tmp_path)
    live = events(reduced(tmp_path, "-W", 2, "--check-jit"))
    offline = events(reduced(tmp_path, "--offline", "--check-jit"))
    assert len(live) == len(offline) == EVENTS
    for one, other in zip(live, offline, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)

    x, y = SimTruth(parse(SIM)).positions_um
    frames, mask = calibrated(source, store)
    bragg = SparseBragg(radius_in_pixels(y, x), mask, hit_peaks=4, min_snr=5.0, adc_thresh=20.0, per_bin=64)
    for number, (event, frame) in enumerate(zip(live, frames, strict=True)):
        found = bragg.find(frame)
        assert np.array_equal(event["index"], found.index)
        assert np.array_equal(event["intensity"], found.intensity)
        assert np.array_equal(event["background_avg"], found.background_avg)
        assert np.array_equal(event["background_std"], found.background_std)
        assert np.array_equal(event["peakXPosRaw"], found.peaks.x)
        assert event["hit"] == event["is_hit"] == found.is_hit
        assert event["raw"] == (number % 4 == 0)
    assert any(event["is_hit"] for event in live)
