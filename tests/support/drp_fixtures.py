"""The fixtures of tests that start the real command: a folder of their own, and a command of which nothing outlives the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand

SHM = Path("/dev/shm")


@contextmanager
def folder_in_memory(mode: int = 0o700) -> Iterator[Path]:
    """A folder in memory, so that no disk is waited for, with a short name, for the path of a socket is short; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="drp-", dir=SHM if SHM.is_dir() else None))
    path.chmod(mode)
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
