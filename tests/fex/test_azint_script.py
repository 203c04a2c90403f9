"""fex_scripts/azint.py by the command: the water ring of the simulator where it is and as bright, live as offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_files import ROOT, drp, write_run

from drp import DataSource
from drp.fex import AzimuthalIntegrator, Directions, Poni
from drp.source.simoptions import parse
from drp.source.truth import SimTruth
from xtc import Reader, TransitionId

EVENTS, BINS = 12, 60
SIM = f"epixhr,segments=3,frames={EVENTS},ring=2,peaks=0"
AZINT = f"{ROOT}/fex_scripts/azint.py --bins {BINS} --error-model azimuthal --keep-every 5"
PONI = """\
poni_version: 2
Detector: Detector
Detector_config: {}
Distance: 0.2
Poni1: 0.003
Poni2: -0.002
Rot1: 0.02
Rot2: 0.0
Rot3: 0.0
Wavelength: 1.3e-10
"""


def recorded(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return curves, errors and whether raw was kept, of all events; and what the end of the run holds."""
    (path,) = folder.glob("*/*/xtc/*.xtc2")
    events = []
    for run in DataSource(files=str(path)).runs():
        det = run.Detector("epixhr")
        for evt in run.events():
            event = {name: getattr(det.azint, name)(evt) for name in ("intensity", "sigma")}
            events.append(event | {"raw": det.raw.raw(evt) is not None})
    (end,) = [one for one in Reader(path) if one.service == TransitionId.EndRun]
    sums = {one.field.name: one.value for one in end.fields() if one.names.alg.name == "reduce"}
    return events, sums


def expected(truth: SimTruth) -> tuple[Any, Any]:
    """Return radius and curve of the mean frame."""
    x, y = truth.positions_um
    away = np.full(truth.shape, -100_000.0)
    curve = AzimuthalIntegrator(Directions.of_coords((y, x, away)), BINS, unit="r_mm").integrate(
        truth.mean_photons * np.float32(truth.options.energy_kev)
    )
    return curve.radial, curve.intensity


def test_the_ring_is_where_it_is_live_as_offline(tmp_path: Path) -> None:
    store = tmp_path / "calib.db"
    path = write_run(tmp_path / "in.xtc2", f"sim:{SIM},constants={store}", EVENTS)
    runs = {}
    for way, words in {"live": ("-W", 2, "--check-jit"), "offline": ("--offline",)}.items():
        done = drp(
            "-p", f"{AZINT} --unit r_mm", "--source", path, "--calib", store, "-o", tmp_path / way, *words
        )
        assert done.returncode == 0, done.stderr
        runs[way] = recorded(tmp_path / way)
    (live, sums), (offline, sums_offline) = runs["live"], runs["offline"]
    assert len(live) == len(offline) == EVENTS
    for one, other in zip(live, offline, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert [event["raw"] for event in live] == [not number % 5 for number in range(EVENTS)]

    radial, truth = expected(SimTruth(parse(SIM)))
    assert sums["events"] == sums_offline["events"] == EVENTS
    assert np.array_equal(sums["radial"], sums_offline["radial"])
    assert np.allclose(sums["radial"], radial, rtol=1e-6)
    assert np.allclose(sums["intensity_sum"], sums_offline["intensity_sum"], rtol=1e-12)
    mean = sums["intensity_sum"] / EVENTS
    error = np.array([event["sigma"] for event in live]).mean(axis=0) / np.sqrt(EVENTS)
    assert abs(radial[mean.argmax()] - radial[truth.argmax()]) <= 2 * (radial[1] - radial[0])
    assert (abs(mean - truth) < 5 * error + 1e-3).all()
    assert (error[5:-5] < 0.05 * truth.max()).all()


def offline(folder: Path, options: str) -> list[dict[str, Any]]:
    """Return curves of two events."""
    store, path = folder / "calib.db", folder / "in.xtc2"
    if not path.exists():
        write_run(path, f"sim:{SIM},constants={store}", 2)
    out = folder / f"out{len(list(folder.glob('out*')))}"
    words = ("--source", path, "--calib", store, "-o", out, "--offline", "--check-jit")
    done = drp("-p", f"{AZINT} {options}", *words)
    assert done.returncode == 0, done.stderr
    return recorded(out)[0]


def test_options_are_those_of_the_integrator(tmp_path: Path) -> None:
    poni = tmp_path / "cam.poni"
    poni.write_text(PONI)
    options = "--unit q_A^-1 --radial 0.3 0.9 --azimuth -100 170 --polarization 0.9 --keep-every 1"
    events = offline(tmp_path, f"--poni {poni} {options}")
    for run in DataSource(files=str(tmp_path / "in.xtc2"), calib=str(tmp_path / "calib.db")).runs():
        det = run.Detector("epixhr", calib=True)
        integrator = AzimuthalIntegrator(
            Directions.of_coords(det.raw.pixel_coords(), Poni.read(poni)),
            BINS,
            unit="q_A^-1",
            mask=det.raw.mask(),
            radial_range=(0.3, 0.9),
            azimuth_range=(-100, 170),
            polarization=0.9,
            error_model="azimuthal",
        )
        for evt, event in zip(run.events(), events, strict=True):
            curve = integrator.integrate(det.raw.calib(evt))
            assert curve.norm.min() > 0
            assert np.array_equal(event["intensity"], curve.intensity.astype(np.float32))
            assert np.array_equal(event["sigma"], np.float32(curve.sigma))


@pytest.mark.real
def test_pyfai_does_it_as_a_method(tmp_path: Path) -> None:
    pytest.importorskip("pyFAI")
    ours, theirs = (offline(tmp_path, f"--unit r_mm --method {method}") for method in ("scatter", "pyFAI"))
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one["intensity"], other["intensity"], rtol=0, atol=1e-3)
