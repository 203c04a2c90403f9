"""A script may have processes of its own, whichever way multiprocessing starts them."""

from pathlib import Path

import pytest
from drp_command import DrpCommand

from xtc import Reader, TransitionId

POOL = """\
from __future__ import annotations
import concurrent.futures, multiprocessing, sys
import numpy as np
from drp import AlgDef, DataSource, DetectorDef, ScriptError

def double(number: NotThere) -> int:
    return 2 * number

ds = DataSource(drp=drp_info)
info = ds.drp_info
fex = ds.add_detector(
    DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 0, 0, 1), {"x": (np.uint64, 0)}
)

class Point:
    def __init__(self, x):
        self.x = x

def point(number):
    return Point(double(number))

def intrude(_):
    DataSource()

context = multiprocessing.get_context(sys.argv[1])
for run in ds.runs():
    with context.Pool(2) as pool, concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        try:
            pool.map(intrude, [1])
        except ScriptError as error:
            print("refused:", error)
        for evt in run.events():
            both = pool.map(point, [evt.index]) + [executor.submit(double, evt.index).result()]
            fex.fex.x = both[0].x + both[1]
            ds.add_data(fex.fex)
"""
REFUSALS = {
    "fork": "already has a DataSource",
    "spawn": "a process that the script starts is no worker: it gets no events",
    "forkserver": "a process that the script starts is no worker: it gets no events",
}


def semaphores() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("sem.mp-*")}


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_processes_of_a_script_call_its_functions_and_get_no_events(tmp_path: Path, method: str) -> None:
    before = semaphores()
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    command = DrpCommand(
        tmp_path, "-p", f"{script} {method}", "--source", "sim:digitizer:16", "-n", "5", "-W", "1"
    )
    assert command.wait(90) == 0, command.log
    assert "Traceback" not in command.log
    assert f"refused: {REFUSALS[method]}" in command.log.replace("this script ", "")
    assert command.left() == []
    assert semaphores() <= before
    (path,) = (one for one in command.output.rglob("*.xtc2") if "smd" not in one.name)
    events = [dgram for dgram in Reader(path) if dgram.service == TransitionId.L1Accept]
    found = [one.value for dgram in events for one in dgram.fields() if one.names.alg.name == "fex"]
    assert found == [4 * index for index in range(5)]
