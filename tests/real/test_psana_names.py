"""A script written for the LCLS-II DRP, with psana's import names, runs unchanged with and without psana.

The records must not depend on it, down to the last byte.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

NAMES_ON = ("ds", "run")
HEAD = """
import numpy as np
from psana import DataSource
from psana.dgramedit import AlgDef, DetectorDef
from psana.psexp import TransitionId

ds = DataSource(drp=drp_info, monitor=True)
detector = DetectorDef(drp_info.det_name, drp_info.det_type, drp_info.det_id)
fields = {"mean": (np.float64, 0), "rows": (np.uint16, 1), "note": (str, 1)}
where = (detector, AlgDef("fex", 0, 0, 1), fields, None, None, drp_info.det_segment)
"""
# The placement of the API until October 2025, and that since.
DECLARE = {
    "ds": """
fex = ds.add_detector(*where)
for run in ds.runs():
""",
    "run": """
for run in ds.runs():
    fex = run.add_detector(*where)
""",
}
LOOP = """
    det = run.Detector(drp_info.det_name)
    for number, evt in enumerate(run.events()):
        if evt.service() != TransitionId.L1Accept:
            raise ValueError("run.events() gave a transition")
        raw = det.raw.raw(evt)
        fex.fex.mean = raw.mean()
        fex.fex.rows = raw.max(axis=-1).reshape(-1)
        fex.fex.note = f"event {number} of run {run.runnum} of {run.expt}"
        PLACE.add_data(fex.fex)
        if number:
            PLACE.remove_data(drp_info.det_name, "raw")
"""
OTHER_MODULE = """
import os
os.environ["OMPI_MCA_btl"] = "self"  # drp keeps it from workers; without, Open MPI leaves a file
os.environ["TMPDIR"] = {folder!r}
import psana.psexp.prometheus_manager
from psana.detector.NDArrUtils import info_ndarr

assert "site-packages" in psana.psexp.prometheus_manager.__file__
"""


def write_script(folder: Path, names_on: str, before: str = "") -> Path:
    """Write the script that declares its Names on `ds` or on `run`."""
    script = folder / f"on_{names_on}.py"
    script.write_text(before + HEAD + DECLARE[names_on] + LOOP.replace("PLACE", names_on))
    return script


def record(drp: Any, script: Path, source: Path, folder: Path) -> Path:
    """Run drp with one worker and return the file it wrote."""
    folder.mkdir()
    done = drp("-p", script, "-W", "1", "--source", source, "-o", folder / "out", cwd=folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (written,) = (path for path in (folder / "out").rglob("*.xtc2") if not path.name.endswith(".smd.xtc2"))
    return Path(written)


@pytest.mark.parametrize("names_on", NAMES_ON)
def test_script_with_psanas_names_makes_the_same_file_with_and_without_psana(
    names_on: str, drp: Any, drp_beside_psana: Any, psana: Any, xtc2_data: Path, tmp_path: Path
) -> None:
    assert not has_psana(drp.python)
    assert has_psana(drp_beside_psana.python)
    script = write_script(tmp_path, names_on)
    source = xtc2_data / "test_jungfrau05M_calib.xtc2"
    without = record(drp, script, source, tmp_path / "without")
    beside = record(drp_beside_psana, script, source, tmp_path / "beside")
    assert without.name == beside.name
    assert without.read_bytes() == beside.read_bytes()
    notes = [
        field["value"]
        for dgram in psana.dgrams(beside)["dgrams"]
        for field in dgram["fields"]
        if (field["alg"], field["field"]) == ("fex", "note")
    ]
    assert notes == [f"event {number} of run 7 of mfx101332224" for number in range(2)]


def test_psanas_other_modules_are_those_installed(
    drp_beside_psana: Any, xtc2_data: Path, tmp_path: Path
) -> None:
    script = write_script(tmp_path, "ds", before=OTHER_MODULE.format(folder=str(tmp_path)))
    assert record(
        drp_beside_psana, script, xtc2_data / "test_jungfrau05M_calib.xtc2", tmp_path / "other"
    ).exists()


def test_psanas_other_modules_are_missed_by_name_where_psana_is_not(
    drp: Any, xtc2_data: Path, tmp_path: Path
) -> None:
    script = write_script(tmp_path, "ds", before=OTHER_MODULE.format(folder=str(tmp_path)))
    done = drp("-p", script, "--source", xtc2_data / "test_jungfrau05M_calib.xtc2", cwd=tmp_path)
    assert done.returncode == 1
    assert "psana.psexp.prometheus_manager" in done.stdout + done.stderr


def has_psana(python: Path) -> bool:
    """Say whether an interpreter has psana installed."""
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('psana') is None)"
    return subprocess.run([python, "-c", look], timeout=20, check=False, cwd=python.parent).returncode == 0
