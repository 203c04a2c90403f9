"""Where pixels are: the panel classes, the tree, and the default geometries, beside facts that psana said.

The facts of FACTS are psana 4.3.4's: `GeometryAccess` read its own default file of that detector; shape of the coordinates, of the
image (largest row and column index, and 1), the first 16 digits of the SHA-256 of rows and then columns as little-endian int32, and x, y,
z in um of the last panel's pixel (100, 150). tests/real/test_geometry_psana.py compares every bit where there is a psana.
"""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import GeometryError
from calib.geometry import Geometry, Placement, default_types, segment_class, segment_classes

FACTS = {
    ("jungfrau", 1): ((1, 512, 1024), (514, 1030), "c7e34a729afab7d3", (11737.5, -27337.5, -10000)),
    ("jungfrau", 2): ((2, 512, 1024), (1064, 1030), "d89691ae6d461642", (8887.5, -27337.5, -100000)),
    ("jungfrau", 8): ((8, 512, 1024), (2203, 2299), "00a9de61d4b079d6", (71343, 45069.6, -100000)),
    ("jungfrau", 32): ((32, 512, 1024), (4432, 4216), "14c0ff8825a6a1b2", (-132600, 86962.5, -100000)),
    ("epix10ka", 4): ((4, 352, 384), (775, 793), "bde9c2315760d4c8", (-28465.5645, -24540.4978, -99949.4864)),
    ("epixhr2x2", 1): ((1, 288, 384), (291, 387), "5ccf0de9230bb6b6", (-4475, -4275, -10000)),
    ("epixhr1x4", 1): ((1, 144, 768), (142, 778), "8003fdaee00a58ad", (2750, -23825, -10000)),
    ("epixhremu", 20): ((20, 144, 768), (1642, 1578), "4505c389d2db91a5", (77750, -63825, -10000)),
    ("epixm320", 4): ((4, 192, 384), (384, 768), "dae6c3c9cc176b0f", (5025, -11675, -10000)),
    ("epixuhr", 4): ((4, 168, 192), (386, 338), "2366a135e8d1c5d2", (15150, -10150, -10000)),
    ("epixuhr3x2", 2): ((2, 336, 576), (699, 583), "5a8b0deee08661a6", (11087.5, -14075, -100000)),
    ("epix100", 1): ((1, 704, 768), (709, 773), "e218b022c00d09e2", (-12700, -11800, -1000000)),
}
ANGLE = st.sampled_from([0.0, 90.0, 180.0, 270.0]) | st.floats(-360, 360)
PLACE = st.tuples(*[st.floats(-1e6, 1e6)] * 3, *[ANGLE] * 3, *[st.floats(-2, 2)] * 3)


@pytest.mark.parametrize("which", FACTS)
def test_default_geometries_are_where_psana_has_them(which: tuple[str, int]) -> None:
    shape, image, digest, place = FACTS[which]
    geometry = Geometry.default_for(*which)
    coords = geometry.pixel_coords()
    assert [axis.shape for axis in coords] == [shape] * 3
    np.testing.assert_allclose([axis[-1, 100, 150] for axis in coords], place, atol=1e-4)
    rows, cols = geometry.pixel_indexes()
    assert (rows.max() + 1, cols.max() + 1) == image
    said = rows.astype("<i4").tobytes() + cols.astype("<i4").tobytes()
    assert hashlib.sha256(said).hexdigest()[:16] == digest


@pytest.mark.parametrize("dettype", default_types())
def test_default_geometries_are_read_back_from_their_texts(dettype: str) -> None:
    geometry = Geometry.default_for(dettype, 1)
    assert Geometry.from_text(geometry.text()).placements == geometry.placements


def test_default_is_the_smallest_that_has_a_panel_for_every_segment() -> None:
    sizes = {n: Geometry.default_for("jungfrau", n).shape[0] for n in (1, 2, 3, 8, 9, 32)}
    assert sizes == {1: 1, 2: 2, 3: 8, 8: 8, 9: 32, 32: 32}


