"""The command as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drp.cli.configdb import main
from drp.configdb import TypedConfig


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    def call(*words: str, code: int = 0) -> str:
        assert main(["--db", str(tmp_path / "c.sqlite"), *words]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return call


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """As LCLS's database has a document: a whole number where a float is meant, and the configuration under a key."""
    one = TypedConfig()
    one.setInfo("epixhr", "epixhr", 0, "s", "")
    one.set("rate", 1.0, "FLOAT")
    content = one.typed_json()
    content["rate"] = 1
    path = tmp_path / "exported.json"
    path.write_text(json.dumps({"_id": 3, "config": content}))
    return path


def test_put_ls_cat_cp_mv_rm_history_rollback(run: object, exported: Path) -> None:
    assert callable(run)
    assert run("put", "tst/BEAM/epixhr_0", str(exported), "-m", "from LCLS") == "tst/BEAM/epixhr_0  key 1\n"
    assert json.loads(run("cat", "tst/BEAM/epixhr_0"))["rate"] == 1.0
    assert json.loads(run("cat", "tst/BEAM/epixhr_0", "--resolved"))["rate"] == 1.0
    assert run("ls").startswith("tst/BEAM/epixhr_0  key 1  ")
    assert run("cp", "tst/BEAM", "tst/CALIB") == "tst/CALIB/epixhr_0\n"
    assert run("mv", "tst/CALIB/epixhr_0", "tst/NOBEAM/epixhr_0") == "tst/NOBEAM/epixhr_0\n"
    assert run("ls", "tst/CALIB") == "nothing\n"
    assert run("rm", "tst/BEAM/epixhr_0", "-m", "broken") == "removed tst/BEAM/epixhr_0\n"
    lines = run("history", "tst/BEAM/epixhr_0").splitlines()
    assert lines[0].endswith("removed  broken")
    assert lines[1].endswith("config 0.0.0  from LCLS")
    assert run("rollback", "tst/BEAM/epixhr_0", "1").startswith("tst/BEAM/epixhr_0  key ")
    assert json.loads(run("cat", "tst/BEAM/epixhr_0", "1"))["rate"] == 1.0


def test_errors_say_what_and_where(run: object, exported: Path, tmp_path: Path) -> None:
    assert callable(run)
    assert "there is no store of configurations" in run("ls", code=1)
    assert "is no path of a configuration" in run("put", "tst/BEAM", str(exported), code=1)
    exported.write_text("{")
    assert "exported.json: is no JSON" in run("put", "tst/BEAM/a_0", str(exported), code=1)
    assert "No such file" in run("put", "tst/BEAM/a_0", str(tmp_path / "nothing"), code=1)
    assert "is everything" in run("rm", "/", code=1)
    assert "tst/BEAM/a_0: there is no such configuration" in run("cat", "tst/BEAM/a_0", code=1)
