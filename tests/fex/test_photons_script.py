"""`fex_scripts/photons.py` live, offline and beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sim_files import drp, write_run

from drp.fex import PhotonFinder
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from tests.conftest import ROOT
from tests.support.plain_xtc2 import PlainFile

SCRIPT = ROOT / "fex_scripts" / "photons.py"
KIND = "epixhr,segments=2,photons=0.05,peaks=4,frames=6,sharing=0.2"
EVENTS = 6


def recorded(folder: Path) -> list[tuple[int, int, list[list[int]]]]:
    """Return what each event says of its photons."""
    (path,) = [one for one in folder.rglob("*.xtc2") if ".smd." not in one.name]
    found = [one.find("photons") for one in PlainFile(path).events]
    return [
        (int(one["total"]), int(one["lost"]), np.reshape(one["sparse"], (-1, 4)).tolist()) for one in found
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, int, list[list[int]]]]]:
    """What the script records of one run, live and offline, and live with a short list."""
    folder = tmp_path_factory.mktemp("photons")
    store = folder / "calib.db"
    run = write_run(folder / "run.xtc2", f"sim:{KIND},constants={store}", EVENTS)
    found = {}
    for name, words, how in (
        ("live", "--method droplet", ("-W", 2, "--check-jit")),
        ("offline", "--method droplet", ("--offline",)),
        ("short", "--most 50 --threshold 0.9 --keep-every 3", ("--offline",)),
    ):
        out = folder / name
        done = drp("-p", f"{SCRIPT} {words}", "--source", run, "--calib", store, "-o", out, *how)
        assert done.returncode == 0, done.stdout + done.stderr
        found[name] = recorded(out)
    return found


def test_the_script_records_the_same_live_and_offline(runs: dict[str, list[object]]) -> None:
    assert len(runs["live"]) == EVENTS
    assert runs["live"] == runs["offline"]


def test_what_is_recorded_are_the_photons_of_the_truth(
    runs: dict[str, list[tuple[int, int, list[list[int]]]]],
) -> None:
    truth = SimTruth(parse(KIND))
    finder = PhotonFinder(truth.shape, truth.options.energy_kev, method="droplet")
    for frame, (total, lost, sparse) in enumerate(runs["live"]):
        assert total == pytest.approx(truth.photons(frame).sum(), rel=0.01)
        assert lost == 0
        without_noise = finder.find(truth.charge(frame) * np.float32(truth.options.energy_kev))
        same = {tuple(one) for one in sparse} & {tuple(one) for one in without_noise.sparse.tolist()}
        assert len(same) > 0.97 * len(sparse)


def test_a_list_that_is_too_short_says_how_many_pixels_it_lacks(
    runs: dict[str, list[tuple[int, int, list[list[int]]]]],
) -> None:
    for total, lost, sparse in runs["short"]:
        assert len(sparse) == 50
        assert lost > 1000
        assert total > lost
