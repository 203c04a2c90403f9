"""Counting photons, and what is compiled beforehand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from calib import CalibError
from calib.detectors import count_photons
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.5, [0, 0, 0, 1, 1, 3, 65535, 0]), (0.9, [0, 0, 0, 0, 1, 3, 65535, 0])]
)
def test_photons_are_whole_energies(threshold: float, expected: list[int]) -> None:
    pixels = np.array([-20, 0, 3.9, 4.1, 8, 24.1, 1e9, np.nan], np.float32)
    assert count_photons(pixels, 8.0, threshold=threshold).tolist() == expected


def test_photons_of_an_event_are_those_of_its_calibrated_pixels() -> None:
    correction = made(setup_of("jungfrau", 1), constants_of((3, 1, 512, 1024), [41.5, -1.39, -0.11]))
    raw = frame_of((1, 512, 1024), [1, 3], 14, 0x3FFF)
    out = np.empty(raw.shape, np.uint16)
    assert correction.photons(raw, 2.0, out=out, cmpars=(7, 1, 200, 10)) is out
    assert np.array_equal(out, count_photons(correction.calib(raw, cmpars=(7, 1, 200, 10)), 2.0))


def test_what_cannot_be_counted_is_refused() -> None:
    pixels = np.zeros((2, 3), np.float32)
    for wrong in (
        {"photon_kev": 0.0},
        {"photon_kev": float("nan")},
        {"photon_kev": 8.0, "threshold": 0.0},
        {"photon_kev": 8.0, "threshold": 1e-9},
    ):
        with pytest.raises(CalibError, match="cannot be counted"):
            count_photons(pixels, **wrong)
    with pytest.raises(CalibError, match="calibrated is float64"):
        count_photons(pixels.astype(float), 8.0)
    with pytest.raises(CalibError, match=r"out uint16 \(2, 2\)"):
        count_photons(pixels, 8.0, out=np.empty((2, 2), np.uint16))


WARM = """
import numpy as np
from calib.detectors import corrections, count_photons, _kernels, _medians, commonmode, photons
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of

for kind in corrections():
    kind.warm_up()
kernels = [one for module in (_kernels, _medians, commonmode, photons) for one in vars(module).values() if hasattr(one, "nopython_signatures")]
before = {one.__name__: len(one.nopython_signatures) for one in kernels}
uhr = [{"gainAsic": np.full(6, 48), "gainCSVAsic": np.zeros((6, 32256), np.uint8)}]
one = [{"gainAsic": np.full(4, 48), "gainCSVAsic": np.zeros((4, 32256), np.uint8)}]
for dettype, ranges, shape, config in (
    ("jungfrau", 3, (1, 512, 1024), None),
    ("epixhremu", 7, (1, 144, 768), None),
    ("epixm320", 2, (4, 192, 384), None),
    ("epix100", 1, (1, 704, 768), None),
    ("epixuhr3x2", 8, (1, 336, 576), uhr),
    ("epixuhr", 8, (4, 168, 192), one),
    ("other", 1, (1, 40, 50), None),
):
    correction = made(setup_of(dettype, 1, config=config), constants_of((ranges, *shape), [2.0]))
    raw = frame_of(shape, [], 0, 0x3FFF)
    for frame in (raw, [raw], np.frombuffer(raw.tobytes(), np.uint16).reshape(shape)):
        correction.photons(frame, 8.0)
        if correction.banks:
            correction.photons(frame, 8.0, cmpars=(7, 7, 100, 10))
            correction.photons(frame, 8.0, cmpars=[6, 1, 99.5])
for dettype, raw in (("epixuhr3x2", np.zeros((6, 32256), np.uint16)), ("epixuhr", np.zeros((4, 48384), np.uint8))):
    config, shape = (uhr, (1, 336, 576)) if dettype == "epixuhr3x2" else (one, (4, 168, 192))
    made(setup_of(dettype, 1, config=config), constants_of((8, *shape), [2.0])).calib([raw])
after = {one.__name__: len(one.nopython_signatures) for one in kernels}
print({name: (before[name], after[name]) for name in after if after[name] != before[name]})
"""


def test_no_kernel_compiles_once_they_are_warm() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WARM], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr
