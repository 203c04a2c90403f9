"""Images: the kernels beside a twin that a physicist can read, plans that are passed on, and what does not fit.

Images of real and random frames are compared with real psana's in tests/real/test_geometry_psana.py.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import GeometryError
from calib.geometry import Geometry, ImagePlan, InterpolationPlan, _kernels, warm_up
from tests.conftest import ROOT

Image = npt.NDArray[np.float32]
VALUES = st.floats(-100, 100, width=32) | st.just(float("nan"))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile outside of the tests' own time."""
    warm_up()


def twin(
    rows: npt.NDArray[Any],
    cols: npt.NDArray[Any],
    data: Image,
    shape: tuple[int, int],
    mapmode: int,
    vbase: float,
) -> Image:
    """Draw an image pixel by pixel, holes left as they are."""
    heaps: dict[tuple[int, int], list[np.float32]] = {}
    for row, col, value in zip(rows.ravel(), cols.ravel(), data.ravel(), strict=True):
        heaps.setdefault((int(row), int(col)), []).append(value)
    image = np.full(shape, vbase, np.float32)
    for place, values in heaps.items():
        if mapmode == 2 and len(values) > 1:
            image[place] = max(values[-1], *values[:-1])
        elif mapmode == 3:
            image[place] = sum(values, start=np.float32(0)) / len(values)
        else:
            image[place] = values[-1]
    return image


def filled(image: Image, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> Image:
    """Fill holes: empty bins whose neighbours in the image have pixels."""
    busy = np.zeros(image.shape, bool)
    busy[rows, cols] = True
    answer = image.copy()
    for row, col in np.argwhere(~busy):
        around = [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
        inside = [at for at in around if 0 <= at[0] < image.shape[0] and 0 <= at[1] < image.shape[1]]
        if inside and all(busy[at] for at in inside):
            answer[row, col] = np.min([image[at] for at in inside])
    return answer


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_images_are_drawn_as_the_twin_draws_them(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)))
    count = data.draw(st.integers(1, 40))
    rows = np.array(
        data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=count, max_size=count)), np.int32
    )
    cols = np.array(
        data.draw(st.lists(st.integers(0, shape[1] - 1), min_size=count, max_size=count)), np.int32
    )
    values = np.array(data.draw(st.lists(VALUES, min_size=count, max_size=count)), np.float32)
    vbase = data.draw(st.sampled_from([0.0, -7.5]))
    plan = ImagePlan.of_indexes(rows, cols, shape)
    for mapmode in (1, 2, 3):
        expected = twin(rows, cols, values, shape, mapmode, vbase)
        bare = plan.apply(values, mapmode=mapmode, fillholes=False, vbase=vbase)
        np.testing.assert_array_equal(bare, expected)
        whole = plan.apply(values, mapmode=mapmode, vbase=vbase)
        np.testing.assert_array_equal(whole, filled(expected, rows, cols))
    entries = np.zeros(shape, int)
    np.add.at(entries, (rows, cols), 1)
    np.testing.assert_array_equal(plan.entries(), entries)


def frame(geometry: Geometry) -> Image:
    """Return data with a different value in each pixel."""
    return np.random.default_rng(5).normal(10, 20, geometry.shape).astype(np.float32)


def small() -> Geometry:
    """Return three panels: two that overlap, and one that is turned."""
    panels = [(0, 0, 0), (900, 300, 0), (-1500, 0, 0, 33.0)]
    return Geometry.from_panels("MTRX:V2:12:16:100:100", panels, distance_um=10000, rot_z=90)


