"""The geometry text: what is read, what is written, and what is said of lines that are wrong."""

import pickle
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import GeometryError
from calib.geometry import Geometry, GeometryTextError, Placement, segment_class
from calib.geometry.text import MOST_OBJECTS, MOST_TEXT_BYTES, parse, write

QUAD = """
# TITLE   a quad
# DATE_TIME 2026-11-21
#
CAMERA  0  EPIX10KA:V1  0   20248  -20908  -60   0 0 0  -0.26706 -0.26778 0.06324
CAMERA  0  EPIX10KA:V1  1  -20144  -20823   10   0 0 0  -0.00289 -0.00361 0.25845
IP      0  CAMERA       0   0   0   1e5  90 0 0   0 0 0
"""
NUMBER = st.floats(-1e9, 1e9, allow_nan=False) | st.integers(-1000, 1000).map(float)
NAME = st.from_regex(r"[A-Za-z0-9:_.][A-Za-z0-9:_.#-]{0,10}", fullmatch=True)
PLACEMENTS = st.builds(Placement, NAME, st.integers(0, 9999), NAME, st.integers(0, 9999), *[NUMBER] * 9)
COMMENT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)


def problems_of(text: str) -> list[str]:
    """Return all that is wrong with a text, without hints."""
    with pytest.raises(GeometryTextError) as caught:
        Geometry.from_text(text, where="here.data")
    return [f"{problem.line}: {problem.what}" for problem in caught.value.problems]


def test_objects_and_comments_are_read() -> None:
    geometry = Geometry.from_text(QUAD)
    assert geometry.shape == (2, 352, 384)
    assert geometry.comments == ("TITLE   a quad", "DATE_TIME 2026-11-21", "")
    first = geometry.placements[0]
    assert astuple(first)[:7] == ("CAMERA", 0, "EPIX10KA:V1", 0, 20248.0, -20908.0, -60.0)
    assert astuple(first)[7:] == (0.0, 0.0, 0.0, -0.26706, -0.26778, 0.06324)


def test_distance_behind_the_interaction_point_is_against_the_beam() -> None:
    assert Geometry.from_text(QUAD).placements[-1].z0 == -1e5
    assert Geometry.from_text(QUAD.replace("1e5", "-1e5")).placements[-1].z0 == -1e5


@settings(deadline=None)
@given(st.lists(PLACEMENTS, min_size=1, max_size=8), st.lists(COMMENT, max_size=3))
def test_what_is_written_is_read_back_exactly(placements: list[Placement], comments: list[str]) -> None:
    comments = [comment.lstrip("#") for comment in comments]
    parsed, problems = parse(write(placements, comments))
    assert problems == []
    assert parsed.placements == tuple(placements)
    assert parsed.comments[: len(comments)] == tuple(comments)


def test_written_twice_is_written_the_same() -> None:
    once = Geometry.from_text(QUAD).text()
    assert Geometry.from_text(once).text() == once


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from([*QUAD.split(), "\n", "MTRX:", "nan", "-1", "9" * 400])).map(" ".join)
)
def test_no_text_ends_in_anything_but_a_geometry_or_its_error(text: str) -> None:
    try:
        Geometry.from_text(text)
    except GeometryError as error:
        assert str(error)


def test_every_wrong_line_is_told_at_once() -> None:
    text = """# a comment
IP 0 CAMERA 0 0 0 0 0 0 0 0 0
CAMERA x EPIX10KA:V1 0 0 0 0 0 0 0 0 0 0
CAMERA 0 EPIX10KA:V1 -1 0 0 0 0 0 0 0 0 0
CAMERA 0 EPIX10KA:V1 0 0 1_0 0 0 0 0 0 0 0
CAMERA 0 EPIX10KA:V1 0 0 0 0 0 nan 0 0 0 0
CAMERA 0 EPIX10KA:V1 0 0 0 0 0 0 0 0 0 1e10
"""
    assert problems_of(text) == [
        "2: 12 fields where there are 13",
        "3: the index of PARENT is 'x'",
        "4: the index of OBJECT is '-1'",
        "5: Y0 is '1_0'",
        "6: ROT-Y is 'nan'",
        "7: TILT-X is '1e10'",
    ]


def test_one_wrong_line_is_named_by_file_and_line_with_a_hint() -> None:
    with pytest.raises(GeometryTextError) as caught:
        Geometry.from_text(QUAD.replace("EPIX10KA:V1  1", "EPIX10K:V1  1"), where="here.data")
    assert (
        str(caught.value)
        == "here.data:6: there is no panel class 'EPIX10K:V1'. Did you mean EPIX10KA:V1 or EPIX100:V1 or EPIXHR1X4:V1?"
    )


