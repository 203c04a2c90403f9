"""--check-jit: kernels that are compiled while an event waits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dgrams import Builder
from drp_command import COMMAND
from script_feed import Script
from sim_files import drp, write_run

from drp.engine.script_text import kernels_of
from drp.script.worker import EXIT_SCRIPT_FAILED, EXIT_STOPPED
from xtc import TransitionId

SCRIPT = """import numba
import numpy as np
from drp import DataSource

@numba.njit(cache={cache})
def doubled(x):
    return 2 * x

ds = DataSource()
for run in ds.runs():
    doubled(np.zeros(3, np.float32))
    for evt in run.events():
        doubled(np.zeros(3, np.{dtype}))
    doubled(3)
"""


def run_of() -> list[bytes]:
    builder = Builder(1)
    return [builder.configure(), *builder.run(3), builder.bare(TransitionId.Unconfigure)]


def test_a_kernel_compiled_before_and_after_the_events_is_in_order(script: Script) -> None:
    code, _ = script(SCRIPT.format(cache=False, dtype="float32"), run_of(), check_jit=True)
    assert code == EXIT_STOPPED


@pytest.mark.parametrize("cache", [False, True])
def test_one_compiled_at_an_event_fails_it_and_is_named(script: Script, cache: bool) -> None:
    text = SCRIPT.format(cache=cache, dtype="float64")
    assert script(text, run_of())[0] == EXIT_STOPPED  # and with cache=True it is on disk now
    code, feed = script(text, run_of(), check_jit=True)
    answer = feed.answers[-1]
    assert code == EXIT_SCRIPT_FAILED
    assert answer.service == TransitionId.L1Accept
    assert answer.json["kind"] == "LateKernel"
    assert "doubled(array(float64, 1d, C)) is compiled while an event waits" in answer.json["message"]
    assert "script.py" in answer.json["traceback"]
    code, _ = script(text, run_of())  # nothing is watched any more
    assert code == EXIT_STOPPED


def test_the_command_fails_with_it(tmp_path: Path) -> None:
    script = tmp_path / "late.py"
    script.write_text(SCRIPT.format(cache=False, dtype="float64"))
    words = ["-p", script, "--source", "sim:digitizer", "-n", 20, "-W", 1, "--check-jit"]
    report = tmp_path / "report.json"
    command = [sys.executable, "-c", COMMAND, *map(str, words), "--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert "doubled(array(float64, 1d, C)) is compiled while an event waits" in done.stderr
    assert json.loads(report.read_text())["closes"]


CALIBRATES = """from drp import DataSource

for run in DataSource().runs():
    det = run.Detector("epixhr", calib=True)
    for evt in run.events():
        det.raw.calib(evt)
"""


def test_what_calibrates_is_compiled_before_the_events_offline_as_live(tmp_path: Path) -> None:
    store, script = tmp_path / "calib.db", tmp_path / "calibrates.py"
    run = write_run(tmp_path / "run.xtc2", f"sim:epixhr,segments=1,constants={store}", 3)
    script.write_text(CALIBRATES)
    for words in (("--offline",), ("-W", 1)):
        done = drp("-p", script, "--source", run, "--calib", store, "--check-jit", *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("from drp.fex import Roi", []),
        ("from drp.fex import NoSuchThing", []),
        ("import drp.fex.no_such_module", []),
        ("import drp.fex.roi.deeper", []),
        ("def f(:", []),
        ("x = 1", []),
    ],
)
def test_modules_without_kernels_are_not_called(tmp_path: Path, text: str, wanted: list[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    assert list(kernels_of(script)) == wanted
    assert kernels_of(tmp_path / "nowhere.py") == ()
