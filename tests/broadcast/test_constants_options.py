"""The options about constants: what they mean together, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from drp.cli.options import parse
from drp.core.errors import ConfigError

SHARED = ["--calib-supervisor", "cam_0@tcp://node-1:32256", "--calib-key", "keys"]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("DRP_CALIB", raising=False)
    path = tmp_path / "script.py"
    path.touch()
    return ["-p", str(path)]


def test_there_are_none_unless_asked_for(script: list[str]) -> None:
    assert not parse(script).has_constants


def test_the_option_goes_before_the_environment(script: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_CALIB", "of-the-site.db")
    assert parse(script).calib == "of-the-site.db"
    assert parse([*script, "--calib", "mine.db"]).calib == "mine.db"
    assert not parse([*script, "--calib", ""]).has_constants
    monkeypatch.setenv("DRP_CALIB", "")
    assert not parse(script).has_constants


def test_one_line_for_all_says_who_is_the_supervisor(script: list[str]) -> None:
    first = parse([*script, "-u", "cam_0", "--calib", "a.db", *SHARED])
    second = parse([*script, "-u", "cam_1", *SHARED])
    assert first.supervises and not second.supervises
    assert first.has_constants and second.has_constants
    assert second.calib_address == "tcp://node-1:32256"
    assert second.calib_key == Path("keys")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--require-constants"], "--calib URL"),
        (["--calib-timeout", "0"], "out of range"),
        (["--calib", "a.db", *SHARED], "-u DET_SEGMENT"),
        (["-u", "cam_0", *SHARED], "this drp is the supervisor"),
        (["-u", "cam_1", *SHARED[:2]], "--calib-key FILE"),
        (
            ["-u", "cam_1", "--calib-supervisor", "tcp://node:1", "--calib-key", "k"],
            "jungfrau_0@tcp://HOST:PORT",
        ),
        (
            ["-u", "cam_1", "--calib-supervisor", "cam@tcp://node:1", "--calib-key", "k"],
            "jungfrau_0@tcp://HOST:PORT",
        ),
        (
            ["-u", "cam_1", "--calib-supervisor", "cam_0@ipc://x", "--calib-key", "k"],
            "jungfrau_0@tcp://HOST:PORT",
        ),
        (["--offline", "--source", "a.xtc2", "-u", "cam_1", *SHARED], "nobody to share with"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_to_do(
    script: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    (tmp_path / "a.xtc2").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        parse([*script, *options])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/store", "'ftp'"),
        ("mysql://me:secret@host/base", "'mysql'"),
        ("postgres//me:secret@host/base", "postgres is followed by ://"),
        ("postgresql+psycopg:/me:secret@host/base", "postgresql+psycopg is followed by ://"),
        ("http:/host:8085", "http is followed by ://"),
        ("postgresql://me:secret@host:x/base", "no address of a store"),
        ("http://", "no address of a calibration service"),
        ("sqlite://", "names a file"),
    ],
)
def test_an_address_that_can_be_none_is_refused_at_once_and_no_password_is_told(
    script: list[str], monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse([*script, "--calib", address])
    assert str(caught.value).startswith("--calib: ")
    assert said in str(caught.value)
    assert "http://" in caught.value.hint
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("DRP_CALIB", address)
    with pytest.raises(ConfigError, match="DRP_CALIB"):
        parse(script)
    assert not parse([*script, "--calib", ""]).has_constants


@pytest.mark.parametrize(
    "address",
    ["a.db", "postgres/a.db", "sqlite:///a.db", "postgresql://me@host/base", "https://host/calib_ws"],
)
def test_an_address_that_may_be_one_passes_whether_or_not_anything_is_there(
    script: list[str], address: str
) -> None:
    assert parse([*script, "--calib", address]).calib == address


def test_a_file_whose_name_looks_like_an_address_is_a_file(
    script: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:a.db").touch()
    assert parse([*script, "--calib", "http:a.db"]).calib == "http:a.db"
    assert parse([*script, "--calib", "./http:b.db"]).calib == "./http:b.db"


def test_a_follower_is_told_that_its_own_source_is_not_asked(
    script: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = [*script, "-u", "cam_1", *SHARED]
    (note,) = parse([*follower, "--calib", "a.db"]).notes
    assert "--calib has no effect" in note
    assert "cam_0" in note
    monkeypatch.setenv("DRP_CALIB", "of-the-site.db")
    assert parse(follower).notes == ()
    assert parse([*script, "-u", "cam_0", "--calib", "a.db", *SHARED]).notes == ()
