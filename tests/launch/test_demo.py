"""The demo partition, kept by our own supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.demo import Demo, check_whole_run
from tests.support.drp_fixtures import folder_in_memory


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_partition_takes_a_run_whose_ledger_closes() -> None:
    with folder_in_memory() as folder:
        demo = Demo(Path(folder), "own", 3000)
        try:
            check_whole_run(demo)
        finally:
            demo.call("procmgr", "stop", str(demo.file), "--stop-timeout", "1")
