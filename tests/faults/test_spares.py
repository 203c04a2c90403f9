"""A spare sees runs begin and end and takes no event: nothing of that may cost the run anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand
from tests.support.plain_xtc2 import PlainFile

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]

HEAD = """\
import os, sys, time
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

folder = sys.argv[1]

def touch(name):
    open(f"{folder}/{name}", "a").close()

def wait_for(name):
    until = time.monotonic() + 30
    while not os.path.exists(f"{folder}/{name}"):
        assert time.monotonic() < until, name
        time.sleep(0.001)
"""
# The spare answers its first Configure only when the workers are at an event of the second.
TWO_CONFIGURES = (
    HEAD
    + """
ds = DataSource()
info = ds.drp_info
spare = info.worker_num == 1
second = os.path.exists(f"{folder}/first-done")
if spare and not second:
    touch("spare-configures")
    wait_for("second-begun")
fex = ds.add_detector(
    DetectorDef(info.det_name, info.det_type, info.det_id),
    AlgDef("fex", 0, 0, 1),
    {"index": (np.uint64, 0), "y" if second else "x": (np.uint64, 0)},
)
for run in ds.runs():
    if spare:
        touch("spare-runs-2" if os.path.exists(f"{folder}/spare-runs-1") else "spare-runs-1")
    for evt in run.events():
        if second and evt.index == 0:
            touch("second-begun")
            wait_for("spare-runs-2")
        fex.fex.index = evt.index
        if second:
            fex.fex.y = evt.index
        else:
            fex.fex.x = evt.index
        ds.add_data(fex.fex)
        wait_for("spare-configures")
    touch("first-done")
"""
)
PASS = "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n        pass\n"


def record(drp: Start, folder: Path, run: int, events: int) -> Path:
    """Record simulated events, raw."""
    script = folder / "pass.py"
    script.write_text(PASS)
    output = folder / f"in-{run}"
    command = drp(script, "--source", f"sim:digitizer:16,run={run}", "-n", str(events), output=output)
    assert command.wait(60) == 0, command.log
    return command.file()


def files_of(output: Path) -> list[PlainFile]:
    paths = (path for path in output.glob("*/*/xtc/*.xtc2") if "smd" not in path.name)
    return [PlainFile(path) for path in sorted(paths)]


def test_a_spare_that_is_a_configure_behind_is_compared_with_the_one_it_answers(
    drp: Start, folder: Path
) -> None:
    sources = [str(record(drp, folder, run, 50)) for run in (1, 2)]
    script = folder / "script.py"
    script.write_text(TWO_CONFIGURES)
    command = drp(f"{script} {folder}", "--source", *sources, "-W", "1")
    assert command.wait(60) == 0, command.log
    assert "NamesDiffer" not in command.log
    assert command.report["restarts"] == 0
    first, second = files_of(command.output)
    assert [one.find("fex")["x"] for one in first.events] == list(range(50))
    assert [one.find("fex")["y"] for one in second.events] == list(range(50))
    assert command.left() == []


AFTER_THE_LOOP = (
    HEAD
    + """
ds = DataSource()
spare = ds.drp_info.worker_num == 1
for run in ds.runs():
    if spare:
        touch(f"spare-begins-{run.runnum}")
    for evt in run.events():
        wait_for(f"spare-begins-{run.runnum}")
        last = evt.index
    touch(f"ended-{last}-by-{ds.drp_info.worker_num}")
"""
)


def test_code_after_the_event_loop_that_needs_an_event_is_nothing_to_a_spare(
    drp: Start, folder: Path
) -> None:
    sources = [str(record(drp, folder, run, 20)) for run in (1, 2)]
    script = folder / "script.py"
    script.write_text(AFTER_THE_LOOP)
    command = drp(f"{script} {folder}", "--source", *sources, "-W", "1", "--on-script-failure", "stop")
    assert command.wait(60) == 0, command.log
    assert "NameError" not in command.log
    assert command.report["restarts"] == 0
    assert command.report["failure_kinds"] == {}
    assert sorted(path.name for path in folder.glob("ended-*")) == ["ended-19-by-0"]
    assert command.left() == []