def test_error_says_the_first_problems_and_how_many_more_and_survives_pickling() -> None:
    with pytest.raises(GeometryTextError) as caught:
        Geometry.from_text("a\nb\nc\nd\ne\n", where="here.data")
    assert str(caught.value).startswith("here.data: 5 problems: line 1: 1 fields where there are 13")
    assert str(caught.value).endswith("and 2 more")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def line(parent: str, name: str, index: int = 0, parent_index: int = 0) -> str:
    """Return a line that places an object at 0."""
    return f"{parent} {parent_index} {name} {index}" + " 0" * 9


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "0: a text without objects"),
        (["# only a comment"], "0: a text without objects"),
        ([line("A", "B"), line("B", "A")], "1: every object stands on another, in a circle"),
        (
            [line("IP", "PNCCD:V1"), line("A", "B"), line("B", "A")],
            "0: some objects stand on one another, in a circle",
        ),
        (
            [line("IP", "PNCCD:V1"), line("TABLE", "PNCCD:V1")],
            "2: parents that no line places: IP 0, TABLE 0",
        ),
        (
            [line("IP", "PNCCD:V1"), line("IP", "PNCCD:V1")],
            "2: PNCCD:V1 0 is there already, in line 1",
        ),
        (
            [line("IP", "A"), line("IP", "B"), line("A", "Q"), line("B", "Q"), line("Q", "PNCCD:V1")],
            "4: Q 0 is a parent, and is placed more than once (lines 3 and 4)",
        ),
        ([line("IP", "PNCCD:V1"), line("PNCCD:V1", "A")], "1: objects stand on the panel PNCCD:V1 0"),
        ([line("IP", "MTRX:V2:8:8:50")], "1: panel class 'MTRX:V2:8:8:50' cannot be read"),
        ([line("IP", "MTRX:8:0:50:50")], "1: panel class 'MTRX:8:0:50:50' has 8 x 0 pixels"),
        ([line("IP", "MTRX:8:8:50:nan")], "1: panel class 'MTRX:8:8:50:nan' has pixels of no size"),
        ([line("IP", "NOBODY")], "1: there is no panel class 'NOBODY'"),
        (
            [line("IP", "PNCCD:V1"), line("IP", "EPIX100:V1")],
            "0: panels PNCCD:V1 of (512, 512) and EPIX100:V1 of (704, 768) are mixed",
        ),
        (
            [line("IP", "MTRX:9999:9999:9:9")],
            "0: a detector of 99980001 pixels",
        ),
        (
            [line(f"T{level}", f"T{level + 1}") for level in range(33)],
            "33: T33 0 stands on 32 others",
        ),
    ],
)
def test_what_is_no_detector_is_refused(lines: list[str], expected: str) -> None:
    assert problems_of("\n".join(lines)) == [expected]


def test_texts_without_end_are_not_read() -> None:
    assert problems_of("#" * (MOST_TEXT_BYTES + 1))[0].startswith("0: a text of")
    many = "\n".join(line("IP", "PNCCD:V1", index) for index in range(MOST_OBJECTS + 1))
    assert problems_of(many) == [f"0: a text of {MOST_OBJECTS + 1} objects"]


@pytest.mark.parametrize(
    "placement",
    [
        Placement("IP", 0, "A B", 0),
        Placement("", 0, "A", 0),
        Placement("#IP", 0, "A", 0),
        Placement("IP", -1, "A", 0),
        Placement("IP", 0, "A", 0, x0=float("nan")),
        Placement("IP", 0, "A", 0, tilt_x=1e10),
    ],
)
def test_what_could_not_be_read_back_is_not_written(placement: Placement) -> None:
    with pytest.raises(GeometryError):
        write([placement])


def test_files_are_read_and_missing_ones_told(tmp_path: Path) -> None:
    path = tmp_path / "geometry.data"
    path.write_text(QUAD)
    assert Geometry.from_file(path).shape == (2, 352, 384)
    with pytest.raises(GeometryError, match=r"nothing\.data: No such file"):
        Geometry.from_file(tmp_path / "nothing.data")


def test_objects_are_moved_without_changing_the_geometry() -> None:
    geometry = Geometry.from_text(QUAD)
    moved = geometry.moved("CAMERA", 0, x0=5.0, tilt_z=0.25)
    assert (moved.placements[-1].x0, moved.placements[-1].tilt_z, geometry.placements[-1].x0) == (
        5.0,
        0.25,
        0.0,
    )
    with pytest.raises(GeometryError, match="there is no object CAMERA 1"):
        geometry.moved("CAMERA", 1, x0=5.0)
    with pytest.raises(GeometryError, match="an object has no x"):
        geometry.moved("CAMERA", 0, x=5.0)


def test_panels_in_any_order_are_numbered_by_line() -> None:
    geometry = Geometry.from_text("\n".join([line("IP", "PNCCD:V1", 7), line("IP", "MTRX:512:512:50:50", 3)]))
    assert geometry.segment_names == ("PNCCD:V1", "MTRX:512:512:50:50")


def test_segment_class_of_unknown_name_lists_the_known() -> None:
    with pytest.raises(GeometryError, match=r"Known are JUNGFRAU:V1, .* and MTRX"):
        segment_class("XYZ")