@pytest.mark.parametrize(
    ("dettype", "segments", "said"),
    [
        ("jungfrua", 1, "Did you mean jungfrau"),
        ("opal", 1, "Known are jungfrau"),
        ("jungfrau", 33, "There are those of 1, 2, 8, 32"),
        ("jungfrau", 0, "for 0 segments"),
    ],
)
def test_what_has_no_default_geometry_is_told(dettype: str, segments: int, said: str) -> None:
    with pytest.raises(GeometryError, match=said):
        Geometry.default_for(dettype, segments)


@pytest.mark.parametrize("name", [*segment_classes(), "MTRX:5:7:10:20", "MTRX:V2:5:7:10:20"])
def test_panel_classes_are_whole(name: str) -> None:
    segment = segment_class(name)
    x, y, z = segment.coords()
    assert x.shape == y.shape == z.shape == segment.shape
    sizes = segment.sizes()
    assert all(np.all(size >= segment.scale_um) for size in sizes[:2])
    np.testing.assert_allclose(
        segment.areas() * np.median(sizes[0]) * np.median(sizes[1]), sizes[0] * sizes[1]
    )
    if name not in ("MTRX:5:7:10:20", "PNCCD:V1"):
        np.testing.assert_allclose([x.mean(), y.mean()], [0, 0], atol=1e-6)


def test_wide_pixels_of_the_jungfrau_have_twice_the_width_and_their_own_centre() -> None:
    segment = segment_class("JUNGFRAU:V2")
    assert list(segment.cols_um[254:258] - segment.cols_um[254]) == [0, 112.5, 262.5, 375]
    assert list(segment.areas()[255, 254:257]) == [2, 4, 4]
    assert list(segment.areas()[100, 510:514]) == [1, 2, 2, 1]


def test_tiled_panels_without_gaps_touch_one_another() -> None:
    x, y, _ = Geometry.default_for("epixm320", 4).pixel_coords()
    assert np.unique(np.diff(np.unique(np.round(x, 6)))) == 50
    assert np.unique(np.diff(np.unique(np.round(y, 6)))) == 50


def test_mask_is_0_at_edges_and_seams() -> None:
    mask = Geometry.default_for("epix10ka", 4).pixel_mask(width=2, wcenter=1)
    assert mask.dtype == np.uint8
    assert mask.shape == (4, 352, 384)
    assert list(np.flatnonzero(mask[0, 100] == 0)) == [0, 1, 191, 192, 382, 383]
    assert list(np.flatnonzero(mask[3, :, 100] == 0)) == [0, 1, 175, 176, 350, 351]
    assert (
        Geometry.default_for("epix10ka", 4)
        .pixel_mask(edge_rows=0, edge_cols=0, center_rows=0, center_cols=0)
        .all()
    )
    assert not segment_class("MTRX:V2:4:5:10:10").mask(width=9).any()


def matrix(place: tuple[float, ...], do_tilt: bool) -> np.ndarray:
    """Return the 4 x 4 matrix that a placement is: about z, then y, then x, then moved."""
    x0, y0, z0, *angles = place
    z, y, x = np.radians(np.array(angles[:3]) + (np.array(angles[3:]) if do_tilt else 0))
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    whole = np.eye(4)
    whole[:3, :3] = np.array(about_x) @ about_y @ about_z
    whole[:3, 3] = x0, y0, z0
    return whole


@settings(deadline=None, max_examples=60)
@given(PLACE, PLACE, PLACE, st.booleans())
def test_nested_objects_stand_where_the_product_of_their_matrices_puts_them(
    panel: tuple[float, ...], box: tuple[float, ...], rail: tuple[float, ...], do_tilt: bool
) -> None:
    rail = (*rail[:2], -abs(rail[2]), *rail[3:])
    geometry = Geometry(
        [
            Placement("BOX", 0, "MTRX:V2:3:4:100:50", 0, *panel),
            Placement("RAIL", 0, "BOX", 0, *box),
            Placement("IP", 0, "RAIL", 0, *rail),
        ]
    )
    local = [axis.ravel() for axis in segment_class("MTRX:V2:3:4:100:50").coords()]
    whole = matrix(rail, do_tilt) @ matrix(box, do_tilt) @ matrix(panel, do_tilt)
    expected = (whole @ [*local, np.ones(12)])[:3].reshape(3, 1, 3, 4)
    np.testing.assert_allclose(geometry.pixel_coords(do_tilt=do_tilt), expected, atol=1e-3)
    x, y, z = geometry.pixel_coords(do_tilt=do_tilt, cframe=1)
    np.testing.assert_allclose([-y, -x, -z], expected, atol=1e-3)


