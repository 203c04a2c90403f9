"""The command under test, with its folder in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand

SHM = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory with a short name, for the path of a socket is short; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="drp-", dir=SHM if SHM.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def drp(folder: Path) -> Iterator[Callable[..., DrpCommand]]:
    """Start the command: `drp(script, *options)`. Whatever a failed test leaves is killed."""
    started: list[DrpCommand] = []

    def start(script: Path | str, *options: object, **kwargs: object) -> DrpCommand:
        command = DrpCommand(folder, "-p", str(script), *map(str, options), **kwargs)
        started.append(command)
        return command

    try:
        yield start
    finally:
        for command in started:
            command.destroy()
