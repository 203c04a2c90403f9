"""The command under attack, in a folder that others can enter, so that only drp's own modes keep them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drp_fixtures import drp, folder_in_memory

__all__ = ["drp", "folder"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that anybody may enter and read."""
    with folder_in_memory(0o755) as path:
        yield path