def test_plans_are_passed_on_as_arrays() -> None:
    geometry = small()
    data = frame(geometry)
    again = ImagePlan.from_arrays({name: array.copy() for name, array in geometry.plan().arrays().items()})
    for mapmode in (1, 2, 3):
        np.testing.assert_array_equal(
            again.apply(data, mapmode=mapmode), geometry.image(data, mapmode=mapmode)
        )
    between = InterpolationPlan.from_arrays(geometry.interpolation_plan().arrays())
    np.testing.assert_array_equal(between.apply(data), geometry.image(data, mapmode=4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bins", np.full(576, 10**6)),
        ("bins", np.full(576, -1)),
        ("merged_bins", np.array([0])),
        ("merged_starts", np.array([0, 0])),
        ("merged_pixels", np.array([576])),
        ("holes", np.array([0])),
        ("rows", np.array(0)),
    ],
)
def test_plans_that_lead_outside_are_refused(name: str, value: npt.NDArray[Any]) -> None:
    arrays = small().plan().arrays()
    with pytest.raises(GeometryError, match="does not fit itself"):
        ImagePlan.from_arrays(arrays | {name: value})


def test_plans_that_are_not_whole_are_refused() -> None:
    arrays = small().plan().arrays()
    del arrays["holes"]
    with pytest.raises(GeometryError, match="without 'holes'"):
        ImagePlan.from_arrays(arrays)
    between = small().interpolation_plan().arrays()
    with pytest.raises(GeometryError, match="does not fit itself"):
        InterpolationPlan.from_arrays(between | {"pixels": np.array(575)})
    with pytest.raises(GeometryError, match="without 'down'"):
        InterpolationPlan.from_arrays({name: array for name, array in between.items() if name != "down"})


def test_plans_are_kept_but_not_all() -> None:
    geometry = small()
    first = geometry.plan()
    assert geometry.plan(xy0_off_pix=(0, 0)) is first
    assert geometry.plan(xy0_off_pix=[-3, 0]) is first  # type: ignore[arg-type]
    others = [geometry.plan(segments=[number]) for number in range(3)]
    assert geometry.plan() is first
    assert geometry.plan(segments=(2,)) is others[2]
    geometry.plan(pix_scale_size_um=90)
    assert geometry.plan() is not first


def test_absent_segments_leave_their_place_empty_or_get_a_value() -> None:
    geometry = small()
    data = frame(geometry)
    image = geometry.image(data[[2, 0]], segments=[2, 0], vbase=-1)
    whole = np.full_like(data, np.nan)
    whole[[2, 0]] = data[[2, 0]]
    entries = geometry.image(data[[1]], segments=[1], mapmode=0)
    assert image.shape == entries.shape == geometry.image(data).shape
    given = geometry.image(data[[2, 0]], segments=[2, 0], value_for_missing_segments=7, mapmode=2)
    whole[1] = 7
    np.testing.assert_array_equal(given, geometry.image(whole, mapmode=2))
    alone = (geometry.image(data, mapmode=0) == 1) & (entries == 1)
    assert (image[alone] == -1).all()
    assert (given[alone] == 7).all()


@pytest.mark.parametrize("cframe", [0, 1])
def test_interpolation_of_a_plane_is_that_plane(cframe: int) -> None:
    geometry = small()
    x, y, _ = geometry.pixel_coords(cframe=cframe)
    image = geometry.image(2 * x - 3 * y + 5, mapmode=4, vbase=np.nan, cframe=cframe)
    rows, cols = np.nonzero(~np.isnan(image))
    assert rows.size > 350
    scale = geometry.segment.scale_um
    start = geometry.image_place(0, 0, cframe=cframe)
    down, across = (rows + 0.5 - start[0]) * scale, (cols + 0.5 - start[1]) * scale
    bin_x, bin_y = (across, -down) if cframe else (down, across)
    off = np.abs(image[rows, cols] - (2 * bin_x - 3 * bin_y + 5))
    assert (off < 0.01).mean() > 0.75  # inside of the outermost centres
    assert off.max() < 5 * scale  # at most half a pixel of each slope beyond


def test_interpolation_of_a_panel_on_the_grid_is_the_panel() -> None:
    geometry = Geometry.default_for("epixm320", 4)
    data = frame(geometry)
    np.testing.assert_allclose(geometry.image(data, mapmode=4), geometry.image(data), atol=1e-3)


