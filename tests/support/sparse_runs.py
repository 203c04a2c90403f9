"""Recorded runs of fex_scripts/sparse_bragg.py, and the frames they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sim_files import ROOT, drp, write_run

from drp import DataSource

EVENTS = 6
SIM = f"epixhr,segments=2,frames={EVENTS},peaks=6"
SCRIPT = f"{ROOT}/fex_scripts/sparse_bragg.py --hit-peaks 4 --keep-every 4"


def simulated(folder: Path) -> tuple[Path, Path]:
    """Return a simulated run and a store of its constants."""
    store = folder / "calib.db"
    return write_run(folder / "in.xtc2", f"sim:{SIM},constants={store}", EVENTS), store


def reduced(folder: Path, *words: object, options: str = "") -> Path:
    """Return what drp records of the simulated run in `folder`."""
    source, store = folder / "in.xtc2", folder / "calib.db"
    out = folder / f"out{len(list(folder.glob('out*')))}"
    done = drp("-p", f"{SCRIPT} {options}", "--source", source, "--calib", store, "-o", out, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*/*/xtc/*.xtc2")
    return path


def events(path: Path) -> list[dict[str, Any]]:
    """Return of each event what was recorded, and whether raw was kept."""
    found = []
    for run in DataSource(files=str(path)).runs():
        det = run.Detector("epixhr")
        for evt in run.events():
            event = {name: getattr(det.bragg, name)(evt) for name in det.bragg.fields}
            event |= {"hit": det.trigger.hit(evt), "raw": det.raw.raw(evt) is not None}
            found.append({name: np.array(value) for name, value in event.items()})
    return found


def calibrated(source: Path, store: Path) -> tuple[list[Any], Any]:
    """Return the calibrated frames of a run, and its mask."""
    frames = []
    for run in DataSource(files=str(source), calib=str(store)).runs():
        det = run.Detector("epixhr", calib=True)
        frames = [det.raw.calib(evt, copy=True) for evt in run.events()]
        mask = det.raw.mask()
    return frames, mask
