"""pyFAI as the judge of azimuthal integration: its own integrator with its own geometry, and as the method of ours."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.fex import AzimuthalIntegrator, Directions, Poni

pytestmark = pytest.mark.real
SHAPE = (200, 270)
DUMMY = -7.0
METHOD = ("bbox", "csr", "cython")
PLACE = {"poni1": 0.012, "poni2": 0.025, "rot1": 0.1, "rot2": -0.2, "rot3": 0.3}


@pytest.fixture(scope="module")
def pyfai() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyfai = pytest.importorskip("pyFAI")
        pytest.importorskip("pyFAI.detectors")
        pytest.importorskip("pyFAI.integrator.azimuthal")
    return pyfai


def integrator(pyfai: Any, orientation: int = 3) -> Any:
    detector = pyfai.detectors.Detector(1e-4, 1.5e-4, max_shape=SHAPE, orientation=orientation)
    return pyfai.load({"dist": 0.1, **PLACE, "wavelength": 1e-10, "detector": detector})


def frame(*, invalid: bool) -> Any:
    rng = np.random.default_rng(5)
    made = rng.poisson(20, SHAPE).astype(np.float32)
    if invalid:
        made[rng.random(SHAPE) < 0.01] = np.nan
        made[rng.random(SHAPE) < 0.01] = DUMMY + 0.2
    return made


MASK = np.random.default_rng(6).random((1, *SHAPE)) > 0.02


def written(pyfai: Any, folder: Path, orientation: int = 3) -> tuple[Any, Directions]:
    """Its integrator, and the directions of the PONI file that it saves."""
    theirs = integrator(pyfai, orientation)
    theirs.save(str(folder / "theirs.poni"))
    return theirs, Directions.of_poni(Poni.read(folder / "theirs.poni"), SHAPE)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_directions_of_a_poni_file_are_pyfais(pyfai: Any, tmp_path: Path, orientation: int) -> None:
    theirs, ours = written(pyfai, tmp_path, orientation)
    for unit in AzimuthalIntegrator.units:
        middle, reach = (one[0] for one in ours.radial(unit))
        assert np.allclose(middle, theirs.center_array(SHAPE, unit=unit, scale=False), rtol=1e-12)
        # Its corners are float32.
        far = theirs.delta_array(SHAPE, unit=unit, scale=False)
        assert np.allclose(reach, far, rtol=1e-3, atol=1e-6 * middle.max())
    assert np.allclose(ours.solid_angle()[0], theirs.solidAngleArray(SHAPE), rtol=1e-6)
    assert np.allclose(ours.polarization(0.9)[0], theirs.polarization(SHAPE, 0.9), rtol=1e-6)
    assert np.allclose(ours.azimuth()[0][0], theirs.center_array(SHAPE, unit="chi_rad", scale=False))


@pytest.mark.parametrize("model", [None, "poisson", "azimuthal"])
@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize(("bins", "unit"), [(60, "2th_deg"), (1000, "q_nm^-1"), (3000, "r_mm")])
def test_curves_are_those_of_its_integrator(
    pyfai: Any, tmp_path: Path, model: str | None, invalid: bool, bins: int, unit: str
) -> None:
    theirs, directions = written(pyfai, tmp_path)
    data = frame(invalid=invalid)
    ours = AzimuthalIntegrator(
        directions,
        bins,
        unit=unit,
        mask=MASK,
        polarization=0.95,
        error_model=model,
        dummy=DUMMY,
        delta_dummy=0.5,
    )
    curve = ours.integrate(data, 2.0)
    told = theirs.integrate1d(
        data,
        bins,
        unit=unit,
        mask=~MASK[0],
        error_model=model,
        polarization_factor=0.95,
        dummy=DUMMY,
        delta_dummy=0.5,
        normalization_factor=2.0,
        method=METHOD,
    )
    assert np.allclose(curve.radial, told.radial, rtol=1e-7)
    # Its corners are float32, which moves the ends of pixels by this part of a bin; values lie within 30.
    moved = 2**-24 * curve.radial[-1] / (curve.radial[1] - curve.radial[0])
    assert np.allclose(curve.intensity, told.intensity, rtol=0, atol=30 * moved + 1e-5)
    if model == "poisson":
        assert np.allclose(curve.sigma, told.sigma, rtol=30 * moved)
    elif model == "azimuthal":
        norm = theirs.solidAngleArray(SHAPE) * theirs.polarization(SHAPE, 0.95) * 2
        exact = around_the_mean(theirs.engines[told.method].engine, data, norm, told)
        assert np.allclose(curve.sigma, exact, rtol=1e-3, atol=30 * moved + 1e-4)
        full = told.count > 50
        assert np.allclose(curve.sigma[full], told.sigma[full], rtol=0.02)


def around_the_mean(engine: Any, data: Any, norm: Any, told: Any) -> Any:
    """Its error of "azimuthal" with its own shares: the mean is known before the deviations from it are summed.

    Its compiled integrator goes over pixels once, and what it gives depends on their order where they are split; that in Python says of itself that
    it needs pixels that are not.
    """
    bins = np.repeat(np.arange(len(told.radial)), np.diff(engine.indptr))
    pixels, shares = engine.indices, engine.data.astype(np.float64)
    values, norms = (np.ravel(one).astype(np.float64) for one in (data, norm))
    valid = np.isfinite(values) & (abs(values - DUMMY) > 0.5)
    away = np.where(valid, values, 0)[pixels] - norms[pixels] * told.intensity[bins]
    squares = np.bincount(bins, (shares * away * valid[pixels]) ** 2, len(told.radial))
    return np.sqrt(squares) / told.sum_normalization


@pytest.mark.parametrize("model", [None, "poisson"])
@pytest.mark.parametrize("split", [False, True])
def test_it_does_the_same_as_a_method(pyfai: Any, tmp_path: Path, model: str | None, split: bool) -> None:
    _, directions = written(pyfai, tmp_path)
    options: dict[str, Any] = {
        "mask": MASK,
        "error_model": model,
        "dummy": DUMMY,
        "delta_dummy": 0.5,
        "split": split,
    }
    data = frame(invalid=True)
    ours = AzimuthalIntegrator(directions, 500, **options).integrate(data)
    theirs = AzimuthalIntegrator(directions, 500, method="pyFAI", **options).integrate(data)
    # The same shares, in 16 bits and float32.
    assert np.allclose(ours.intensity, theirs.intensity, rtol=0, atol=3e-5 if split else 1e-6)
    assert np.allclose(ours.norm, theirs.norm, rtol=1e-5, atol=1e-6)
    if model:
        assert np.allclose(ours.sigma, theirs.sigma, rtol=1e-5)


def test_sectors_and_ranges_are_its(pyfai: Any, tmp_path: Path) -> None:
    theirs, directions = written(pyfai, tmp_path)
    data = frame(invalid=False)
    options: dict[str, Any] = {
        "unit": "2th_deg",
        "radial_range": (8.0, 16.0),
        "azimuth_range": (10.0, 80.0),
    }
    curve = AzimuthalIntegrator(directions, 100, **options).integrate(data)
    told = theirs.integrate1d(data, 100, method=METHOD, **options)
    # It counts pixels that end up to a bin below the range in the first one.
    assert np.allclose(curve.intensity[1:], told.intensity[1:], rtol=0, atol=1e-4)
