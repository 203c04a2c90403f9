"""The same script calibrates live on several workers, with shared constants, as it does offline."""

from __future__ import annotations

from pathlib import Path

import pytest
from sim_files import drp, write_run

from calib.cli import main as calib
from xtc import Reader, TransitionId

SCRIPT = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
info = ds.drp_info
fex = ds.add_detector(DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 0, 0, 1),
                      {"energy": (np.float64, 0), "brightest": (np.float32, 0), "mean": (np.float32, 0), "where": (np.uint32, 0)})
for run in ds.runs():
    det = run.Detector(info.det_name, calib=True)
    for evt in run.events():
        fex.fex.energy = det.raw.calib(evt).sum(dtype=np.float64)
        fex.fex.brightest = det.raw.image(evt).max()
        fex.fex.mean = det.raw.image(evt, mapmode=3, vbase=-1).mean()
        fex.fex.where = det.raw.image(evt, pix_scale_size_um=300).argmax()
        ds.add_data(fex.fex)
        ds.remove_data(info.det_name, "raw")
"""


def results(folder: Path) -> list[tuple[object, ...]]:
    (path,) = [path for path in folder.rglob("*.xtc2") if ".smd." not in path.name]
    found = []
    for dgram in Reader(path):
        if dgram.service == TransitionId.L1Accept:
            found.append(tuple(one.value for one in dgram.fields() if one.names.alg.name == "fex"))
    return found


@pytest.mark.slow
def test_workers_calibrate_and_draw_as_a_script_offline_does(tmp_path: Path) -> None:
    store, script = str(tmp_path / "calib.db"), tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = write_run(tmp_path / "run.xtc2", f"sim:epixhr,segments=3,frames=12,constants={store}", 12)
    common = ["-p", script, "--source", run, "--calib", store]
    for how, folder in (["--offline"], "offline"), (["-W", "3"], "live"):
        done = drp(*common, *how, "-o", tmp_path / folder)
        assert done.returncode == 0, done.stderr
    offline, live = results(tmp_path / "offline"), results(tmp_path / "live")
    assert len(offline) == 12
    assert offline == live
    assert len({one[0] for one in offline}) == 12


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--offline"], ["-W", "2"]])
def test_a_script_that_needs_constants_fails_the_begin_run_and_names_what_is_missing(
    tmp_path: Path, how: list[str]
) -> None:
    store, script = str(tmp_path / "calib.db"), tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = write_run(tmp_path / "run.xtc2", "sim:epixhr,segments=1,frames=2", 2)
    geometry = tmp_path / "geometry.txt"
    geometry.write_text("IP 0 DET 0 0 0 0 0 0 0 0 0 0\nDET 0 MTRX:V2:144:768:100:100 0 0 0 0 0 0 0 0 0 0\n")
    put = ["--from-config", str(run), "--run", "0", "--store", store]
    assert calib(["put", "epixhr", "geometry", str(geometry), *put]) == 0
    done = drp("-p", script, "--source", run, "--calib", store, *how)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "pedestals" in said
    assert "Looked in" in said
    assert "00cafe0000" in said
