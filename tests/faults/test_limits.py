"""Limits of the system: too few open files, a file that may not grow; told at once, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, write_script
from tests.support.judge import judge

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:digitizer:1024", "-n", "2000", "-W")


def limit(which: str, soft: int, hard: int) -> str:
    return f"import resource; resource.setrlimit(resource.{which}, ({soft}, {hard}))"


def test_too_few_open_files_are_told_before_anything_starts(drp: Start, folder: Path) -> None:
    command = drp(write_script(folder), *SIM, "8", before=limit("RLIMIT_NOFILE", 40, 40))
    assert command.wait(30) == 2, command.log
    assert "open files" in command.log
    assert "ulimit -n" in command.log
    assert "Traceback" not in command.log
    assert command.left() == []


def test_as_many_files_as_the_workers_need_are_allowed_where_they_may_be(drp: Start, folder: Path) -> None:
    command = drp(write_script(folder), *SIM, "8", before=limit("RLIMIT_NOFILE", 40, 400))
    assert command.wait(60) == 0, command.log
    assert command.report["restarts"] == 0


def test_room_for_results_that_nobody_asked_for_is_given_up_where_there_is_not_that_much(
    drp: Start, folder: Path
) -> None:
    """2.2 Mpixel and nine arenas of 430 MB in an address space of 4 GB."""
    space = limit("RLIMIT_AS", 4 << 30, 4 << 30)
    arguments = (write_script(folder), "--source", "sim:epixhr,frames=1", "-n", "2", "-W", "8", "-k")
    command = drp(*arguments, "pebbleBufCount=16", before=space)
    assert command.wait(60) == 0, command.log
    assert "there is no room for transitions of 212391552 bytes with all that workers add" in command.log


def test_rings_that_cannot_be_had_are_told_with_what_to_say(drp: Start, folder: Path) -> None:
    space = limit("RLIMIT_AS", 4 << 30, 4 << 30)
    command = drp(
        write_script(folder), "--source", "sim:digitizer:16", "-n", "2", "-W", "24", "-k", "trBufSize=100M,pebbleBufCount=16",
        before=f"import drp.engine.sizes as r; r.N_TRANSITIONS = 8\n{space}",
    )  # fmt: skip
    assert command.wait(60) == 1, command.log
    assert "there is no room for the rings of a worker" in command.report["error"]
    assert "-k trBufSize=" in command.report["error"]


def test_a_file_that_may_not_grow_ends_the_run_and_is_named(drp: Start, folder: Path) -> None:
    size = 1 << 20
    command = drp(write_script(folder), *SIM, "2", before=limit("RLIMIT_FSIZE", size, size))
    assert command.wait(40) == 1, command.log
    report = command.report
    assert "File too large (EFBIG)" in report["error"]
    assert ".xtc2" in report["error"]
    assert report["closes"]
    verdict = judge(command.file(), ended=False)
    assert verdict.file.tail_bytes == 0
    recorded = len(verdict.events)
    assert 0 < recorded == report["ledger"]["recorded_no_verdict"]
    assert report["ledger"]["lost_with_process"] == report["source_events"] - recorded
    assert command.left() == []


def test_an_error_that_may_pass_is_waited_for_and_then_ends_the_run(drp: Start, folder: Path) -> None:
    """What stands for EIO here is EFBIG, which can be had."""
    size = 1 << 20
    shorter = "import drp.engine.reducer as r; r.PASSING_ERRNOS, r.WRITE_TRIES_S = (27,), 0.5"
    command = drp(write_script(folder), *SIM, "2", before=f"{limit('RLIMIT_FSIZE', size, size)}\n{shorter}")
    assert command.wait(40) == 1, command.log
    assert "recording pauses: File too large; events wait in the pebble\n" in command.log
    assert "File too large (EFBIG)" in command.report["error"]
    assert command.report["closes"]
