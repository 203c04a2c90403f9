"""Transitions that come in damaged: the input is told of, and no worker or script is blamed."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, write_script
from tests.support.judge import judge
from tests.support.plain_xtc2 import BEGIN_RUN, CONFIGURE, SLOW_UPDATE

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]


def damaged(source: Path, folder: Path, service: int) -> Path:
    """Copy a recording, and have the first child of each dgram of `service` claim one byte more than there is."""
    target = folder / "damaged.xtc2"
    shutil.copyfile(source, target)
    target.chmod(0o600)
    at, spoilt = 0, 0
    with target.open("r+b") as file:
        while head := file.read(24):
            extent = struct.unpack_from("<I", head, 20)[0]
            if head[11] & 15 == service and extent > 12:
                file.seek(at + 32)
                file.write(struct.pack("<I", extent - 12 + 1))
                spoilt += 1
            at += 12 + extent
            file.seek(at)
    assert spoilt
    return target


def recorded(drp: Start, folder: Path) -> Path:
    script = folder / "pass.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n        pass\n"
    )
    command = drp(script, "--source", "sim:digitizer,slow=100", "-n", "200", output=folder / "in")
    assert command.wait(60) == 0, command.log
    return command.file()


def test_a_damaged_environment_costs_no_worker(drp: Start, folder: Path) -> None:
    source = damaged(recorded(drp, folder), folder, SLOW_UPDATE)
    command = drp(write_script(folder), "--source", str(source), "-W", "2")
    assert command.wait(60) == 0, command.log
    assert command.report["failure_kinds"] == {}
    assert command.report["restarts"] == 0
    assert "20 SlowUpdates had extents that do not add up" in command.log
    assert judge(command.file()).damaged == {}
    assert command.left() == []


@pytest.mark.parametrize(("service", "name"), [(CONFIGURE, "Configure"), (BEGIN_RUN, "BeginRun")])
def test_a_run_that_cannot_begin_for_its_input_blames_the_input(
    drp: Start, folder: Path, service: int, name: str
) -> None:
    source = damaged(recorded(drp, folder), folder, service)
    command = drp(write_script(folder), "--source", str(source), "-W", "2")
    code = command.wait(60)
    assert code in (1, 2), command.log
    if code == 1:
        assert f"the {name} it gives cannot be read" in command.report["error"]
        assert command.report["failure_kinds"] == {}
    assert "Mend the script" not in command.log
    assert command.left() == []
