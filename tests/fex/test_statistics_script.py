"""fex_scripts/roi_statistics.py: live on workers and offline it records what NumPy makes of the same frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_files import drp, write_run

from drp import DataSource
from drp.fex import average_of
from xtc import Reader, TransitionId

SCRIPT = Path(__file__).resolve().parents[2] / "fex_scripts" / "roi_statistics.py"
FIELDS = ("roi", "profile", "histogram")


def recorded(folder: Path) -> Path:
    """The one file that drp recorded."""
    (path,) = [path for path in folder.rglob("*.xtc2") if ".smd." not in path.name]
    return path


def events(path: Path) -> list[list[Any]]:
    """What the script made of each event."""
    found = []
    for run in DataSource(files=str(path)).runs():
        fex = run.Detector("epixhr").statistics
        found += [[np.array(getattr(fex, one)(evt)) for one in FIELDS] for evt in run.events()]
    return found


def sums(path: Path) -> dict[str, Any]:
    """What the workers added up over the step."""
    with Reader(path) as reader:
        for dgram in reader:
            if dgram.service == TransitionId.EndStep:
                return {
                    one.field.name: np.array(one.value)
                    for one in dgram.fields()
                    if one.names.alg.name == "reduce"
                }
    raise AssertionError("no EndStep")


@pytest.mark.slow
def test_the_script_records_what_numpy_makes_of_the_frames_live_and_offline(tmp_path: Path) -> None:
    store = str(tmp_path / "calib.db")
    run_file = write_run(tmp_path / "run.xtc2", f"sim:epixhr,segments=2,frames=12,constants={store}", 12)
    common = [
        "-p",
        f"{SCRIPT} --roi 20:90,100:500 --bins 80 --keep-every 0",
        "--source",
        run_file,
        "--calib",
        store,
    ]
    for how, folder in (["--offline"], "offline"), (["-W", "2", "--check-jit"], "live"):
        done = drp(*common, *how, "-o", tmp_path / folder)
        assert done.returncode == 0, done.stdout + done.stderr
    offline, live = recorded(tmp_path / "offline"), recorded(tmp_path / "live")
    made = events(live)
    assert all(
        np.array_equal(a, b, equal_nan=True)
        for one, other in zip(made, events(offline), strict=True)
        for a, b in zip(one, other, strict=True)
    )
    frames = []
    for run in DataSource(files=str(run_file), calib=store).runs():
        det = run.Detector("epixhr", calib=True)
        mask = det.raw.mask() == 1
        for evt, (roi, profile, histogram) in zip(run.events(), made, strict=True):
            frame = det.raw.calib(evt, copy=True).astype(np.float64)
            frames.append(frame)
            inside = frame[:, 20:90, 100:500][mask[:, 20:90, 100:500]]
            expected = [inside.size, inside.sum(), inside.mean(), inside.std(), inside.min(), inside.max()]
            np.testing.assert_allclose(roi, expected, rtol=2e-5)
            assert np.array_equal(histogram, np.histogram(frame[mask], np.linspace(-10, 50, 81))[0])
            assert profile.shape == (80,)
    for path in (offline, live):
        merged = sums(path)
        found = average_of(merged["average_sum"], merged["average_squares"], merged["average_n"])
        assert found.n == 12
        np.testing.assert_allclose(found.mean, np.mean(frames, axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.deviation, np.std(frames, axis=0), rtol=1e-6, atol=1e-6)
