"""Azimuthal integration: equal to a plain twin whatever the bins, masks, errors and invalid pixels; and what cannot be integrated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.fex import AzimuthalIntegrator, Directions, FexError, Poni
from drp.fex import _scatter as kernels
from drp.fex.directions import UNITS
from tests.fex.plain_azimuthal import integrate

SHAPE = (2, 9, 14)
PITCH_UM = 100.0
HIGH_UM = 5000.0


def coords(shape: tuple[int, int, int] = SHAPE) -> tuple[Any, Any, Any]:
    """Panels beside each other, the beam near the corner of the first."""
    segment, row, col = np.indices(shape).astype(float)
    return (
        (row - 1.3) * PITCH_UM,
        (col + segment * (shape[2] + 2) - 2.6) * PITCH_UM,
        np.full(shape, -HIGH_UM),
    )


DIRECTIONS = Directions.of_coords(coords(), Poni(wavelength=1e-10))


def edges_of(radial: Any) -> Any:
    width = radial[1] - radial[0]
    return np.append(radial - width / 2, radial[-1] + width / 2)


def frame_of(seed: int, invalid: float) -> Any:
    rng = np.random.default_rng(seed)
    frame = rng.normal(20, 5, SHAPE).astype(np.float32)
    frame[rng.random(SHAPE) < invalid] = np.nan
    frame[rng.random(SHAPE) < invalid] = -7.2
    frame[rng.random(SHAPE) < invalid / 4] = np.inf
    return frame


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    bins=st.integers(1, 150) | st.integers(195, 300),
    unit=st.sampled_from(sorted(UNITS)),
    model=st.sampled_from([None, "poisson", "azimuthal"]),
    split=st.booleans(),
    dummy=st.sampled_from([None, -7.0]),
    invalid=st.sampled_from([0.0, 0.2]),
    masked=st.sampled_from([0.0, 0.3, 0.9]),
    polarization=st.sampled_from([None, 0.9]),
    radial=st.sampled_from([None, (0.25, 0.7)]),
)
def test_a_curve_is_that_of_the_twin(
    seed: int,
    bins: int,
    unit: str,
    model: str | None,
    split: bool,
    dummy: float | None,
    invalid: float,
    masked: float,
    polarization: float | None,
    radial: tuple[float, float] | None,
) -> None:
    mask = np.random.default_rng(seed + 1).random(SHAPE) >= masked
    mask[0, 0, 0] = mask[1, -1, -1] = True
    middle, reach = DIRECTIONS.radial(unit)
    scale = UNITS[unit].scale
    limits = None if radial is None else tuple(float(part * middle.max() * scale) for part in radial)
    integrator = AzimuthalIntegrator(
        DIRECTIONS,
        bins,
        unit=unit,
        mask=mask.astype(np.uint8),
        split=split,
        radial_range=limits,
        polarization=polarization,
        error_model=model,
        dummy=dummy,
        delta_dummy=0.5,
    )
    frame = frame_of(seed, invalid)
    curve = integrator.integrate(frame, 2.0)
    norm = DIRECTIONS.solid_angle() * (1 if polarization is None else DIRECTIONS.polarization(polarization))
    width = (curve.radial[1] - curve.radial[0]) / scale if bins > 1 else None
    reach = reach if split else 0 * reach
    if limits is None:
        low, high = max(0, (middle - reach)[mask].min()), (middle + reach)[mask].max()
    else:
        low, high = (one / scale for one in limits)
    told = (high * (1 + 2**-23) - low) / bins
    assert width is None or math.isclose(width, told, rel_tol=1e-6)
    assert math.isclose(curve.radial[0], (low + told / 2) * scale, rel_tol=1e-9)
    intensity, sigma, total = integrate(frame, middle, reach, norm, mask, low, told, bins, model, dummy, 0.5)
    full = total >= 1e-9
    # 16 bits of a share move it by less than 1e-5 of a pixel, in bins of 32 pixels and more; the values lie within 30.
    assert np.allclose(curve.norm, total, rtol=3e-6, atol=1e-9)
    assert np.allclose(curve.intensity[full] * 2, intensity[full], rtol=0, atol=3e-4)
    assert (curve.intensity[~full] == (dummy or 0)).all()
    if model is None:
        assert curve.sigma is None
    else:
        assert curve.sigma is not None
        # The variance around the mean is a difference, of which rounding leaves a little.
        assert np.allclose(
            curve.sigma[full] * 2, sigma[full], rtol=1e-4, atol=1e-3 if model == "azimuthal" else 1e-6
        )


def test_a_bin_of_one_pixel_has_no_spread() -> None:
    integrator = AzimuthalIntegrator(
        DIRECTIONS, 20_000, split=False, polarization=0.9, error_model="azimuthal"
    )
    curve = integrator.integrate(frame_of(3, 0.0))
    pixels, _ = np.histogram(DIRECTIONS.radial("q_nm^-1")[0], edges_of(curve.radial))
    assert curve.sigma is not None
    assert (pixels == 1).sum() > 100
    assert curve.sigma[pixels == 1].max() < 1e-5


def test_a_flat_frame_gives_a_flat_curve_where_norms_are_one_and_its_inverse_where_not() -> None:
    ones = np.ones(SHAPE, np.float32)
    flat = AzimuthalIntegrator(DIRECTIONS, 40, solid_angle=False).integrate(ones)
    assert np.allclose(flat.intensity[flat.norm > 0], 1, rtol=1e-12)
    corrected = AzimuthalIntegrator(DIRECTIONS, 40, unit="2th_deg")
    curve = corrected.integrate((ones * DIRECTIONS.solid_angle()).astype(np.float32))
    assert np.allclose(curve.intensity[curve.norm > 0], 1, rtol=1e-6)


def test_many_bins_in_which_a_pixel_is_many_times_over() -> None:
    integrator = AzimuthalIntegrator(DIRECTIONS, 2000, solid_angle=False)
    curve = integrator.integrate(np.ones(SHAPE, np.float32))
    assert curve.norm.sum() == pytest.approx(np.prod(SHAPE), rel=1e-4)
    assert np.allclose(curve.intensity[curve.norm > 0], 1, rtol=1e-6)


@pytest.mark.parametrize("middle", [0, 175, -175])
def test_a_sector_has_the_pixels_of_its_azimuths_also_over_180_degrees(middle: float) -> None:
    segment, row, col = np.indices((1, 61, 61)).astype(float)
    directions = Directions.of_coords(((row - 30) * 100, (col - 30) * 100, segment - 1e4))
    azimuth = np.degrees(directions.azimuth()[0])
    inside = abs((azimuth - middle + 180) % 360 - 180) < 30
    frame = inside.astype(np.float32)
    options: dict[str, Any] = {"unit": "r_mm", "solid_angle": False, "radial_range": (1.0, 2.8)}
    half = AzimuthalIntegrator(directions, 10, azimuth_range=(middle - 29, middle + 29), **options)
    edge = AzimuthalIntegrator(directions, 10, azimuth_range=(middle + 60, middle + 100), **options)
    assert (half.integrate(frame).intensity > 0.85).all()
    assert (edge.integrate(frame).intensity == 0).all()


def test_segments_come_one_by_one_or_together() -> None:
    class InTurn:
        shape = SHAPE
        calibrates_pixels = False

        def __iter__(self) -> Any:
            buffer = np.empty(SHAPE[1:], np.float32)
            for one in frame:
                np.copyto(buffer, one)
                yield buffer

        def pixels(self, index: Any, out: Any) -> Any:
            raise NotImplementedError

    frame = frame_of(3, 0.1)
    integrator = AzimuthalIntegrator(DIRECTIONS, 30, error_model="poisson")
    together = integrator.integrate(frame).intensity.copy()
    assert np.array_equal(integrator.integrate(InTurn()).intensity, together)


def test_events_are_independent_of_each_other() -> None:
    integrator = AzimuthalIntegrator(DIRECTIONS, 30, error_model="azimuthal")
    good = integrator.integrate(frame_of(1, 0))
    before = good.intensity.copy(), good.sigma.copy() if good.sigma is not None else None, good.norm.copy()
    nothing = integrator.integrate(np.full(SHAPE, np.nan, np.float32))
    assert not nothing.intensity.any()
    assert not nothing.norm.any() or abs(nothing.norm).max() < 1e-9
    again = integrator.integrate(frame_of(1, 0))
    assert np.array_equal(again.intensity, before[0])
    assert np.array_equal(again.sigma, before[1])
    assert np.array_equal(again.norm, before[2])


def test_nothing_is_compiled_after_the_constructor() -> None:
    integrator = AzimuthalIntegrator(DIRECTIONS, 30, error_model="azimuthal", dummy=-7.0)
    compiled = {name: len(getattr(kernels, name).signatures) for name in KERNELS}
    integrator.integrate(frame_of(1, 0.2))
    assert {name: len(getattr(kernels, name).signatures) for name in KERNELS} == compiled
    assert compiled == KERNELS


KERNELS = {"scatter": 2, "scatter_rest": 2, "multiply": 1, "find_invalid": 1}
"""How often each is compiled: for pixels, and where that is 2 for products of them."""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bins": 0}, "0 bins cannot be"),
        ({"bins": 70_000}, "70000 bins"),
        ({"unit": "q"}, r"no unit 'q'.*2th_deg"),
        ({"error_model": "gauss"}, "no error model 'gauss'.*azimuthal"),
        ({"method": "full"}, "no method 'full'.*pyFAI"),
        ({"mask": np.ones((1, 9, 14))}, r"mask is \(1, 9, 14\)"),
        ({"mask": np.zeros(SHAPE)}, "no pixel is left"),
        ({"dummy": 3, "delta_dummy": -1}, "delta_dummy is -1"),
        ({"azimuth_range": (10, -10)}, "azimuth_range is 10 to -10"),
        ({"radial_range": (0, math.nan)}, "radial_range"),
        ({"radial_range": (500.0, 600.0)}, "no pixel lies between 500 and 600"),
    ],
)
def test_what_cannot_be_integrated_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(FexError, match=told):
        AzimuthalIntegrator(DIRECTIONS, **options)


def test_pixels_that_are_all_in_the_beam_are_told() -> None:
    one = np.zeros((1, 1))
    poni = Poni(distance=0.1, poni1=5e-5, poni2=5e-5, pixel_m=(1e-4, 1e-4))
    with pytest.raises(FexError, match="no pixel lies between 0 and 0"):
        AzimuthalIntegrator(Directions.of_poni(poni, one.shape), 3, unit="r_mm", split=False)
    curve = AzimuthalIntegrator(Directions.of_poni(poni, one.shape), 3, unit="r_mm").integrate(
        np.ones((1, 1, 1), np.float32)
    )
    assert curve.norm.sum() == pytest.approx(1)


def test_a_frame_or_monitor_that_does_not_fit_is_told() -> None:
    integrator = AzimuthalIntegrator(DIRECTIONS, 30)
    with pytest.raises(FexError, match="expected is float32"):
        integrator.integrate(np.zeros((1, 9, 14), np.float32))
    for monitor in (0.0, math.nan):
        with pytest.raises(FexError, match="monitor"):
            integrator.integrate(np.zeros(SHAPE, np.float32), monitor)


def test_q_without_a_wavelength_is_told() -> None:
    with pytest.raises(FexError, match="needs the wavelength"):
        AzimuthalIntegrator(Directions.of_coords(coords()))
