"""Dark constants beside those that real psana's DarkProc makes of the same frames."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.dark import DarkBuilder, DarkSums, Step
from calib.detectors import DetectorSetup, Panel
from tests.real.conftest import psana_environment

pytestmark = pytest.mark.real
JUDGE = Path(__file__).with_name("psana_dark.py")
SHAPE = (512, 1024)


def spoilt_frames(events: int) -> np.ndarray:
    """Return frames with every kind of bad pixel."""
    rng = np.random.default_rng(11)
    zero = rng.normal(3000, 60, SHAPE)
    frames = np.rint(rng.normal(zero, 5, (events, *SHAPE))).astype(np.uint16)
    frames[:, 0, 0] = 0
    frames[:, 0, 1] = 0x3FFF
    frames[: events // 5, 0, 2] = 0
    frames[: events // 5, 0, 3] = 0x3FFF
    frames[:, 0, 4] = 3000
    frames[::2, 0, 5] += 200
    frames[:, 0, 6] += 1000
    frames[:, 0, 7] -= 1000
    frames[3, 0, 8] |= 1 << 15
    frames[:, 0, 9] = 0x3FFE
    return frames


def test_pedestals_rms_and_status_are_psanas(psana: Any, tmp_path: Path) -> None:
    frames = spoilt_frames(111)
    np.save(tmp_path / "frames.npy", frames)
    done = subprocess.run(
        [psana.python, JUDGE, tmp_path / "frames.npy", tmp_path / "judged.npz"],
        env=psana_environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    judged = np.load(tmp_path / "judged.npz")
    setup = DetectorSetup("jungfrau", "jungfrau", "raw", (0, 2, 0), (Panel(0, "a", {}),), SHAPE)
    sums = DarkSums.of(setup)
    for frame in frames:
        sums.add([frame])
    builder = DarkBuilder()
    builder.add(Step(setup, "exp", 1, 0, "", sums.arrays))
    made = builder.build()
    one = made.results["a", 0, 0]
    # psana keeps the data bits of a word whose range bits mean nothing.
    same = np.ones(SHAPE, bool)
    same[0, 8] = False
    assert np.allclose(one.mean[same], judged["mean"][same], rtol=1e-12, atol=0)
    # psana takes the spread from sums of squares in float64.
    assert np.allclose(one.rms[same], judged["rms"][same], rtol=1e-7, atol=1e-4)
    assert np.array_equal(one.status, judged["status"])
    assert np.unique(one.status).size >= 8
    # Between its two quantiles psana finds the same pedestals, and too little noise.
    quiet = one.status == 0
    assert np.abs(judged["gated_mean"] - one.mean)[quiet].mean() < 0.5
    ratio = float(np.median(judged["gated_rms"][quiet] / one.rms[quiet]))
    assert 0.75 < ratio < 0.95
    print(f"psana's gated rms is {ratio:.3f} of the whole")
