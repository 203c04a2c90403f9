"""The command under test, and what every fault test ends with: nothing left, and a good second run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, write_script
from tests.support.drp_fixtures import drp, folder_in_memory

__all__ = ["drp", "folder", "good_second_run"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the test's own."""
    with folder_in_memory() as path:
        yield path


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
