"""Profiles along rows, columns, radius and angle are what adding up pixel by pixel gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drp.fex import FexError, Profile, Roi, sector
from tests.fex.plain_statistics import profile

SHAPE = (2, 5, 23)
PIXELS = st.one_of(st.floats(-1e4, 1e4, width=32), st.sampled_from([np.nan, np.inf]))
Y, X = np.mgrid[-5:5, -11:12].astype(float)
X, Y = X.reshape(SHAPE) + 0.25, Y.reshape(SHAPE) + 0.25


def holds(found: Profile, frame: Any, used: Any, bins: Any) -> None:
    """A profile is that of its plain twin."""
    curve = found.of(frame)
    total, n = profile(frame, used, bins, len(found.centers))
    assert curve.n.tolist() == n.tolist()
    scale = np.abs(frame[np.isfinite(frame)]).sum()
    np.testing.assert_allclose(curve.sum, total, rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(curve.mean[n > 0], total[n > 0] / n[n > 0], rtol=1e-6, atol=1e-6 * scale)
    assert np.isnan(curve.mean[n == 0]).all()


@settings(max_examples=60, deadline=None)
@given(
    frame=arrays(np.float32, SHAPE, elements=PIXELS), mask=arrays(np.uint8, SHAPE, elements=st.integers(0, 1))
)
def test_profiles_are_what_pixels_add_up_to(frame: Any, mask: Any) -> None:
    mask[:, 2, 8] = 1
    inside = np.zeros(SHAPE, bool)
    inside[:, 1:4, 5:20] = True
    used = inside & (mask == 1)
    row, col = np.broadcast_to(np.arange(5)[:, None] - 1, SHAPE), np.broadcast_to(np.arange(23) - 5, SHAPE)
    region = Roi("1:4,5:20")
    holds(Profile.along_columns(SHAPE, region, mask), frame, used, col)
    holds(Profile.along_rows(SHAPE, region, mask), frame, used, row)
    r = np.hypot(X, Y)
    used = (sector(X, Y, (1, 9), (-100, 200)) == 1) & (mask == 1)
    if used.any():
        bins = ((r - 1) / 2).astype(int)
        holds(Profile.radial(X, Y, 4, (1, 9), (-100, 200), mask), frame, used, bins)
        angle = np.degrees(np.arctan2(Y, X))
        angle = np.where(angle < -100, angle + 360, angle)
        bins = np.minimum(((angle + 100) / 30).astype(int), 9)
        holds(Profile.azimuthal(X, Y, 10, (1, 9), (-100, 200), mask), frame, used, bins)


def test_a_radial_profile_has_every_pixel_by_default() -> None:
    curve = Profile.radial(X, Y, 7).of(np.ones(SHAPE, np.float32))
    assert curve.n.sum() == X.size
    assert curve.sum.sum() == X.size


def test_bins_are_where_centers_say() -> None:
    assert Profile.along_columns(SHAPE, Roi("1:4,5:20")).centers.tolist() == list(range(5, 20))
    assert Profile.along_rows(SHAPE, Roi("1:4,5:20")).centers.tolist() == [1, 2, 3]
    assert Profile.radial(X, Y, 4, (2, 10)).centers.tolist() == [3, 5, 7, 9]
    assert Profile.azimuthal(X, Y, 4, (2, 10), (170, 210)).centers.tolist() == [175, 185, 195, 205]


def test_a_sector_may_go_over_the_seam_of_the_angle() -> None:
    x, y = np.cos(np.radians([160, 175, -175, -160])), np.sin(np.radians([160, 175, -175, -160]))
    assert sector(x, y, (0.5, 2), (170, 190)).tolist() == [0, 1, 1, 0]
    assert sector(x, y, (0.5, 2), (-190, -170)).tolist() == [0, 1, 1, 0]
    assert sector(x, y, (0.5, 2)).tolist() == [1, 1, 1, 1]
    assert sector(x, y, (2, 3)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "limits", [((2, 1), (0, 90)), ((-1, 1), (0, 90)), ((0, 1), (90, 90)), ((0, 1), (0, 361))]
)
def test_a_sector_that_is_none_is_told(limits: Any) -> None:
    with pytest.raises(FexError, match="is no sector"):
        sector(X, Y, *limits)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Profile.along_rows(SHAPE, Roi("0:9,0:2")), "does not fit"),
        (lambda: Profile.along_rows(SHAPE, mask=np.zeros(SHAPE)), "no pixel that is used"),
        (lambda: Profile.along_columns(SHAPE, np.ones(SHAPE)), "is of a rectangle"),
        (lambda: Profile.radial(X, Y, 0), "1 to 65535"),
        (lambda: Profile.radial(X, Y, 3, (500, 600)), "no pixel that is used"),
        (lambda: Profile.radial(X, Y[:1], 3, (0, 600)), "x has shape"),
        (lambda: Profile.radial(X[0], Y[0], 3), "no shape of a detector"),
    ],
)
def test_what_does_not_fit_is_told(make: Any, words: str) -> None:
    with pytest.raises(FexError, match=words):
        make()
