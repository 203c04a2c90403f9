"""drp itself is killed: everything that came from it is gone, what was written is readable, and the next start says what has no end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, ProcessLook, rest_slow, write_script
from tests.support.judge import judge

pytestmark = pytest.mark.timeout(120)
Start = Callable[..., DrpCommand]
HELPERS = (
    "helpers = [subprocess.Popen(['sleep', '1000'], start_new_session=apart) for apart in (False, True)]"
)
SIM = ("--source", "sim:digitizer", "--rate", "1000", "-W", "3")


@pytest.mark.parametrize("with_nursery", rest_slow(1, [False, True]), ids=["drp alone", "and its nursery"])
def test_a_killed_drp_leaves_a_readable_file_and_nothing_else(
    drp: Start, folder: Path, with_nursery: bool
) -> None:
    script = write_script(folder, "time.sleep(0.001)", before=HELPERS)
    command = drp(script, *SIM, "-n", "100000")
    command.until_recording(400_000)
    nursery = command.nursery()
    command.signal(signal.SIGSTOP)
    if with_nursery:
        os.kill(nursery, signal.SIGKILL)
    command.signal(signal.SIGKILL)
    assert command.wait(10) == -signal.SIGKILL
    records = list((folder / "run" / "drp").iterdir())
    assert len(records) == 1
    if with_nursery:
        # What left its worker's session has nobody any more that would end it.
        kill(command.family(), "sleep")
    assert command.left(files=False) == []
    dead = command.file()
    assert dead.name.endswith(".inprogress")
    verdict = judge(dead, ended=False)
    assert len(verdict.events) > 300
    assert verdict.damaged == {}

    again = drp(script, *SIM, "-n", "200")
    assert again.wait(60) == 0, again.log
    assert "has no EndRun" in again.log
    assert f"(pid {command.pid})" in again.log
    assert dead.name.removesuffix(".inprogress") in again.log
    assert any("has no EndRun" in text for text in again.report["warnings"])
    folder_of_run = dead.parent
    whole = folder_of_run / dead.name.removesuffix(".inprogress")
    assert len(judge(whole).events) == 200
    aside = whole.with_name(whole.name + ".noendrun")
    assert len(judge(aside, ended=False).events) == len(verdict.events)
    assert again.left() == []

    third = drp(script, *SIM, "-n", "100", output=folder / "third")
    assert third.wait(60) == 0
    assert "has no EndRun" not in third.log


def kill(family: list[ProcessLook], name: str) -> None:
    for one in family:
        if one.name == name:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_drp_killed_before_its_run_began_leaves_nothing(drp: Start, folder: Path) -> None:
    command = drp(write_script(folder, before="time.sleep(1000)"), *SIM, "-n", "100")
    command.until(command.workers, "workers")
    command.signal(signal.SIGKILL)
    assert command.wait(10) == -signal.SIGKILL
    assert command.left(files=False) == []
    again = drp(write_script(folder), *SIM, "-n", "100")
    assert again.wait(60) == 0, again.log
    assert f"(pid {command.pid}) was killed between runs" in again.log
    assert again.left() == []
