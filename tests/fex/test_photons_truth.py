"""Photons of simulated frames beside where they fell: how many, and how often wrong, as the noise has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from calib.detectors import Correction, DetectorSetup, Panel, correction_type
from drp.fex import PhotonFinder
from drp.source.simconstants import constants_of
from drp.source.simoptions import parse
from drp.source.truth import SimTruth

DENSITIES = (0.01, 0.1, 1.0)


def simulated(**options: Any) -> SimTruth:
    words = ",".join(f"{name}={value}" for name, value in options.items())
    return SimTruth(parse(f"epixhr,segments=4,ring=off,peaks=0,{words}"))


def correction_of(truth: SimTruth) -> Correction:
    """Return the correction with the true constants."""
    config = {field.label: value for field, value in truth.camera.config}
    panels = tuple(Panel(at, truth.camera.detid(at), config) for at in range(truth.segments))
    setup = DetectorSetup("cam", truth.camera.dettype, "raw", truth.camera.raw_alg.version, panels, (0, 0))
    kind = correction_type(setup)
    constants = {one.ctype: one.value for one in constants_of(truth) if one.ctype != "geometry"}
    made: Correction = kind(setup, constants, kind.derive(setup, constants))
    return made


def found_in(truth: SimTruth, frame: int, **options: Any) -> Any:
    finder = PhotonFinder(truth.shape, truth.options.energy_kev, **options)
    return finder.find(correction_of(truth).segments(list(truth.raw(frame))))


def beyond(sigmas: np.ndarray) -> np.ndarray:
    """Return how much of a normal law is above so many sigma."""
    return np.vectorize(math.erfc)(sigmas / math.sqrt(2)) / 2


@pytest.mark.parametrize(
    ("method", "density"), [("single", one) for one in DENSITIES] + [("droplet", 0.01), ("droplet", 0.1)]
)
def test_photons_are_found_where_they_fell(method: str, density: float) -> None:
    truth = simulated(photons=density)
    expected = truth.photons(0)
    found = found_in(truth, 0, method=method)
    assert found.total == expected.sum()
    assert np.array_equal(found.map, expected)
    places = np.argwhere(expected)
    assert np.array_equal(found.sparse, np.column_stack((places, expected[tuple(places.T)])))


def test_the_noise_of_a_droplet_is_that_of_the_sum_of_its_pixels() -> None:
    truth = simulated(photons=1)  # nearly all pixels of a segment hang together
    expected = truth.photons(0)
    sigma = float((truth.rms[0] / (truth.gains[0] * truth.options.energy_kev)).max())
    found = found_in(truth, 0, method="droplet").map.sum(axis=(1, 2), dtype=int)
    assert found == pytest.approx(expected.sum(axis=(1, 2)), abs=5 * sigma * math.sqrt(expected[0].size))


@pytest.mark.parametrize("density", DENSITIES)
def test_photons_are_missed_and_made_as_often_as_the_noise_says(density: float) -> None:
    truth = simulated(photons=density, noise=8)
    expected = truth.photons(0)
    found = found_in(truth, 0).map.astype(int)
    sigma = truth.rms[0] / (truth.gains[0] * truth.options.energy_kev)
    wrong = beyond(0.5 / sigma)
    for what, pixels, errors in (
        ("false", expected == 0, found > 0),
        ("missed", expected == 1, found == 0),
    ):
        by_theory = wrong[pixels].sum()
        print(
            f"{density} photons/pixel: {what} {errors[pixels].mean():.5f}, by theory {wrong[pixels].mean():.5f}"
        )
        assert errors[pixels].sum() == pytest.approx(by_theory, abs=5 * math.sqrt(by_theory))
    bias = (found - expected).sum()
    by_theory = (wrong * (expected == 0)).sum()  # elsewhere as many are made as missed
    assert bias == pytest.approx(by_theory, abs=5 * math.sqrt(2 * wrong.sum()))


@pytest.mark.parametrize("sharing", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("density", DENSITIES)
def test_droplets_count_shared_photons_to_a_percent(density: float, sharing: float) -> None:
    truth = simulated(photons=density, sharing=sharing)
    expected = truth.photons(0)
    found = found_in(truth, 0, method="droplet")
    assert found.total == pytest.approx(expected.sum(), rel=0.01)
    if density == min(DENSITIES):
        away = np.abs(found.map.astype(int) - expected).sum() / 2 / expected.sum()
        assert away < 0.3 * sharing  # the brightest pixel is not always the photon's own
        single = found_in(truth, 0, method="single")
        assert single.total < 0.98 * expected.sum()
