"""The command under test, with its folder in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drp_fixtures import drp, folder_in_memory

__all__ = ["drp", "folder"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the test's own."""
    with folder_in_memory() as path:
        yield path
