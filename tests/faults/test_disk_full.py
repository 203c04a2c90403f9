"""A disk that is full: recording pauses, the source waits, and it goes on when there is room; nothing is lost, nothing is half written."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, rest_slow, write_script
from tests.support.judge import judge
from tests.support.plain_xtc2 import PlainFile
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
DISK_BYTES = 3 << 20
SIM = ("--source", "sim:digitizer:1024", "-W", "2", "-k", "pebbleBufCount=512")


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    with small_disk(folder / "disk", DISK_BYTES) as path:
        yield path


@pytest.mark.parametrize(
    "free_bytes",
    rest_slow(1, [DISK_BYTES // 2, 4096 * 3 + 100]),
    ids=["in the middle", "from the first event"],
)
def test_recording_pauses_on_a_full_disk_and_goes_on(
    drp: Start, folder: Path, disk: Path, free_bytes: int
) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - free_bytes - 65536 * 3))
    command = drp(write_script(folder), *SIM, "-n", "1100", output=disk / "out")
    command.until_logged("recording pauses: No space left on device")
    time.sleep(0.3)
    for _ in range(3):
        # Room for a few events only: it goes on and stops again.
        os.truncate(ballast, max(0, ballast.stat().st_size - 100_000))
        time.sleep(0.3)
    assert command.running
    ballast.unlink()
    assert command.wait(30) == 0, command.log
    assert "recording goes on" in command.log
    verdict = judge(command.file())
    assert len(verdict.events) == 1100 == command.report["ledger"]["total"]
    assert verdict.damaged == {}
    smd = PlainFile(command.file(smd=True))
    assert len(smd.events) == 1100
    assert smd.tail_bytes == 0
    assert command.left() == []


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_within_the_stop_timeout(
    drp: Start, folder: Path, disk: Path, good_second_run: Callable[[], None]
) -> None:
    command = drp(write_script(folder), *SIM, "-n", "100000", "--stop-timeout", "3", output=disk / "out")
    command.until_logged("recording pauses: No space left on device")
    began = time.monotonic()
    command.signal(signal.SIGINT)
    assert command.wait(20) == 1, command.log
    print(f"\nended {time.monotonic() - began:.1f} s after the signal, --stop-timeout 3")
    report = command.report
    assert not report["ledger"]["total"] or report["closes"]
    verdict = judge(command.file(), ended=False)
    assert verdict.file.tail_bytes == 0, "the file does not end with a whole dgram"
    recorded = len(verdict.events)
    assert recorded > 500
    assert report["ledger"]["lost_with_process"] == report["source_events"] - recorded, report["ledger"]
    assert "--stop-timeout" in report["error"]
    assert "No space left on device. Make room" in report["error"]
    assert "dead process" not in command.log
    smd = PlainFile(command.file(smd=True))
    assert len(smd.events) <= recorded
    assert smd.tail_bytes == 0
    assert command.left() == []
    good_second_run()


@pytest.mark.slow
def test_a_run_so_small_that_only_its_end_meets_the_full_disk(drp: Start, folder: Path, disk: Path) -> None:
    """All of it is staged in memory until the files are to be closed: then it says what it waits for."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES))
    command = drp(write_script(folder), *SIM, "-n", "100", output=disk / "out")
    command.until_logged("recording pauses: No space left on device")
    ballast.unlink()
    assert command.wait(30) == 0, command.log
    assert "recording goes on" in command.log
    assert len(judge(command.file()).events) == 100
    assert command.left() == []