def test_branches_may_carry_different_numbers_of_panels() -> None:
    panels = [("A", 0, 0), ("A", 1, 10), ("B", 0, 20), ("IP", 9, 30)]
    placements = [Placement(name, 0, "MTRX:2:3:1:1", index, x0=x0) for name, index, x0 in panels]
    placements += [Placement("IP", 0, name, 0) for name in "BA"]
    x, _, _ = Geometry(placements).pixel_coords()
    assert list(x[:, 0, 0]) == [30, 20, 0, 10]  # the top's children by line: the panel, B, A


def test_pixels_are_projected_along_the_way_from_the_interaction_point() -> None:
    geometry = Geometry.from_panels("MTRX:V2:1:2:100:100", [(50, 0, 0), (50, 0, -10000)], distance_um=10000)
    x, y = geometry.pixel_xy_at_z(-10000.0)
    np.testing.assert_allclose(x, [[[0, 100]], [[0, 50]]], atol=1e-9)
    assert not y.any()
    np.testing.assert_allclose(geometry.pixel_xy_at_z()[0], [[[0, 150]], [[0, 75]]], atol=1e-9)
    np.testing.assert_allclose(geometry.pixel_xy_at_z(segments=[1])[0], [[[0, 75]]], atol=1e-9)
    at_sample = geometry.moved("DETECTOR", 0, z0=0.0).moved("MTRX:V2:1:2:100:100", 1, z0=0.0)
    np.testing.assert_allclose(at_sample.pixel_xy_at_z()[0][1], [[0, 100]], atol=1e-9)


def test_some_segments_are_picked_by_number_in_their_order() -> None:
    geometry = Geometry.default_for("epix10ka", 4)
    x, y, z = geometry.pixel_coords()
    some = geometry.pixel_coords(segments=[3, 1])
    assert all(np.array_equal(part, axis[[3, 1]]) for part, axis in zip(some, (x, y, z), strict=True))
    rows, _ = geometry.pixel_indexes(segments=np.array([3, 1]))
    np.testing.assert_array_equal(rows, geometry.pixel_indexes()[0][[3, 1]])
    assert geometry.pixel_areas(segments=[2]).shape == (1, 352, 384)
    assert geometry.pixel_mask(segments=[2], width=1).shape == (1, 352, 384)


@pytest.mark.parametrize("segments", [[4], [-1], [0, 0], []])
def test_segments_that_are_not_there_are_told(segments: list[int]) -> None:
    with pytest.raises(GeometryError, match=r"segments \[.*\] of a geometry of 4 panels"):
        Geometry.default_for("epix10ka", 4).pixel_coords(segments=segments)


def test_place_of_a_point_in_the_image_is_that_of_the_pixel_there() -> None:
    geometry = Geometry.default_for("epix10ka", 4)
    x, y, _ = geometry.pixel_coords()
    rows, cols = geometry.pixel_indexes(pix_scale_size_um=50, xy0_off_pix=(3, 4))
    row, col = geometry.image_place(x[2, 30, 40], y[2, 30, 40], pix_scale_size_um=50, xy0_off_pix=(3, 4))
    assert (int(row), int(col)) == (rows[2, 30, 40], cols[2, 30, 40])
    assert geometry.image_place(-1e6, 0)[0] < 0


def test_geometry_of_panels_puts_them_where_it_was_told() -> None:
    panels = [(0, 0, 0), (200, -50.5, 3, 90), (0, 1000, 0, 0, 0, 0, 0.125)]
    geometry = Geometry.from_panels("MTRX:2:3:10:10", panels, distance_um=5e4, comments=["the truth"])
    x, y, z = geometry.pixel_coords()
    assert (x[0, 1, 2], y[0, 1, 2], z[0, 1, 2]) == (10, 20, -5e4)
    np.testing.assert_allclose((x[1, 1, 2], y[1, 1, 2], z[1, 1, 2]), (180, -40.5, -49997))
    again = Geometry.from_text(geometry.text())
    assert again.placements == geometry.placements
    assert again.comments[0] == "the truth"
