"""`calib key`: a file that drp takes, and never one in the place of another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from calib.broadcast.keys import read_keys

COMMAND = "import sys; from calib.cli import main; sys.exit(main())"


def key(path: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", COMMAND, "key", str(path)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_the_key_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert key(path).returncode == 0
    before = read_keys(path)
    again = key(path)
    assert again.returncode == 1
    assert "cannot be made" in again.stderr
    assert read_keys(path) == before
