"""One script calibrates and draws a simulated run, under drp and under real psana, which finds the simulator's constants in our service."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calib_command import served
from sim_files import drp, write_run

from tests.real.conftest import psana_environment

pytestmark = pytest.mark.real
SCRIPT = """
import sys
import numpy as np
from psana import DataSource

out, files = sys.argv[1], sys.argv[2:]
ds = DataSource(files=files[0]) if files else DataSource()
for run in ds.runs():
    det = run.Detector("jungfrau")
    calib, image = [], []
    for evt in run.events():
        calib.append(det.raw.calib(evt).copy())
        image.append(det.raw.image(evt))
    x, y, z = det.raw._pixel_coords()
    rows, cols = det.raw._pixel_coord_indexes()
    np.savez(
        out, calib=calib, image=image, mask=det.raw._mask(), pedestals=det.raw._pedestals(), gain=det.raw._gain(),
        factor=det.raw._gain_factor(), rms=det.raw._rms(), status=det.raw._status(), x=x, y=y, rows=rows, cols=cols,
    )
"""


def test_a_script_gives_the_same_under_drp_and_under_psana(psana: Any, tmp_path: Path) -> None:
    store, script = tmp_path / "calib.db", tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = write_run(tmp_path / "run.xtc2", f"sim:jungfrau:1M,frames=3,peaks=300,constants={store}", 3)
    done = drp("--offline", "-p", f"{script} {tmp_path / 'ours.npz'}", "--source", run, "--calib", store)
    assert done.returncode == 0, done.stderr
    with served(tmp_path, store) as service:
        judged = subprocess.run(
            [psana.python, script, tmp_path / "psanas.npz", run],
            env={**psana_environment(), "LCLS_CALIB_HTTP": f"http://127.0.0.1:{service.port}"},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert judged.returncode == 0, judged.stderr[-3000:]
    with np.load(tmp_path / "ours.npz") as ours, np.load(tmp_path / "psanas.npz") as psanas:
        assert set(ours.files) == set(psanas.files)
        for name in ours.files:
            assert ours[name].shape == psanas[name].shape, name
            assert np.allclose(ours[name], psanas[name], rtol=1e-6, atol=1e-6), name
        assert np.array_equal(ours["calib"], psanas["calib"])
        assert np.array_equal(ours["image"], psanas["image"])
