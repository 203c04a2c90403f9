"""One script calibrates and draws, under drp and under real psana, which finds the same constants in our service."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calib_command import served
from sim_files import drp, write_run

from calib import Constant, detector_in
from calib.store import open_store
from tests.real.conftest import psana_environment
from tests.real.test_calib_psana import FILES, close, given_constants
from xtc import Reader

pytestmark = pytest.mark.real
Results = dict[str, Any]
SCRIPT = """
import sys
import numpy as np
from psana import DataSource

out, files = sys.argv[1], sys.argv[2:]
ds = DataSource(files=files[0]) if files else DataSource()
for run in ds.runs():
    det = run.Detector("NAME")
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


def both(psana: Any, folder: Path, name: str, run: Path, store: Path) -> tuple[Results, Results]:
    """Return what the script saves under drp and under psana."""
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("NAME", name))
    done = drp("--offline", "-p", f"{script} {folder / 'ours.npz'}", "--source", run, "--calib", store)
    assert done.returncode == 0, done.stderr
    with served(folder, store) as service:
        judged = subprocess.run(
            [psana.python, script, folder / "psanas.npz", run],
            env={**psana_environment(), "LCLS_CALIB_HTTP": f"http://127.0.0.1:{service.port}"},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert judged.returncode == 0, judged.stderr[-3000:]
    with np.load(folder / "ours.npz") as ours, np.load(folder / "psanas.npz") as psanas:
        return {name: ours[name] for name in ours.files}, {name: psanas[name] for name in psanas.files}


def test_a_script_gives_the_same_on_a_simulated_run(psana: Any, tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    run = write_run(tmp_path / "run.xtc2", f"sim:jungfrau:1M,frames=3,peaks=300,constants={store}", 3)
    ours, psanas = both(psana, tmp_path, "jungfrau", run, store)
    assert set(ours) == set(psanas)
    for name, array in ours.items():
        assert array.shape == psanas[name].shape, name
        assert np.allclose(array, psanas[name], rtol=1e-6, atol=1e-6), name
    assert np.array_equal(ours["calib"], psanas["calib"])
    assert np.array_equal(ours["image"], psanas["image"])


@pytest.mark.parametrize("name", FILES)
def test_a_script_gives_the_same_on_a_recorded_run(
    psana: Any, tmp_path: Path, xtc2_data: Path, name: str
) -> None:
    store, run, constants = tmp_path / "calib.db", xtc2_data / FILES[name][0], given_constants()[name]
    with Reader(run) as reader:
        assert reader.config is not None
        detector = detector_in(reader.config, name)
    with open_store(str(store), create=True) as opened:
        opened.put(
            detector, [Constant.make(ctype, value, detector.serials) for ctype, value in constants.items()]
        )
    ours, psanas = both(psana, tmp_path, name, run, store)
    assert set(ours) == set(psanas)
    for one, theirs in zip(ours["calib"], psanas["calib"], strict=True):
        close(one, theirs.reshape(one.shape), constants)
    # Pedestals of thousands of ADU leave a few ulp of them; images hold the same numbers.
    largest = np.abs(constants["pedestals"] / constants["pixel_gain"]).max()
    assert np.allclose(ours["image"], psanas["image"], rtol=1e-5, atol=4 * np.finfo(np.float32).eps * largest)
    for what in ("mask", "pedestals", "gain", "factor", "rms", "status", "x", "y", "rows", "cols"):
        assert np.allclose(ours[what], psanas[what].reshape(ours[what].shape), rtol=1e-6, atol=1e-6), what
