"""Whether constants fit a type of detector and can be used, before they are put."""

import numpy as np
import pytest

from calib import CalibError, Constant, DetectorId
from calib.detectors import corrections
from calib.detectors.types import CORRECTIONS
from calib.fitting import check_fit, doubts_of
from calib.geometry import Geometry

A, AB = ("a",), ("a", "b")


def fits(dettype: str, ctype: str, shape: tuple[int, ...], serials: tuple[str, ...] = A) -> None:
    """Check an array of a shape; of zeros that take no memory."""
    value = np.broadcast_to(np.zeros((), np.uint8), shape)
    check_fit(DetectorId("cam", dettype, serials), Constant(ctype, value, serials))


@pytest.mark.parametrize(
    ("dettype", "ctype", "shape"),
    [
        ("jungfrau", "pedestals", (3, 1, 512, 1024)),
        ("jungfrau", "pixel_status", (3, 1, 512, 1024)),
        ("jungfrau", "pixel_mask", (1, 512, 1024)),
        ("jungfrau", "pixel_mask", (512, 1024)),
        ("jungfrau", "status_extra", (1, 1, 512, 1024)),
        ("epix10ka", "pixel_gain", (7, 1, 352, 384)),
        ("epix10ka", "pixel_status", (5, 1, 352, 384)),
        ("epixm320", "pedestals", (2, 4, 192, 384)),
        ("epixm320", "pedestals", (3, 4, 192, 384)),
        ("epixuhr3x2", "pedestals", (8, 1, 336, 576)),
        ("epixuhr3x2", "pedestals", (12, 1, 336, 576)),
        ("epixuhr", "pedestals", (12, 4, 168, 192)),
        ("epix100", "pedestals", (704, 768)),
        ("epix100", "pedestals", (1, 704, 768)),
        ("epix100", "pedestals", (1, 1, 704, 768)),
        ("opal", "pedestals", (40, 50)),
        ("opal", "pedestals", (3, 1, 40, 50)),
    ],
)
def test_what_a_correction_can_use_passes(dettype: str, ctype: str, shape: tuple[int, ...]) -> None:
    fits(dettype, ctype, shape)


