"""A run directory of the test's own, and a partition in it whose processes our own supervisor keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.launch.keepers import Supervisor
from tests.support.drp_fixtures import folder_in_memory
from tests.support.kept import World


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with folder_in_memory() as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        yield path


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    one = World(folder, Supervisor())
    yield one
    one.stop(limit_s=0.1)
