"""The command under test, and what every fault test ends with: nothing left, and a good second run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, write_script

SHM = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, so that no disk is waited for; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="drp-test-", dir=SHM if SHM.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def drp(folder: Path) -> Iterator[Callable[..., DrpCommand]]:
    """Start the command: `drp(script, *options)`. Whatever a failed test leaves is killed."""
    started: list[DrpCommand] = []

    def start(script: Path | str, *options: str, **kwargs: object) -> DrpCommand:
        command = DrpCommand(folder, "-p", str(script), *options, **kwargs)
        started.append(command)
        return command

    try:
        yield start
    finally:
        for command in started:
            command.destroy()


@pytest.fixture
def good_second_run(folder: Path, drp: Callable[..., DrpCommand]) -> Callable[[], None]:
    """Check that a run after the one that was hurt is faultless, and leaves nothing."""

    def run() -> None:
        inside = folder / "second"
        inside.mkdir()
        script = write_script(inside)
        command = drp(script, "--source", "sim:digitizer", "-n", "200", "-W", "1", output=inside / "out")
        assert command.wait(60) == 0, command.log
        assert command.report["ledger"]["total"] == 200
        assert command.left() == []

    return run
