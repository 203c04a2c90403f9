"""fex_scripts/compress.py: what it records live and offline is the same, and gives frames and images back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_files import drp, write_run

from drp import DataSource

pytest.importorskip("bitshuffle")
SCRIPT = Path(__file__).resolve().parents[2] / "fex_scripts" / "compress.py"
FIELDS = ("data", "sizes", "shape", "dtype", "codec", "bound")


def recorded(folder: Path) -> Path:
    """The one file that drp recorded."""
    (path,) = [path for path in folder.rglob("*.xtc2") if ".smd." not in path.name]
    return path


def fields(path: Path) -> list[list[Any]]:
    """What the script added to each event."""
    found = []
    for run in DataSource(files=str(path)).runs():
        fex = run.Detector("epixhr").fex
        found += [[np.array(getattr(fex, one)(evt)).tolist() for one in FIELDS] for evt in run.events()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("bound", [0.0, 0.5])
def test_frames_and_images_come_back_from_what_the_script_records(tmp_path: Path, bound: float) -> None:
    store = str(tmp_path / "calib.db")
    before = write_run(tmp_path / "run.xtc2", f"sim:epixhr,segments=3,frames=8,constants={store}", 8)
    common = ["-p", f"{SCRIPT} --bound {bound} --keep-every 4", "--source", before, "--calib", store]
    for how, folder in (["--offline"], "offline"), (["-W", "2", "--check-jit"], "live"):
        done = drp(*common, *how, "-o", tmp_path / folder)
        assert done.returncode == 0, done.stdout + done.stderr
    after = recorded(tmp_path / "live")
    assert fields(after) == fields(recorded(tmp_path / "offline"))
    assert after.stat().st_size < before.stat().st_size * (0.85 if not bound else 0.5)
    runs = [next(DataSource(files=str(path), calib=store).runs()) for path in (before, after)]
    (was, _), (now, _) = dets = [(run.Detector("epixhr", calib=True), run) for run in runs]
    for n, (old, new) in enumerate(zip(*(run.events() for _, run in dets), strict=True)):
        if n % 4 == 0:
            assert now.fex.array(new) is None
            assert np.array_equal(now.raw.raw(new), was.raw.raw(old))
            continue
        assert now.raw.raw(new) is None
        away = np.abs(now.fex.calib(new).astype(float) - was.raw.calib(old))
        assert away.max() <= bound
        image, expected = now.fex.image(new), was.raw.image(old)
        assert image.shape == expected.shape
        assert np.abs(image.astype(float) - expected).max() <= bound
        if not bound:
            assert np.array_equal(now.fex.array(new), was.raw.raw(old))
            assert np.array_equal(
                now.fex.image(new, cmpars=(7, 1, 100, 10)), was.raw.image(old, cmpars=(7, 1, 100, 10))
            )
