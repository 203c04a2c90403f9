"""The `calib` command: put, get, ls, history, rm, export, import."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from calib_command import served

from calib import Constant, DetectorId
from calib.cli import main
from calib.service.documents import OF_DETECTOR, object_id
from calib.store import open_store

pytestmark = pytest.mark.timeout(60)

PIXELS = np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder with files to put, and a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRP_CALIB", str(tmp_path / "calib.sqlite"))
    np.save("dark.npy", PIXELS)
    Path("geometry.txt").write_text("IP 0 \u00e9\n")
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers


def put(*words: str) -> int:
    return main(["put", "cam", "pedestals", "dark.npy", "--type", "opal", "--serials", "a,b", *words])


def test_what_is_put_is_got(capsys: pytest.CaptureFixture[str]) -> None:
    assert put("--run", "10", "--experiment", "exp", "--comment", "cold") == 0
    assert "cam pedestals of exp, run 10- (id 1)" in capsys.readouterr().out
    assert main(["get", "cam", "pedestals", "--run", "12", "--experiment", "exp", "-o", "back.npy"]) == 0
    assert np.array_equal(np.load("back.npy"), PIXELS)
    assert (
        main(["get", "cam", "pedestals", "--run", "12", "--type", "opal", "--serials", "b", "-o", "b.npy"])
        == 0
    )
    assert np.array_equal(np.load("b.npy"), PIXELS[:, 1:])
    assert main(["get", "cam", "pedestals"]) == 0
    said = capsys.readouterr().out
    assert "float32 (3, 2, 4, 5), 0 to 119, mean 59.5" in said
    assert "cold" in said


def test_a_geometry_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    put = ["put", "cam", "geometry", "geometry.txt", "--serials", "a,b", "--run", "0"]
    assert main(put) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*put, "--force"]) == 0
    assert main(["get", "cam", "geometry", "--type", "cam", "-o", "back.txt"]) == 0
    assert Path("back.txt").read_text() == "IP 0 \u00e9\n"
    assert main(["get", "cam", "geometry"]) == 0
    assert "IP 0 \u00e9" in capsys.readouterr().out


def test_text_of_numbers_is_an_array_of_one_panel() -> None:
    np.savetxt("one.txt", PIXELS[0, 0])
    assert main(["put", "cam", "pixel_rms", "one.txt", "--serials", "a", "--run", "0"]) == 0
    assert main(["get", "cam", "pixel_rms", "-o", "back.npy"]) == 0
    assert np.array_equal(np.load("back.npy"), PIXELS[0, 0])


def test_serials_come_from_a_file(xtc2_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("quad.npy", np.ones((7, 4, 352, 384), np.float32))
    config = str(xtc2_data / "test_epix_calib.xtc2")
    assert main(["put", "epixquad", "pixel_gain", "quad.npy", "--run", "1-9", "--from-config", config]) == 0
    with open_store("calib.sqlite") as store:
        (record,) = store.history()
    assert record.detector.dettype == "epix10ka"
    assert (record.run, record.run_end) == (1, 9)
    assert record.panels[3].startswith("3926196238-0176373505-")
    assert main(["put", "nothing", "pixel_gain", "quad.npy", "--run", "1", "--from-config", config]) == 1
    assert "epixquadhw" in capsys.readouterr().err
    chunk = str(xtc2_data / "test_epix_calib.xtc2") + ".nowhere"
    assert main(["put", "epixquad", "pixel_gain", "quad.npy", "--run", "1", "--from-config", chunk]) == 1
    assert main(["put", "epixquad", "pixel_gain", "quad.npy", "--run", "1", "--from-config", "quad.npy"]) == 1


def test_what_does_not_fit_the_detector_is_not_put(
    xtc2_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("turned.npy", np.ones((7, 4, 384, 352), np.float32))
    np.save("one.npy", np.ones((352, 384), np.float32))
    quad = ["put", "epixquad", "pedestals", "--run", "1"]
    of_file = [*quad, "--from-config", str(xtc2_data / "test_epix_calib.xtc2")]
    by_hand = [*quad, "--type", "epix10ka", "--serials", "a"]
    for words, wanted in (
        ([*of_file, "turned.npy"], "needed is (7, 4, 352, 384) for 4 panels of epix10ka"),
        ([*by_hand, "one.npy"], "needed is (7, 1, 352, 384) for 1 panel of epix10ka"),
    ):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert wanted in said
        assert "--force" in said
        assert not Path("calib.sqlite").exists()
    assert main([*by_hand, "one.npy", "--force"]) == 0


def test_what_cannot_be_used_is_not_put_and_what_is_odd_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = PIXELS + 1
    pixels[2, 1] = np.nan
    pixels[0, 0, 0, :2] = np.inf
    np.save("dark.npy", pixels)
    assert put("--run", "1") == 1
    said = capsys.readouterr().err
    assert "20 values of 120 are NaN; 2 values of 120 are infinite" in said
    assert "panel 1, gain range 2, has 20 unusable pixels of 20" in said
    assert "--force" in said
    assert not Path("calib.sqlite").exists()
    assert put("--run", "1", "--force") == 0
    assert capsys.readouterr().err == ""
    np.save("dark.npy", np.where(np.isnan(pixels), 1, pixels))
    assert put("--run", "2") == 0
    assert capsys.readouterr().err == "calib: dark.npy: 2 values of 120 are infinite\n"


def test_a_put_that_fails_makes_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert put("--run", "1", "--experiment", "a/b") == 1
    assert "cannot be an experiment's name" in capsys.readouterr().err
    assert not Path("calib.sqlite").exists()


def test_a_type_that_is_not_known_is_told_unless_it_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["put", "cam", "pedestals", "dark.npy", "--run", "1", "--serials", "a,b"]
    assert main(plain) == 0
    assert "'cam' is no type that calib knows" in capsys.readouterr().err
    assert main([*plain, "--type", "cam"]) == 0
    assert capsys.readouterr().err == ""


def test_ls_and_history_show_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    open_store("calib.sqlite", create=True).close()
    for command in ("ls", "history"):
        assert main([command]) == 0
        assert capsys.readouterr().out == "nothing\n"
    put("--run", "10", "--experiment", "exp")
    put("--run", "20-30", "--label", "V2")
    capsys.readouterr()
    assert main(["ls"]) == 0
    said = capsys.readouterr().out
    assert "opal_000001  cam  2 panels: a, b" in said
    assert "2 put, newest id 2 590e3afb8075 float32 (3, 2, 4, 5), of -, exp" in said
    assert main(["history", "cam", "pedestals"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:6] == ["1", "cam", "opal_000001", "pedestals", "exp", "10-"]
    assert second.split()[:6] == ["2", "cam", "opal_000001", "pedestals", "-", "20-30"]
    assert second.endswith("V2")
    assert main(["history", "cam", "--experiment", "exp"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_a_drp_recorded_is_found_by_id_and_by_digest(capsys: pytest.CaptureFixture[str]) -> None:
    put("--run", "10")
    np.save("dark.npy", PIXELS + 1)
    put("--run", "20")
    with open_store("calib.sqlite") as store:
        first, second = store.history()
        found = store.find(DetectorId("cam", "opal", ("b",)), None, 20)["pedestals"]
    assert (found.id, found.put_digest) == (str(second.id), second.digest)
    assert found.digest != found.put_digest
    capsys.readouterr()
    assert main(["ls"]) == 0
    assert f"newest id 2 {second.digest[:12]} float32" in capsys.readouterr().out
    for asked in (
        ["--id", found.id],
        ["--id", object_id(second.created, OF_DETECTOR, second.id)],
        ["--digest", found.put_digest],
        ["--digest", found.put_digest[:12].upper()],
    ):
        assert main(["history", *asked]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.split()[0] == "2"
        assert second.digest[:12] in line.split()
    assert main(["history", "--id", "1", "--digest", second.digest]) == 0
    assert capsys.readouterr().out == "nothing\n"
    assert main(["history", "--digest", found.digest]) == 0
    captured = capsys.readouterr()
    assert captured.out == "nothing\n"
    assert "put_digest" in captured.err
    assert main(["get", "cam", "pedestals", "--type", "opal", "--serials", "b"]) == 0
    said = capsys.readouterr().out
    assert f"id 2, digest {found.digest}" in said
    assert second.digest in said
    assert first.digest not in said


def test_rm_removes_only_when_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    put("--run", "10")
    put("--run", "11")
    capsys.readouterr()
    assert main(["rm", "1"]) == 1
    said = capsys.readouterr().out
    assert "pedestals" in said
    assert "--yes" in said
    assert main(["rm", "1", "--yes"]) == 0
    assert main(["rm", "1", "--yes"]) == 1
    assert "calib history" in capsys.readouterr().err
    with open_store("calib.sqlite") as store:
        assert [record.id for record in store.history()] == [2]


def test_an_export_is_imported_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("--run", "10", "--experiment", "exp")
    put("--run", "11", "--experiment", "other")
    assert main(["export", "all.zip"]) == 0
    assert (
        main(["export", "one.zip", "--experiment", "exp", "--detector", "cam", "--ctype", "pedestals"]) == 0
    )
    assert main(["export", "two.zip", "--id", "2"]) == 0
    assert main(["export", "none.zip", "--experiment", "third"]) == 1
    assert not Path("none.zip").exists()
    monkeypatch.setenv("DRP_CALIB", "elsewhere.sqlite")
    capsys.readouterr()
    for file, new in (("one.zip", 1), ("all.zip", 1), ("two.zip", 0)):
        assert main(["import", file]) == 0
        assert f"{new} constants are new" in capsys.readouterr().out
    assert main(["get", "cam", "pedestals", "--experiment", "exp", "-o", "back.npy"]) == 0
    assert np.array_equal(np.load("back.npy"), PIXELS)
    assert main(["import", "dark.npy"]) == 1
    assert "no archive" in capsys.readouterr().err
    damaged = bytearray(Path("all.zip").read_bytes())
    damaged[300] ^= 1
    Path("damaged.zip").write_bytes(damaged)
    for file in ("dark.npy", "damaged.zip"):
        assert main(["import", file, "--store", "new.sqlite"]) == 1
        assert not Path("new.sqlite").exists()
    assert sorted(path.name for path in Path().iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["put", "cam", "pedestals", "dark.npy", "--run", "1"], 1, "--from-config"),
        (["put", "cam", "pedestal", "dark.npy", "--run", "1", "--serials", "a"], 1, "pedestals"),
        (["put", "cam", "pedestals", "nowhere.npy", "--run", "1", "--serials", "a"], 1, "nowhere.npy"),
        (["put", "cam", "pedestals", "geometry.txt", "--run", "1", "--serials", "a"], 1, "geometry.txt"),
        (["put", "cam", "pedestals", "bad.npy", "--run", "1", "--serials", "a"], 1, "bad.npy"),
        (["put", "cam", "pedestals", "object.npy", "--run", "1", "--serials", "a"], 1, "object.npy"),
        (["put", "cam", "geometry", "dark.npy", "--run", "1", "--serials", "a"], 1, "text"),
        (["put", "cam", "pedestals", "dark.npy", "--run", "1", "--serials", "a,b,c"], 1, "3 panels"),
        (["put", "cam", "pedestals", "dark.npy", "--run", "1", "--serials", "a,a"], 1, "'a'"),
        (["put", "cam", "pedestals", "dark.npy", "--run", "9-1", "--serials", "a,b"], 1, "range"),
        (["put", "cam", "pedestals", "dark.npy", "--run", "1", "--serials", ""], 2, "empty serial number"),
        (
            ["put", "cam", "pedestals", "dark.npy", "--run", "1", "--serials", "a,,b"],
            2,
            "empty serial number",
        ),
        (["put", "cam", "pedestals", "dark.npy", "--run", "x", "--serials", "a,b"], 2, "10-20"),
        (["put", "cam", "pedestals", "dark.npy", "--serials", "a,b"], 2, "--run"),
        (
            ["put", "cam", "pixel_rms", "empty.txt", "--run", "1", "--serials", "a"],
            1,
            "calib: empty.txt: it cannot be read",
        ),
        (
            ["put", "cam", "pedestals", "nowhere.npy", "--run", "1", "--serials", "a"],
            1,
            "calib: nowhere.npy: No such file",
        ),
        (["get", "cam", "pedestals"], 1, "no store"),
        (["get", "cam", "pedestals", "--run", "-1"], 2, "no number of a run"),
        (["export", "nowhere/all.zip", "--store", "full.sqlite"], 1, "nowhere/all.zip: it cannot be made"),
        (["get", "cam", "pedestals", "--store", "http://127.0.0.1:1"], 1, "short name"),
        (["ls", "--store", "http://127.0.0.1:1"], 1, "where the store is"),
        (
            [
                "put",
                "cam",
                "geometry",
                "geometry.txt",
                "--run",
                "1",
                "--serials",
                "a",
                "--force",
                "--store",
                "http://h",
            ],
            1,
            "--token-file",
        ),
        (["history", "cam", "nothing"], 1, "pedestals"),
        (["history", "--id", "x"], 2, "no id"),
        (["history", "--id", "6450604c037ab9e8b9dc63b4"], 2, "no id"),
        (["history", "--digest", "xyz"], 2, "no digest"),
        (["rm", "x"], 2, "ID"),
        (["serve"], 1, "no store"),
        ([], 2, "COMMAND"),
    ],
)
def test_what_cannot_be_done_says_why(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.npy").write_bytes(b"\x93NUMPY garbage")
    Path("empty.txt").touch()
    with open_store("full.sqlite", create=True) as store:
        store.put(DetectorId("cam", "opal", ("a",)), [Constant.make("geometry", "x")])
    with Path("object.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        file.write(b"cos\nsystem\n(S'touch owned'\ntR.")
    assert main(words) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert "Errno" not in captured.err
    assert not Path("owned").exists()


def test_nothing_found_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    put("--run", "10")
    assert main(["get", "cam", "pixel_rms"]) == 1
    assert "calib ls" in capsys.readouterr().err
    assert main(["get", "cam", "pedestals", "--type", "opal", "--serials", "a,c"]) == 1
    assert "'c'" in capsys.readouterr().err


def test_what_is_not_there_is_told_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    put("--run", "10")
    for words, said in (
        (["--run", "7"], "there is no constant geometry of cam for run 7. "),
        (
            ["--type", "opal", "--serials", "a"],
            "there is no constant geometry of cam (opal, 1 panel) for the latest run. ",
        ),
    ):
        assert main(["get", "cam", "geometry", *words]) == 1
        assert said in capsys.readouterr().err


def test_values_that_are_no_numbers_are_counted_and_not_part_of_the_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("dark.npy", np.where(PIXELS < 20, np.inf, PIXELS))
    put("--run", "1", "--force")
    assert main(["get", "cam", "pedestals"]) == 0
    assert "20 to 119, mean 69.5, 20 values NaN or infinite" in capsys.readouterr().out
    np.save("dark.npy", np.full_like(PIXELS, np.nan))
    put("--run", "2", "--force")
    assert main(["get", "cam", "pedestals"]) == 0
    assert "all NaN or infinite" in capsys.readouterr().out


def test_help_names_every_subcommand_and_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in ("put", "get", "ls", "history", "rm", "export", "import", "serve"):
        assert f"\n    {command} " in said
        assert main([command, "--help"]) == 0
    assert "pixel_status" in capsys.readouterr().out


def test_put_get_and_import_work_through_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    put("--run", "10", "--experiment", "exp")
    assert main(["export", "all.zip"]) == 0
    assert main(["rm", "1", "--yes"]) == 0
    who = ["--type", "opal", "--serials", "a,b"]
    with served(tmp_path, tmp_path / "calib.sqlite", "--token-file", tmp_path / "token") as one:
        there = ["--store", one.url]
        secret = ["--token-file", "token"]
        capsys.readouterr()
        assert main(["import", "all.zip", *there, *secret]) == 0
        assert "1 constants are new" in capsys.readouterr().out
        assert main(["put", "cam", "pixel_rms", "dark.npy", "--run", "5", *who, *there, *secret]) == 0
        assert "id 3 in http://" in capsys.readouterr().out
        assert main(["get", "cam", "pixel_rms", "--run", "5", *who, *there, "-o", "back.npy"]) == 0
        assert np.array_equal(np.load("back.npy"), PIXELS)
        Path("token").write_text("another-token-as-long-as-it-must-be")
        assert main(["put", "cam", "pixel_rms", "dark.npy", "--run", "6", *who, *there, *secret]) == 1
        assert "401" in capsys.readouterr().err
