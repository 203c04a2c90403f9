"""Directions of pixels: by hand where that is easy, and the same from a PONI's grid as from coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drp.fex import Directions, FexError, Poni

PIXEL = 1e-4
GRID = Poni(distance=0.1, poni1=0.0, poni2=0.0, wavelength=1e-10, pixel_m=(PIXEL, PIXEL))


def test_angle_q_and_radius_of_a_pixel_are_those_by_hand() -> None:
    directions = Directions.of_poni(GRID, (40, 50))
    row, col = 30.5 * PIXEL, 44.5 * PIXEL
    angle = math.atan2(math.hypot(row, col), 0.1)
    where = (0, 30, 44)
    assert directions.radial("r_mm")[0][where] == pytest.approx(math.hypot(row, col))
    assert directions.radial("2th_deg")[0][where] == pytest.approx(angle)
    q = 4 * math.pi * math.sin(angle / 2) / 1e-10 * 1e-9
    assert directions.radial("q_nm^-1")[0][where] == pytest.approx(q)
    assert directions.radial("q_A^-1")[0][where] == pytest.approx(q)
    assert directions.azimuth()[0][where] == pytest.approx(math.atan2(row, col))
    assert directions.solid_angle()[where] == pytest.approx(math.cos(angle) ** 3)
    sideways = math.sin(angle) ** 2 * math.cos(2 * math.atan2(row, col))
    expected = 0.5 * (1 + math.cos(angle) ** 2 - 0.7 * sideways)
    assert directions.polarization(0.7)[where] == pytest.approx(expected)


@pytest.mark.parametrize("factor", [1.5, -2, math.nan])
def test_no_light_is_polarized_more_than_wholly(factor: float) -> None:
    with pytest.raises(FexError, match=f"polarization factor of {factor} cannot be"):
        Directions.of_poni(GRID, (4, 5)).polarization(factor)


def test_a_pixel_reaches_as_far_as_its_farthest_corner() -> None:
    middle, reach = Directions.of_poni(GRID, (8, 8)).radial("r_mm")
    assert reach[0, 7, 7] == pytest.approx(PIXEL / math.sqrt(2), rel=1e-9)
    assert middle[0, 7, 7] + reach[0, 7, 7] == pytest.approx(8 * PIXEL * math.sqrt(2))


def test_coordinates_of_a_panel_give_what_the_grid_gives() -> None:
    rows, cols = (np.arange(n) + 0.5 for n in (30, 40))
    x, y = (100 * one[None] for one in np.meshgrid(rows, cols, indexing="ij"))
    poni = Poni(distance=0.1, poni1=0.002, poni2=0.001, rot1=0.2, rot2=0.1, rot3=0.3, wavelength=1e-10)
    grid = Directions.of_poni(
        Poni(**{one: getattr(poni, one) for one in Poni.__slots__} | {"pixel_m": (PIXEL, PIXEL)}), (30, 40)
    )
    for z in (0.0, -5e5):
        given = Directions.of_coords((x, y, np.full_like(x, z)), poni)
        for one, other in zip(given.radial("q_nm^-1"), grid.radial("q_nm^-1"), strict=True):
            assert np.allclose(one, other, rtol=1e-9)
        assert np.allclose(given.solid_angle(), grid.solid_angle())


def test_without_a_distance_z_of_the_coordinates_is_it() -> None:
    segment, row, col = np.indices((1, 4, 4)).astype(float)
    angle = Directions.of_coords((row * 100, col * 100, segment - 2000)).radial("2th_deg")[0]
    assert angle[0, 0, 3] == pytest.approx(math.atan2(300, 2000))


@pytest.mark.parametrize("distance", [0.0, 0.2])
def test_segments_have_the_directions_that_they_have_in_the_whole(distance: float) -> None:
    segment, row, col = np.indices((3, 4, 5)).astype(float)
    x, y, z = row * 100, (col + 10 * segment) * 100, -5e4 - 1000 * segment
    poni = Poni(distance=distance, rot1=0.1)
    whole = Directions.of_coords((x, y, z), poni)
    part = Directions.of_coords((x[1:], y[1:], z[1:]), poni, z_um=z.mean())
    for one, other in zip(whole.radial("2th_deg"), part.radial("2th_deg"), strict=True):
        assert np.allclose(one[1:], other, rtol=1e-12)
    assert np.allclose(whole.solid_angle()[1:], part.solid_angle(), rtol=1e-12)


def test_panels_that_look_away_are_told() -> None:
    segment, row, col = np.indices((1, 4, 4)).astype(float)
    with pytest.raises(FexError, match=r"beside or behind the sample.*PONI with the distance"):
        Directions.of_coords((row, col, segment))
    with pytest.raises(FexError, match="not finite"):
        Directions.of_coords((row * np.nan, col, segment - 1))
    with pytest.raises(FexError, match="each has to be"):
        Directions.of_coords((row[0], col[0], segment[0]))


def test_a_poni_of_another_detector_is_told() -> None:
    small = Poni(distance=0.1, pixel_m=(PIXEL, PIXEL), shape=(10, 10))
    with pytest.raises(FexError, match=r"of a detector of \(10, 10\) pixels, frames are \(20, 10\)"):
        Directions.of_poni(small, (20, 10))
    with pytest.raises(FexError, match=r"one panel, not 4.*pixel_coords"):
        Directions.of_poni(small, (4, 10, 10))
    with pytest.raises(FexError, match="how large a pixel of Pilatus1M"):
        Directions.of_poni(Poni(distance=0.1, detector="Pilatus1M"), (10, 10))
