"""`drp-ipc`: what it lists and what it clears."""

import os
from pathlib import Path

import pytest

from drp.cli.ipc import list_all, main, segments
from drp.link.rundir import RunEntry, RunRecord, run_directory
from drp.shm._segment import create


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return run_directory()


def entry(pid: int) -> RunEntry:
    return RunEntry(pid, "tst", 0, "epixhr_0", 0.0, run=7)


def test_segments_of_this_process_are_found() -> None:
    segment = create(12345)
    mine = [one for one in segments() if one.id == segment.id]
    assert [(one.size_bytes, one.maker, one.attached) for one in mine] == [(12345, os.getpid(), 1)]
    assert mine[0].used_bytes == 0
    memoryview(segment)[0] = 1
    (touched,) = [one for one in segments() if one.id == segment.id]
    assert touched.used_bytes == os.sysconf("SC_PAGE_SIZE")


def test_ls_shows_a_living_process_with_its_segments(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = create(4096)
    with RunRecord(directory, entry(os.getpid())):
        assert main(["ls"]) == 0
    out = capsys.readouterr().out
    assert f"pid {os.getpid()}  epixhr_0 of tst, partition 0, run 7: running" in out
    assert f"segment {segment.id}  4.10 kB, 0 B of it used, attached by 1" in out


def test_clean_removes_what_a_dead_process_left(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "123-abc.json").write_text(entry(123).to_json() + "\n")
    assert main(["ls"]) == 0
    assert "dead" in capsys.readouterr().out
    assert main(["clean"]) == 0
    assert "run 7 of epixhr_0 of tst has no EndRun" in capsys.readouterr().out
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == "nothing\n"


def test_a_dead_process_has_no_segments() -> None:
    assert list_all([(entry(1), False)], segments())[0].startswith("pid 1 ")
    assert len(list_all([(entry(1), False)], segments())) == 1


def test_without_a_verb_it_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
