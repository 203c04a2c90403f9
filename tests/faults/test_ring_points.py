"""The whole command while every worker kills itself at a named point of its rings: threads, doorbells, nursery and supervision included."""

from collections.abc import Callable
from pathlib import Path

import pytest

from drp.script.faults import POINTS, VARIABLE
from tests.support.drp_command import DrpCommand, write_script
from tests.support.judge import judge

pytestmark = pytest.mark.timeout(120)
Start = Callable[..., DrpCommand]
INNOCENT = ("asleep", "seen", "published", "rung")
EVENTS, NTH = 2000, 150


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in POINTS if point != "waits_arena"])
def test_a_run_whose_workers_die_at_a_point_loses_no_event(
    drp: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setenv(VARIABLE, f"{point}:{NTH}")
    source = ("--source", "sim:digitizer:32", "-n", str(EVENTS), "--rate", "1000", "-W", "2")
    command = drp(write_script(folder), *source)
    code = command.wait(90)
    report = command.report
    assert report["closes"] and report["ledger"]["total"] == EVENTS, command.log
    verdict = judge(command.file())
    assert len(verdict.events) == EVENTS
    assert set(verdict.causes) <= {"died"}
    deaths = report["restarts"]
    assert deaths >= 5
    assert code == (1 if verdict.damaged else 0)
    if point in INNOCENT:
        assert not verdict.damaged
    else:
        assert 0 < len(verdict.damaged) <= deaths
    assert command.left() == []
    print(f"{point}: {deaths} restarts, {len(verdict.damaged)} of {EVENTS} events damaged")


def test_a_fault_at_no_known_point_is_told(drp: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "publishd:1")
    command = drp(write_script(folder), "--source", "sim:digitizer:32", "-n", "10", "-W", "1")
    assert command.wait() != 0
    assert "no point 'publishd'" in command.log and "entry_written, published" in command.log
