"""What the command does beside a run: it tells what it came to, and says so where it cannot begin or go on."""

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drp.cli import drp as command
from drp.cli.options import drp_version
from drp.core.errors import OrderError, ScriptError, SourceError
from drp.core.ledger import Fate, Ledger
from drp.core.report import Report, Snapshot
from drp.engine.reducer import EXIT_INTERRUPTED


class StandIn:
    """A Reducer that runs nothing."""

    ends_in: BaseException | None = None

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def run(self) -> Report:
        if self.ends_in is not None:
            raise self.ends_in
        ledger = Ledger()
        ledger.count(Fate.not_recorded, 1)
        return Report(source="a source", script="s.py", source_events=1, ledger=ledger, elapsed_s=1.0)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger("drp")
    before = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], root.level, root.propagate = before


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    script = tmp_path / "s.py"
    script.write_text("")
    monkeypatch.setattr(command, "Reducer", StandIn)
    monkeypatch.setattr(StandIn, "ends_in", None)
    return ["-p", str(script), "--report", str(tmp_path / "r.json")]


def test_the_report_names_the_version(line: list[str]) -> None:
    assert command.main(line) == 0
    assert json.loads(Path(line[-1]).read_text())["drp_version"] == drp_version() != ""


def test_an_interrupt_before_the_workers_are_there_leaves_no_traceback(
    line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StandIn, "ends_in", KeyboardInterrupt())
    assert command.main(line) == EXIT_INTERRUPTED
    assert capsys.readouterr().err.endswith("drp: interrupted\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceError("gone"), command.EXIT_USAGE),
        (OrderError("out of place", service="L1Accept", state="unconfigured"), command.EXIT_FAILED),
        (ScriptError("mistaken"), command.EXIT_FAILED),
    ],
)
def test_only_what_cannot_begin_is_a_usage_error(
    line: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    monkeypatch.setattr(StandIn, "ends_in", error)
    assert command.main(line) == code


def test_a_summary_that_nobody_reads_does_not_change_the_exit_code(line: list[str]) -> None:
    code = (
        "import sys; from drp.cli import drp; sys.path.insert(0, sys.argv[1]); from test_drp import StandIn; "
        "drp.Reducer = StandIn; sys.exit(drp.main(sys.argv[2:]))"
    )
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-c", code, str(Path(__file__).parent), *line]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "drp: the summary cannot be printed: No space left on device" in done.stderr
    assert json.loads(Path(line[-1]).read_text())["closes"]


def test_a_report_to_stdout_is_all_that_stands_there(
    line: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main([*line[:-1], "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["closes"]
    assert "the ledger closes" in told.err
    assert not (tmp_path / "-").exists()


def test_a_pebble_larger_than_the_machine_is_a_usage_error_and_no_traceback(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from drp.cli.drp import main; sys.exit(main())",
            "-p",
            str(script),
            "--source",
            "sim:digitizer",
            "-k",
            "trBufSize=2000M",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "-k:" not in done.stderr:
        pytest.skip("a machine of more than 256 GB, or one that promises what it has not")
    assert done.returncode == 2
    assert "trBufSize" in done.stderr
    assert "Traceback" not in done.stderr


class MemberStandIn:
    """A member that shows how it is, says something, and ends."""

    def __init__(self, *_: object, **callbacks: Callable[..., None]) -> None:
        self._watch = callbacks["watch"]

    def run(self) -> int:
        self._watch(None, Snapshot("running", 1.0, 5))
        logging.getLogger("drp.run").warning("something happened")
        return 0


def test_a_member_draws_no_live_line_though_its_stderr_is_a_terminal(
    line: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("drp.member.process.Process", MemberStandIn)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb") as seen:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert (
            command.main(
                [
                    "-C",
                    "localhost",
                    "-P",
                    "tst",
                    "-u",
                    "cam_0",
                    "-D",
                    "cam",
                    *line[:2],
                    "--source",
                    "sim:epixhr",
                ]
            )
            == 0
        )
        print("the end", file=terminal, flush=True)
        lines = [seen.readline(), seen.readline()]
    assert lines == [b"WARNING drp.run: something happened\r\n", b"the end\r\n"]
