"""A runtime directory of the test's own, and a world of timing and drps in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drp_fixtures import folder_in_memory
from tests.support.timing_world import FakeDrp, World


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with folder_in_memory() as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        yield path


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    made = World(folder)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_drp_stays() -> Iterator[None]:
    """Close the drps of a test that failed."""
    yield
    for drp in FakeDrp.made:
        drp.link.close()
    FakeDrp.made.clear()
