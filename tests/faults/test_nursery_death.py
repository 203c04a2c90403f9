"""The nursery is killed, or stands still: its workers are replaced, the source waits meanwhile, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import ROOT, DrpCommand, write_script
from tests.support.judge import judge

pytestmark = pytest.mark.timeout(120)
Start = Callable[..., DrpCommand]
SLOW = "time.sleep(0.004)"


def check(command: DrpCommand, events: int, most_damaged: int) -> None:
    report = command.report
    verdict = judge(command.file())
    assert len(verdict.events) == events == report["ledger"]["total"]
    assert report["closes"]
    assert set(verdict.causes) <= {"died"}
    assert len(verdict.damaged) <= most_damaged
    assert report["damage"]["drp"]["events"] == len(verdict.damaged)
    assert command.left() == []


@pytest.mark.slow
def test_a_killed_nursery_is_replaced_with_all_its_workers(
    drp: Start, folder: Path, good_second_run: Callable[[], None]
) -> None:
    before = (
        "helpers = [subprocess.Popen(['sleep', '1000'], start_new_session=apart) for apart in (False, True)]"
    )
    command = drp(
        write_script(folder, SLOW, before=before),
        "--source",
        "sim:digitizer",
        "-n",
        "3000",
        "--rate",
        "500",
        "-W",
        "3",
    )
    command.until_recording(100_000)
    for _ in range(3):
        size = command.file().stat().st_size
        nursery = command.until(command.nursery, "a nursery")
        os.kill(nursery, signal.SIGKILL)
        command.until(lambda gone=nursery: command.nursery() not in (None, gone), "a new nursery")
        command.until_recording(size + 100_000)
    assert command.wait(60) in (0, 1), command.log
    check(command, 3000, most_damaged=9)
    assert command.log.count("the nursery is gone") == 3
    assert command.report["restarts"] <= 12
    assert sum(worker["failures"].get("nursery", 0) for worker in command.report["workers"]) == 9
    good_second_run()


@pytest.mark.slow
def test_a_nursery_killed_while_it_starts_is_replaced(drp: Start, folder: Path) -> None:
    command = drp(write_script(folder), "--source", "sim:digitizer", "-n", "500", "-W", "2")
    for _ in range(2):
        nursery = command.until(command.nursery, "a nursery")
        os.kill(nursery, signal.SIGKILL)
        command.until(lambda gone=nursery: command.nursery() != gone, "the end of the nursery")
    assert command.wait(60) in (0, 1), command.log
    check(command, 500, most_damaged=2)


def test_workers_killed_together_with_the_nursery(drp: Start, folder: Path) -> None:
    command = drp(
        write_script(folder, SLOW),
        "--source",
        "sim:digitizer",
        "-n",
        "1500",
        "--rate",
        "500",
        "-W",
        "3",
        "--spares",
        "2",
    )
    command.until_recording(200_000)
    for pid in [*command.workers(), command.nursery()]:
        os.kill(pid, signal.SIGKILL)
    assert command.wait(60) in (0, 1), command.log
    check(command, 1500, most_damaged=3)


@pytest.mark.slow
def test_a_nursery_that_stands_still_is_given_up(drp: Start, folder: Path) -> None:
    """Nothing is noticed before something is asked of it: then it has ten seconds."""
    body = f"{SLOW}\nif evt.index == 500: os._exit(1)"
    command = drp(
        write_script(folder, body),
        "--source",
        "sim:digitizer",
        "-n",
        "4000",
        "--rate",
        "300",
        "-W",
        "2",
        "--spares",
        "0",
    )
    command.until_recording(100_000)
    os.kill(command.nursery(), signal.SIGSTOP)
    assert command.wait(90) == 1, command.log
    check(command, 4000, most_damaged=3)
    assert "the nursery is gone" in command.log


@pytest.mark.slow
def test_a_nursery_that_cannot_start_ends_the_run(drp: Start, folder: Path) -> None:
    """What is imported before the first fork fails: the error says so, and nothing is tried for ever."""
    broken = folder / "site"
    broken.mkdir()
    (broken / "numba.py").write_text("raise RuntimeError('a broken numba')\n")
    script = write_script(folder)
    command = drp(
        script,
        "--source",
        "sim:digitizer",
        "-n",
        "100",
        "-W",
        "1",
        environment={"PYTHONPATH": f"{broken}:{ROOT}"},
    )
    assert command.wait(60) == 1, command.log
    assert "a broken numba" in command.log
    assert "nursery" in command.report["error"]
    assert command.left() == []