@pytest.mark.parametrize("dettype", ["jungfrau", "epixhr1x4", "epix10ka", "epixuhr3x2", "epix100"])
def test_interpolation_bridges_the_gaps_between_asics(dettype: str) -> None:
    geometry = Geometry.default_for(dettype, 1)
    ones = np.ones(geometry.shape, np.float32)
    image = geometry.image(ones, mapmode=4)
    entries = geometry.image(ones, mapmode=0)
    assert set(np.unique(image)) <= {np.float32(0), np.float32(1)}
    assert image[entries > 0].mean() > 0.99
    assert image.sum() >= entries[entries > 0].size * 0.99


def test_panels_of_one_row_or_column_are_interpolated_too() -> None:
    for name in ("MTRX:V2:1:9:100:100", "MTRX:9:1:100:100", "MTRX:V2:1:1:100:100"):
        geometry = Geometry.from_panels(name, [(0, 0, 0)])
        data = frame(geometry)
        np.testing.assert_allclose(geometry.image(data, mapmode=4), geometry.image(data), atol=1e-4)


def test_panel_seen_from_its_side_has_no_image_to_interpolate() -> None:
    geometry = Geometry.from_panels("MTRX:V2:4:4:100:100", [(0, 0, 0, 0, 90)])
    with pytest.raises(GeometryError, match="seen from its side"):
        geometry.image(frame(geometry), mapmode=4)
    assert geometry.image(frame(geometry)).shape[0] == 1


def test_image_goes_where_it_is_told() -> None:
    geometry = small()
    data = frame(geometry)
    expected = geometry.image(data)
    out = np.empty(expected.shape, np.float32)
    for mapmode in (1, 4):
        assert geometry.image(data, mapmode=mapmode, out=out) is out
        np.testing.assert_array_equal(out, geometry.image(data, mapmode=mapmode))
    for wrong in (out.T, out.astype(np.float64), out[:-1], np.empty((200, 200), np.float32)[:100, :100]):
        with pytest.raises(GeometryError, match="cannot be drawn in out"):
            geometry.image(data, out=wrong)
    out.flags.writeable = False
    with pytest.raises(GeometryError, match="cannot be drawn in out"):
        geometry.image(data, out=out)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, np.bool_])
def test_data_of_any_real_dtype_are_drawn_as_float32(dtype: type) -> None:
    geometry = small()
    data = (frame(geometry) > 5).astype(dtype)
    image = geometry.image(data)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, geometry.image(data.astype(np.float32)))


def test_no_kernel_is_compiled_after_the_warm_up() -> None:
    kernels = (_kernels.draw, _kernels.merge, _kernels.fill, _kernels.interpolate)
    before = [len(kernel.signatures) for kernel in kernels]
    geometry = small()
    data = frame(geometry)
    locked = data.copy()
    locked.flags.writeable = False
    for pixels in (data, locked, data.astype(np.uint16), data[:, ::-1], data.reshape(-1)):
        for mapmode in range(5):
            geometry.image(pixels, mapmode=mapmode, vbase=np.float64(1))
    assert [len(kernel.signatures) for kernel in kernels] == before == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mapmode": 5}, "there is no mapmode 5"),
        ({"pix_scale_size_um": 0}, "bins of 0.0 um"),
        ({"pix_scale_size_um": float("nan")}, "bins of nan um"),
        ({"xy0_off_pix": (float("inf"), 0)}, "moved by inf"),
        ({"pix_scale_size_um": 0.01}, "an image of"),
        ({"segments": [0, 1]}, "are no 384 pixels"),
        ({"segments": [0, 1], "value_for_missing_segments": 0}, "are not of 2 panels"),
    ],
)
def test_what_cannot_be_drawn_is_told(options: dict[str, Any], said: str) -> None:
    geometry = small()
    with pytest.raises(GeometryError, match=said):
        geometry.image(frame(geometry), **options)


def test_examples_of_the_page_on_geometry_run() -> None:
    page = (ROOT / "docs" / "geometry.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, {})
