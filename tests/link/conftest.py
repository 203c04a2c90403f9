"""A runtime directory of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drp_fixtures import folder_in_memory


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory in a folder that anybody may enter, with a short path."""
    with folder_in_memory(0o755) as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        yield path
