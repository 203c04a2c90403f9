"""Regions of interest: what text is one, and which pixels it means."""

from __future__ import annotations

from argparse import ArgumentTypeError

import numpy as np
import pytest

from drp.fex import Roi


def test_a_region_is_first_and_beyond_the_last() -> None:
    pixels = np.arange(6 * 8).reshape(6, 8)
    assert np.array_equal(pixels[Roi("1:3,2:5").slices((6, 8))], pixels[1:3, 2:5])


def test_without_text_it_is_the_middle() -> None:
    assert Roi().slices((16, 512)) == (slice(6, 10), slice(192, 320))
    assert Roi().slices((1, 1)) == (slice(0, 1), slice(0, 1))


@pytest.mark.parametrize(
    "text", ["", "a:b,1:2", "5:5,1:2", "9:1,1:2", "100:200", "1:2:3,4:5", "-1:2,3:4", "1:2,3:4,5:6"]
)
def test_what_is_no_region_is_told(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no region such as"):
        Roi(text)


def test_a_region_beyond_the_segment_is_told() -> None:
    with pytest.raises(ValueError, match="1:3,2:9 does not fit segments of 6 rows and 8 columns"):
        Roi("1:3,2:9").slices((6, 8))


def test_a_shape_that_is_not_known_fits() -> None:
    assert Roi("1:3,2:9").slices((0, 0)) == (slice(1, 3), slice(2, 9))
