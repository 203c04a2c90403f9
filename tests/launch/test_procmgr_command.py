"""The commands as a user types them: procmgr and procstat."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drp.cli import procmgr, procstat
from drp.launch import read_plan
from drp.launch.procmgr import Line
from tests.support.kept import STAND_IN

FILES = Path(__file__).with_name("files")


@pytest.fixture
def cnf(folder: Path) -> Path:
    path = folder / "t.cnf"
    stand_in = f"{sys.executable} -IS {STAND_IN}"
    path.write_text(f"""
if not platform: platform = '4'
procmgr_config = [
 {{id: 'xpmpva', cmd: 'xpmpva A'}},
 {{id: 'a', flags: 's', cmd: '{stand_in} ready'}},
 {{id: 'b', cmd: '{stand_in} ready', env: 'LIKE=this'}},
]
""")
    return path


def test_start_status_restart_stop(cnf: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["start", str(cnf), "--keeper", "own", "-o", str(folder / "logs")]
    try:
        assert procmgr.main(start) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0].split() == ["ID", "PID", "STATE", "EXIT", "UPTIME", "LOG"]
        assert out[1].split() == ["xpmpva", "skipped", "xpmpva", "is", "not", "part", "of", "drp"]
        assert [line.split()[2] for line in out[2:]] == ["running", "running"]
        pids = [line.split()[1] for line in out[2:]]

        assert procmgr.main(["status", str(cnf)]) == 0
        assert procstat.main([]) == 0
        assert "partition p4" in capsys.readouterr().out

        assert procmgr.main(["restart", *start[1:], "b"]) == 0
        assert procmgr.main(["status", str(cnf), "a", "b"]) == 0
        again = [line.split()[1] for line in capsys.readouterr().out.splitlines()[-2:]]
        assert again[0] == pids[0]
        assert again[1] != pids[1]
    finally:
        assert procmgr.main(["stop", str(cnf)]) == 0
    out = capsys.readouterr().out
    assert "  stopped  10" in out
    assert procmgr.main(["status", str(cnf)]) == 1
    assert procstat.main([str(cnf)]) == 0
    out = capsys.readouterr().out
    assert out.count("absent") == 4
    assert procstat.main([]) == 0
    assert "nothing was started by procmgr" in capsys.readouterr().out


def test_convert_writes_toml_that_names_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = FILES / "production.cnf"
    out = folder / "out.toml"
    assert procmgr.main(["convert", str(source), str(out)]) == 0
    assert read_plan(out).processes == read_plan(source).processes
    assert procmgr.main(["convert", str(source)]) == 0
    assert capsys.readouterr().out.endswith(out.read_text())


def test_other_machines_are_refused_before_anything_is_started(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert procmgr.main(["start", str(FILES / "production.cnf"), "-o", str(folder / "logs")]) == 1
    assert (
        "processes of other machines cannot be started from here yet: control (drp-node014)"
        in capsys.readouterr().err
    )
    assert not (folder / "logs").exists()


def test_an_unknown_id_is_an_error(cnf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("start", "stop", "status"):
        assert procmgr.main([verb, str(cnf), "aa"]) == 1
        assert "there is no process 'aa'" in capsys.readouterr().err


def test_the_table_shows_code_signal_and_uptime() -> None:
    lines = [
        Line("a", "running", 7, None, 1000.0, "/a.log"),
        Line("b", "exited", 8, -9, 1000.0, "/b.log", "last\nwords"),
        Line("c", "absent"),
    ]
    assert procmgr.table(lines, 1000.0 + 3661) == [
        "ID  PID  STATE    EXIT      UPTIME   LOG",
        "a   7    running            1:01:01  /a.log",
        "b   8    exited   signal 9           /b.log",
        "    last",
        "    words",
        "c        absent",
    ]


def test_an_interval_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert procstat.main(["-i", "0"]) == 2
    assert "is no interval" in capsys.readouterr().err
