"""`calib dark` and `calib show`: from files to a store and to pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calib import Constant, DetectorId
from calib.cli import main
from calib.store import open_store, read_archive, write_archive
from xtc import Alg, DataType, Field, Names, Reader, TransitionId, encode_dgram, encode_shapes_data

SHAPE = (40, 50)
EVENTS = 8
SERIALS = ("opal-7", "opal-9")


def write_dark(path: Path, serials: tuple[str, ...] = SERIALS, run: int = 7) -> Path:
    """Write a dark run of a camera whose type nobody knows, a step of EVENTS frames."""
    raw = [
        Names(
            1 << 8 | at,
            "opal",
            "cam",
            serial,
            at,
            Alg("raw", (1, 0, 0)),
            (Field("image", DataType.UINT16, 2),),
        )
        for at, serial in enumerate(serials)
    ]
    info_fields = (Field("expt", DataType.CHARSTR, 1), Field("runnum", DataType.UINT32))
    info = Names(1 << 8 | 99, "runinfo", "runinfo", "", 0, Alg("runinfo", (0, 0, 1)), info_fields)
    rng = np.random.default_rng(5)
    dgrams = [
        encode_dgram(TransitionId.Configure, 1, [one.encode() for one in (*raw, info)]),
        encode_dgram(TransitionId.BeginRun, 2, [encode_shapes_data(info, ("tst00123", run))]),
        encode_dgram(TransitionId.BeginStep, 3),
        encode_dgram(TransitionId.Enable, 4),
    ]
    for event in range(EVENTS):
        frames = [
            rng.normal(100 + 100 * at, 3, SHAPE).round().astype(np.uint16) for at in range(len(serials))
        ]
        parts = [encode_shapes_data(names, (frame,)) for names, frame in zip(raw, frames, strict=True)]
        dgrams.append(encode_dgram(TransitionId.L1Accept, 5 + event, parts))
    ends = (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun)
    dgrams += [encode_dgram(one, 100 + at) for at, one in enumerate(ends)]
    path.write_bytes(b"".join(dgrams))
    return path


def test_a_dark_run_goes_to_the_store_and_is_found_by_its_panels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = write_dark(tmp_path / "dark.xtc2"), tmp_path / "c.db"
    assert main(["dark", str(path), "--put", "--store", str(store)]) == 1
    assert "8 frames, fewer than 20" in capsys.readouterr().err
    assert not store.exists()
    assert main(["dark", str(path), "--put", "--force", "--store", str(store)]) == 0
    said = capsys.readouterr().out
    assert "cam (opal), 2 panels, tst00123 run 7" in said
    assert "panel 1 all         8 frames  pedestal " in said
    with open_store(str(store)) as opened:
        found = opened.find(DetectorId("cam", "opal", SERIALS[::-1]), "tst00123", 8)
        assert set(found) == {"pedestals", "pixel_rms", "pixel_status"}
        assert [round(float(one.mean()), -1) for one in np.asarray(found["pedestals"].value)] == [200, 100]
        assert (found["pedestals"].experiment, found["pedestals"].run) == ("tst00123", 7)
        assert found["pedestals"].comment == "dark run dark.xtc2"


def test_an_archive_holds_the_same_and_can_be_imported(tmp_path: Path) -> None:
    path, archive, store = write_dark(tmp_path / "dark.xtc2"), tmp_path / "dark.zip", tmp_path / "c.db"
    arguments = ["--run", "20-30", "--experiment", "", "--label", "v1", "--comment", "by hand"]
    assert main(["dark", str(path), "-o", str(archive), *arguments]) == 0
    with archive.open("rb") as file:
        items = list(read_archive(file, "here"))
    assert {one.ctype for _, one in items} == {"pedestals", "pixel_rms", "pixel_status"}
    for detector, one in items:
        assert (detector, one.serials) == (DetectorId("cam", "opal", SERIALS), SERIALS)
        told = (one.run, one.run_end, one.experiment, one.version, one.comment)
        assert told == (20, 30, "", "v1", "by hand")
    assert main(["import", str(archive), "--store", str(store)]) == 0


def test_panels_of_two_processes_become_one_detector(tmp_path: Path) -> None:
    files = [write_dark(tmp_path / f"{at}.xtc2", (serial,)) for at, serial in enumerate("ab")]
    archive = tmp_path / "dark.zip"
    assert main(["dark", *map(str, files), "-o", str(archive)]) == 0
    with archive.open("rb") as file:
        assert {one.serials for _, one in read_archive(file, "here")} == {("a", "b")}


def test_constants_of_a_type_that_is_not_known_must_have_the_frames_rows_and_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = write_dark(tmp_path / "dark.xtc2"), tmp_path / "c.db"
    put = ["put", "cam", "--run", "1", "--from-config", str(path), "--store", str(store), "pedestals"]
    for shape, said in (
        ((2, *SHAPE[::-1]), "Rows and columns are exchanged"),
        ((2, 40, 49), "a frame of cam has 40 rows and 50 columns"),
    ):
        np.save(tmp_path / "wrong.npy", np.ones(shape))
        assert main([*put, str(tmp_path / "wrong.npy")]) == 1
        assert said in capsys.readouterr().err
    np.save(tmp_path / "right.npy", np.ones((2, *SHAPE)))
    assert main([*put, str(tmp_path / "right.npy")]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "-o FILE, or --put"),
        (["--put", "--store", "http://127.0.0.1:1"], "calib import"),
        (["-o", "out.zip", "--detector", "jungfrau"], "There are: cam"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_dark(tmp_path / "dark.xtc2")
    assert main(["dark", str(path), *arguments]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 1000, b"", b"just a few words", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'" + bytes(4000)],
)
def test_a_file_that_is_no_xtc2_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path, whole = tmp_path / "nonsense.xtc2", write_dark(tmp_path / "dark.xtc2")
    path.write_bytes(content)
    put = ["put", "cam", "pedestals", str(path), "--run", "1", "--from-config", str(path)]
    for words in (["dark", str(path)], ["dark", str(whole), str(path)], put):
        assert main([*words, *(["-o", str(tmp_path / "x.zip")] if words[0] == "dark" else [])]) == 1
        assert f"calib: {path}" in capsys.readouterr().err


def test_a_run_without_its_configure_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_dark(tmp_path / "dark.xtc2")
    configure = next(iter(Reader(path)))
    path.write_bytes(path.read_bytes()[configure.size :])
    assert main(["dark", str(path), "-o", str(tmp_path / "x.zip")]) == 1
    assert "first chunk" in capsys.readouterr().err


def test_pictures_are_drawn_of_an_archive_and_of_a_store(tmp_path: Path) -> None:
    path, archive, store = write_dark(tmp_path / "dark.xtc2"), tmp_path / "dark.zip", tmp_path / "c.db"
    assert main(["dark", str(path), "-o", str(archive), "--put", "--force", "--store", str(store)]) == 0
    assert main(["show", str(archive), "-o", str(tmp_path / "a")]) == 0
    names = ["pedestals", "pixel_rms", "pixel_status"]
    pictures = sorted((tmp_path / "a").iterdir())
    assert [one.name for one in pictures] == [f"cam-{name}-r0007.png" for name in names]
    assert all(one.read_bytes().startswith(b"\x89PNG") for one in pictures)
    place = ["--from-config", str(path), "--store", str(store), "-o", str(tmp_path / "b")]
    assert main(["show", "cam", "pedestals", *place]) == 0
    assert [one.name for one in (tmp_path / "b").iterdir()] == ["cam-pedestals-r0007.png"]


def test_pictures_of_several_constants_do_not_overwrite_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [np.full((1, 8, 9), value, np.float32) for value in (1, 2)]
    detector, archive = DetectorId("cam", "opal", ("s",)), tmp_path / "some.zip"
    some = [
        Constant.make("pedestals", value, ("s",), run=7, experiment=experiment)
        for value in values
        for experiment in ("a", "b")
    ]
    some.append(Constant.make("pixel_rms", values[0], ("s",), run=7))
    with archive.open("wb") as file:
        write_archive(file, [(detector, one) for one in some])
    assert main(["show", str(archive), "-o", str(tmp_path / "p")]) == 0
    expected = {
        "cam-pixel_rms-r0007.png",
        *(f"cam-pedestals-r0007-{one.digest[:12]}.png" for one in some[:4]),
    }
    assert {one.name for one in (tmp_path / "p").iterdir()} == expected
    assert len(expected) == 3
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_range_that_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    value = np.full((3, 1, 512, 1024), np.nan, np.float32)
    value[1] = 5
    archive = tmp_path / "one.zip"
    with archive.open("wb") as file:
        detector = DetectorId("jungfrau", "jungfrau", ("s",))
        write_archive(file, [(detector, Constant.make("pedestals", value, ("s",), run=1))])
    assert main(["show", str(archive), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "jungfrau-pedestals-r0001.png").exists()


def test_one_panel_without_a_panel_axis_is_drawn(tmp_path: Path) -> None:
    archive = tmp_path / "one.zip"
    with archive.open("wb") as file:
        one = Constant.make("pedestals", np.arange(72.0).reshape(8, 9), ("s",), run=1)
        write_archive(file, [(DetectorId("cam", "opal", ("s",)), one)])
    assert main(["show", str(archive), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "cam-pedestals-r0001.png").exists()


def test_nothing_to_draw_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "geometry.zip"
    with archive.open("wb") as file:
        write_archive(file, [(DetectorId("cam", "opal", ("s",)), Constant.make("geometry", "text", run=1))])
    assert main(["show", str(archive), "-o", str(tmp_path)]) == 1
    assert "nothing to draw" in capsys.readouterr().err
