"""A run directory of the test's own, with a path short enough for sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="drp") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)
