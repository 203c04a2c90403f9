"""`drp --trigger`: one process tree whose teb decides, and what becomes of a run when it dies, fails, or is told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, processes_with, state_of
from tests.support.plain_xtc2 import END_RUN, PlainFile

pytestmark = pytest.mark.timeout(120)
Start = Callable[..., DrpCommand]
SCRIPT = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

ds = DataSource()
info = ds.drp_info
fex = ds.add_detector(DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 0, 0, 1), {"n": (np.uint32, 0)})
ds.add_trigger({"n": np.uint32})
for run in ds.runs():
    for evt in run.events():
        fex.fex.n = evt.index
        ds.add_data(fex.fex)
        ds.remove_data(info.det_name, "raw")
        ds.set_trigger(n=evt.index)
"""
TRIGGER = """
import sys
from drp import TriggerDataSource

ds = TriggerDataSource()
print("contributors:", *ds.contributors)
every = int(sys.argv[1])
for evt in ds.events():
    ds.result(evt["digitizer_0"].n % every == 0)
"""


@pytest.fixture
def scripts(folder: Path) -> tuple[Path, str]:
    """The drp's script, and the trigger's with its argument: it wants every third event."""
    script, trigger = folder / "words.py", folder / "trig.py"
    script.write_text(SCRIPT)
    trigger.write_text(TRIGGER)
    return script, f"{trigger} 3"


def recorded(command: DrpCommand) -> dict[int, bool]:
    """Whether raw is kept, of each event in the file, which ends with the ledger of the report."""
    file = PlainFile(command.file())
    (end,) = (one for one in file.dgrams if one.service == END_RUN)
    ledger = end.find("drpledger")
    assert ledger is not None
    report = command.report
    assert report["closes"] and all(ledger[fate] == n for fate, n in report["ledger"].items()), report[
        "ledger"
    ]
    found = {event.find("fex")["n"]: event.find("raw") is not None for event in file.events}
    assert list(found) == sorted(found) and len(found) == len(file.events)
    assert len(found) == sum(n for fate, n in report["ledger"].items() if fate.startswith("recorded"))
    return found


def teb_of(command: DrpCommand) -> int:
    """The pid of the teb."""
    found = [
        one.pid
        for one in processes_with(command.cookie)
        if one.parent == command.pid and b"--lone" in Path(f"/proc/{one.pid}/cmdline").read_bytes()
    ]
    assert len(found) == 1, found
    return found[0]


def test_the_file_holds_what_the_trigger_script_says(drp: Start, scripts: tuple[Path, str]) -> None:
    script, trigger = scripts
    command = drp(
        script, "--source", "sim:digitizer", "-n", 1000, "-W", 1, "--trigger", trigger, "--prescale", 10
    )
    assert command.wait(60) == 0, command.log
    kept = {n: n % 3 != 0 for n in range(1000) if n % 3 == 0 or n % 10 == 9}
    assert recorded(command) == kept
    assert command.report["ledger"]["recorded_verdict"] == 334
    assert command.report["ledger"]["recorded_prescale"] == len(kept) - 334
    assert command.report["no_verdict"] == command.report["warnings"] == []
    assert "contributors: digitizer_0" in command.log
    assert "INFO drp.trigger: teb: teb0: contributors come to" in command.log
    assert command.left() == []


@pytest.mark.slow
def test_a_signal_reaches_drp_alone_and_ends_both(drp: Start, scripts: tuple[Path, str]) -> None:
    script, trigger = scripts
    command = drp(script, "--source", "sim:digitizer", "--rate", 1000, "-W", 1, "--trigger", trigger)
    command.until_recording(50_000)
    assert os.getsid(teb_of(command)) != os.getsid(command.pid)
    command.signal(signal.SIGINT)
    assert command.wait(20) == 0, command.log
    assert all(n % 3 == 0 for n in recorded(command))
    assert command.report["ledger"]["recorded_no_verdict"] == 0
    assert command.left() == []


@pytest.mark.slow
def test_a_teb_that_is_killed_is_started_again_and_its_events_are_kept(
    drp: Start, scripts: tuple[Path, str], good_second_run: Callable[[], None]
) -> None:
    script, trigger = scripts
    command = drp(
        script, "--source", "sim:digitizer", "--rate", 1000, "-n", 8000, "-W", 1, "--trigger", trigger
    )
    command.until_recording(20_000)
    os.kill(teb_of(command), signal.SIGKILL)
    command.until_logged("teb0 is back")
    assert command.wait(60) == 0, command.log
    found = recorded(command)
    report = command.report
    (lost,) = report["no_verdict"]
    kept = report["ledger"]["recorded_no_verdict"]
    assert lost["trigger"] == "teb0" and lost["events"] == kept > 100
    assert report["ledger"]["recorded_verdict"] > 500 and report["ledger"]["filtered"] > 1000
    unwanted = [n for n in found if n % 3]
    assert unwanted and max(unwanted) - min(unwanted) < kept
    assert all(n in found for n in range(0, 8000, 3))
    assert command.left() == []
    good_second_run()


@pytest.mark.slow
def test_a_trigger_script_that_cannot_be_configured_ends_the_run(
    drp: Start, scripts: tuple[Path, str], folder: Path
) -> None:
    script, _ = scripts
    broken = folder / "broken.py"
    broken.write_text("from drp import TriggerDataSource\nraise ValueError('no such threshold')\n")
    command = drp(script, "--source", "sim:digitizer", "-n", 100, "-W", 1, "--trigger", broken)
    assert command.wait(60) == 1, command.log
    assert "no such threshold" in command.report["error"] + command.log
    assert command.report["ledger"]["total"] == 0
    assert command.left(files=False) == []


@pytest.mark.slow
def test_a_trigger_script_that_raises_costs_no_event(
    drp: Start, scripts: tuple[Path, str], folder: Path
) -> None:
    script, _ = scripts
    raising = folder / "raising.py"
    raising.write_text(
        TRIGGER.replace("    ds.result", "    if evt['digitizer_0'].n == 500: 1 / 0\n    ds.result")
    )
    command = drp(
        script, "--source", "sim:digitizer", "--rate", 1000, "-n", 1500, "-W", 1, "--trigger", f"{raising} 3"
    )
    command.wait(60)
    found = recorded(command)
    assert 500 in found and all(n in found for n in range(0, 1500, 3))
    assert command.report["ledger"]["filtered"] > 500
    assert "ZeroDivisionError" in command.log
    assert command.left() == []


@pytest.mark.slow
def test_no_teb_outlives_a_drp_that_is_killed(
    drp: Start, scripts: tuple[Path, str], good_second_run: Callable[[], None]
) -> None:
    script, trigger = scripts
    command = drp(script, "--source", "sim:digitizer", "--rate", 1000, "-W", 1, "--trigger", trigger)
    command.until_recording(20_000)
    teb = teb_of(command)
    command.signal(signal.SIGKILL)
    command.wait(10)
    assert command.left(files=False) == []
    assert state_of(teb) in ("", "Z")
    good_second_run()
