"""A segment that cannot be had: the error says how much it was, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drp.core.errors import SegmentError
from drp.shm._segment import create

ROOT = Path(__file__).parents[2]
LIMITED = """\
import os, resource
from drp.core.errors import SegmentError
from drp.shm._segment import create
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    create(1 << 31)
except SegmentError as error:
    print(error)
lines = open("/proc/sysvipc/shm").read().splitlines()
at = lines[0].split().index("cpid")
print("left", sum(int(line.split()[at]) == os.getpid() for line in lines[1:]))
"""


def test_a_segment_without_room_in_the_address_space_is_not_left_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "2,147,483,648 bytes could not be had" in done.stdout
    assert "ulimit -v" in done.stdout
    assert "left 0" in done.stdout


def test_a_segment_of_no_size_is_refused_with_what_limits_it() -> None:
    with pytest.raises(SegmentError, match="0 bytes could not be had: Invalid argument"):
        create(0)
