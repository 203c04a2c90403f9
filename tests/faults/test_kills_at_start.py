"""A worker that is killed before it ever came to work: the run ends, or the next one is waited with; nothing is forked without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, write_script

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:epixhr,segments=1,frames=4", "-W", "2", "-n", "100")
KILL = "os.kill(os.getpid(), 9)"


@pytest.mark.parametrize("place", ["configured", "begun"])
def test_a_script_killed_before_the_run_began_ends_it(drp: Start, folder: Path, place: str) -> None:
    command = drp(write_script(folder, **{place: KILL}), *SIM)
    assert command.wait(40) == 1, command.log
    report = command.report
    assert "SIGKILL" in report["error"]
    assert "in a row" in report["error"]
    assert "memory" in report["error"]
    assert "worker 0" in report["error"] or "worker 1" in report["error"]
    assert report["restarts"] <= 20
    assert command.left() == []


def test_replacements_killed_as_they_start_are_waited_after(drp: Start, folder: Path) -> None:
    """The first two workers live and the spare never does: once a worker is gone, its post is filled in vain."""
    begun = f"if info.worker_num >= 2 or os.path.exists('gone'): {KILL}"
    event = (
        "if evt.index == 50:\n    open('gone', 'w').close()\n    os.kill(os.getpid(), 9)\ntime.sleep(0.01)"
    )
    command = drp(write_script(folder, event, begun=begun), *SIM[:-1], "300")
    assert command.wait(60) == 1, command.log
    report = command.report
    assert report["closes"]
    assert report["ledger"]["total"] == 300
    assert report["restarts"] <= 20
    assert "left out after 5 failures in a row" in command.log
    assert command.left() == []
