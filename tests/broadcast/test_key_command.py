"""`calib key`: a file that drp takes, and never one in the place of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.broadcast.keys import read_keys
from calib.cli import main


def test_the_key_file_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    assert main(["key", str(path)]) == 0
    before = read_keys(path)
    assert main(["key", str(path)]) == 1
    assert "cannot be made" in capsys.readouterr().err
    assert read_keys(path) == before
