"""`fex_scripts/peakfinder.py` live, offline and beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_files import drp, write_run

from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from tests.conftest import ROOT
from tests.support.plain_xtc2 import PlainFile

SCRIPT = ROOT / "fex_scripts" / "peakfinder.py"
KIND = "epixhr,segments=3,photons=0.02,peaks=12,frames=8"
EVENTS = 8
SEARCH = "--adc-thresh 30 --min-snr 6 --hit-peaks 1000"
Events = list[dict[str, Any]]


def recorded(folder: Path) -> Events:
    """Return what each event says of its peaks."""
    (path,) = [one for one in folder.rglob("*.xtc2") if ".smd." not in one.name]
    return [
        {name: np.array(value).tolist() for name, value in one.find("peaks").items()}
        for one in PlainFile(path).events
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Events]:
    """What the script records of one run in several ways."""
    folder = tmp_path_factory.mktemp("peaks")
    store = folder / "calib.db"
    run = write_run(folder / "run.xtc2", f"sim:{KIND},constants={store}", EVENTS)
    found = {}
    for name, words, how in (
        ("live", SEARCH, ("-W", 2, "--check-jit")),
        ("offline", SEARCH, ("--offline",)),
        ("exact", f"{SEARCH} --exact --asic 72 192", ("-W", 1, "--check-jit")),
    ):
        done = drp("-p", f"{SCRIPT} {words}", "--source", run, "--calib", store, "-o", folder / name, *how)
        assert done.returncode == 0, done.stdout + done.stderr
        found[name] = recorded(folder / name)
    return found


def test_the_script_records_the_same_live_and_offline(runs: dict[str, Events]) -> None:
    assert len(runs["live"]) == EVENTS
    assert runs["live"] == runs["offline"]


@pytest.mark.parametrize("name", ["live", "exact"])
def test_what_is_recorded_are_the_peaks_of_the_truth(runs: dict[str, Events], name: str) -> None:
    truth = SimTruth(parse(KIND))
    seen = missed = wrong = 0
    for frame, event in enumerate(runs[name]):
        true = truth.peaks(frame)
        found = np.array([event["peakSegment"], event["peakRow"], event["peakCol"]]).T
        assert event["nPeaks"] == event["found"] == len(found) == len(event["peakSNR"])
        places = np.stack([true["segment"], true["row"], true["col"]], axis=1)
        away = np.abs(found[:, None] - places).max(axis=2)
        missed += (away.min(axis=0) > 2).sum()
        wrong += (away.min(axis=1) > 2).sum()
        seen += len(places)
    assert seen == 12 * EVENTS
    assert missed <= 0.02 * seen
    assert wrong <= 0.02 * seen
