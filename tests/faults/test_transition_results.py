"""What workers add to transitions, and the arrays they reduce: held to the size of a slot, and counted where it is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, rest_slow, write_script
from tests.support.judge import judge
from tests.support.plain_xtc2 import BEGIN_STEP, END_RUN, PlainFile

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:digitizer", "-n")
TRUNCATED = 4 << 12 | 1

AT_BEGIN_STEP = """
import sys
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

ds = DataSource()
info = ds.drp_info
more = int(ds.args[0])
note = ds.add_detector(DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("note", 0, 0, 1), {"blob": (np.uint8, 1)})
for run in ds.runs():
    for step in run.steps():
        note.note.blob = np.full(info.transition_bufsize + more, 7, np.uint8)
        ds.add_data(note.note)
        for evt in step.events():
            pass
"""


def begin_steps(command: DrpCommand) -> list[tuple[int, int]]:
    """Size and damage of each BeginStep of the recorded file."""
    return [(one.size, one.damage) for one in PlainFile(command.file()).dgrams if one.service == BEGIN_STEP]


def test_what_is_added_to_a_transition_fits_its_slot_to_the_last_byte_or_not_at_all(
    drp: Start, folder: Path
) -> None:
    """Workers look at their data alone, so at first what is a header too much comes to drp."""
    script = folder / "script.py"
    script.write_text(AT_BEGIN_STEP)

    def run(more: int) -> DrpCommand:
        command = drp(
            f"{script} {more}", *SIM, "20", "-W", "2", "-k", "trBufSize=200K", output=folder / f"out{more}"
        )
        code = command.wait(60)
        assert code == (1 if more > -100 else 0), command.log
        assert command.report["restarts"] == 0
        assert command.report["failed_transitions"] == (more > -100)
        assert command.report["ledger"]["total"] == 20
        assert command.left() == []
        return command

    ((size, damage),) = begin_steps(run(-1000))
    ((raw, marked),) = begin_steps(run(-1))
    assert (damage, marked) == (0, TRUNCATED)
    overhead = size - raw + 1000 - transition_bytes(folder)
    assert begin_steps(run(1)) == [(raw, TRUNCATED)]
    assert overhead < 100


def transition_bytes(folder: Path) -> int:
    """The size of a transition's slot, as drp says it."""
    log = next(iter(sorted(folder.glob("log-*.txt")))).read_text()
    return int(log.partition("128 of ")[2].split()[0])


def test_a_configure_that_declares_too_much_ends_the_run_with_what_to_do(drp: Start, folder: Path) -> None:
    before = "FIELDS = {f'{\"a\" * 200}{k}': (np.uint8, 0) for k in range(300)}"
    command = drp(
        write_script(folder, before=before, fields="**FIELDS"), *SIM, "20", "-W", "1", "-k", "trBufSize=65536"
    )
    assert command.wait(60) == 1, command.log
    assert "what the script declares and adds makes a Configure of" in command.report["error"]
    assert "-k trBufSize=" in command.report["error"]
    assert command.left() == []


TOTAL = "total = ds.reduce('total', np.zeros(1, np.uint64), 'sum')"


@pytest.mark.parametrize(
    "death", rest_slow(1, ["os._exit(1)", "raise ValueError", "os.kill(os.getpid(), 9)"])
)
def test_what_a_dead_worker_had_reduced_is_lost_and_counted(drp: Start, folder: Path, death: str) -> None:
    script = write_script(folder, f"if evt.index == 150: {death}\ntotal[0] += 1", configured=TOTAL)
    command = drp(script, *SIM, "300", "-W", "2")
    assert command.wait(60) == 1, command.log
    verdict = judge(command.file())
    lost = command.report["reduce_lost"]
    summed = int(verdict.file.dgrams[-1].find("reduce")["total"][0])
    assert verdict.file.dgrams[-1].service == END_RUN
    assert len(verdict.damaged) == 1
    assert lost["workers"] == 1
    assert summed + lost["events"] == 299
    assert "it had added to the reduced arrays" in command.log
    assert any("reduced arrays lack" in fault for fault in command.report["faults"])


def test_nothing_reduced_is_counted_as_lost_where_nothing_is_reduced(drp: Start, folder: Path) -> None:
    command = drp(write_script(folder, "if evt.index == 50: os._exit(1)"), *SIM, "100", "-W", "1")
    assert command.wait(60) == 1, command.log
    assert command.report["reduce_lost"] == {"workers": 0, "events": 0}