@pytest.mark.parametrize(
    ("dettype", "ctype", "shape", "said"),
    [
        ("jungfrau", "pedestals", (3, 1, 1024, 512), "Rows and columns are exchanged"),
        ("jungfrau", "pedestals", (2, 1, 512, 1024), "(3, 1, 512, 1024)"),
        ("jungfrau", "pedestals", (4, 1, 512, 1024), "(3, 1, 512, 1024)"),
        ("jungfrau", "pedestals", (1, 512, 1024), "(3, 1, 512, 1024)"),
        ("jungfrau", "pedestals", (512, 1024), "(3, 1, 512, 1024)"),
        ("jungfrau", "pedestals", (3, 2, 512, 1024), "1 panel of jungfrau"),
        ("jungfrau", "pedestals", (1024,), "(3, 1, 512, 1024)"),
        ("jungfrau", "pixel_mask", (1024, 512), "Rows and columns are exchanged"),
        ("jungfrau", "pixel_status", (4, 1, 512, 1024), "(3, 1, 512, 1024)"),
        ("epix10ka", "pixel_gain", (3, 1, 352, 384), "(7, 1, 352, 384)"),
        ("epixm320", "pedestals", (1, 4, 192, 384), "(2 or more, 4, 192, 384)"),
        ("epixm320", "pedestals", (2, 1, 192, 384), "(2 or more, 4, 192, 384)"),
        ("epixuhr3x2", "pedestals", (7, 1, 336, 576), "(8 to 12, 1, 336, 576)"),
        ("epixuhr3x2", "pedestals", (13, 1, 336, 576), "(8 to 12, 1, 336, 576)"),
        ("epix100", "pedestals", (2, 1, 704, 768), "(1, 704, 768) or (1, 1, 704, 768)"),
        ("opal", "pedestals", (50,), "(rows, columns)"),
        ("opal", "pedestals", (1, 3, 1, 40, 50), "(rows, columns)"),
    ],
)
def test_what_no_correction_can_use_is_refused_with_what_is_needed(
    dettype: str, ctype: str, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(CalibError) as failure:
        fits(dettype, ctype, shape)
    assert said in str(failure.value)
    assert str(shape) in str(failure.value)


def test_every_correction_takes_what_fits_and_nothing_that_does_not() -> None:
    """The shape that is asked for here is the one that the corrections themselves ask for."""
    for dettype, kind in CORRECTIONS.items():
        fewest, most = kind.ranges
        for count in {fewest, most or fewest + 1}:
            fits(dettype, "pedestals", (count, 2 * kind.parts, *kind.panel_shape), AB)
        if kind.coding is not None and kind.coding.n_planes > 1:
            assert fewest >= kind.coding.n_planes
    assert {kind.ranges for kind in corrections() if kind not in CORRECTIONS.values()} == {(1, 1)}


@pytest.mark.parametrize("dettype", ["jungfrau", "epixm320", "epixuhr", "epix10ka"])
def test_a_default_geometry_fits_its_type_and_no_other(dettype: str) -> None:
    text = Constant.make("geometry", Geometry.default_for(dettype, 1).text())
    check_fit(DetectorId("cam", dettype, A), text)
    with pytest.raises(CalibError, match="panels"):
        check_fit(DetectorId("cam", "epix100", A), text)
    with pytest.raises(CalibError, match="panels"):
        check_fit(DetectorId("cam", dettype, tuple("abcdefgh")), text)


def test_parameters_of_common_mode_are_checked() -> None:
    check_fit(DetectorId("cam", "epix10ka", A), Constant.make("common_mode", np.array([7, 7, 100, 10.0])))
    with pytest.raises(CalibError, match="common mode"):
        check_fit(DetectorId("cam", "epix10ka", A), Constant.make("common_mode", np.array([7.0])))


def constant(ctype: str, value: float, *, spoilt: float = 0, count: int = 0) -> Constant:
    """A constant of two ranges and two panels of ten pixels, `count` of the last of them spoilt."""
    array = np.full((2, 2, 2, 5), float(value))
    array[1, 1].reshape(-1)[:count] = spoilt
    return Constant.make(ctype, array.astype("u1") if ctype in ("pixel_status", "pixel_mask") else array, AB)


@pytest.mark.parametrize(
    ("ctype", "value", "spoilt", "said"),
    [
        ("pedestals", 1, np.nan, "values of 40 are NaN"),
        ("pixel_rms", 1, np.inf, "values of 40 are infinite"),
        ("pixel_gain", 1, 0, "values of 40 are 0"),
        ("pixel_gain", 1, -np.inf, "values of 40 are infinite"),
    ],
)
def test_single_values_are_slight_and_most_of_a_panel_are_grave(
    ctype: str, value: float, spoilt: float, said: str
) -> None:
    assert doubts_of(constant(ctype, value)) == doubts_of(Constant.make("geometry", "x"))
    slight = doubts_of(constant(ctype, value, spoilt=spoilt, count=5))
    assert slight.grave == ()
    assert slight.slight[0].startswith(f"5 {said}")
    grave = doubts_of(constant(ctype, value, spoilt=spoilt, count=6))
    assert grave.grave == ("panel 1, gain range 1, has 6 unusable pixels of 10",)


def test_gains_below_0_and_offsets_of_0_are_in_order() -> None:
    for one in (constant("pixel_gain", -1.39), constant("pixel_offset", 0), constant("pedestals", 0)):
        assert doubts_of(one) == doubts_of(Constant.make("geometry", "x"))


def test_a_status_of_mostly_bad_pixels_is_grave_and_single_ones_are_in_order() -> None:
    few = doubts_of(constant("pixel_status", 0, spoilt=8, count=5))
    assert (few.grave, few.slight) == ((), ())
    assert doubts_of(constant("pixel_status", 0, spoilt=8, count=6)).grave == (
        "panel 1, gain range 1, has 6 bad pixels of 10",
    )
    assert len(doubts_of(constant("pixel_status", 4)).grave) == 4


def test_a_mask_may_leave_little_but_not_nothing() -> None:
    assert doubts_of(constant("pixel_mask", 0, spoilt=1, count=1)).grave == ()
    assert doubts_of(constant("pixel_mask", 0)).grave == ("it masks every pixel",)
