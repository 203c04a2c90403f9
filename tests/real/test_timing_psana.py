"""The timing stream is one that psana's timing detector reads: event codes, pulse ids, destination."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.link.sockets import well_known
from drp.timing.journal import read_journal
from tests.conftest import ROOT
from tests.real.conftest import Psana, psana_environment
from tests.support.drp_command import DrpCommand
from tests.support.drp_fixtures import folder_in_memory
from tests.support.partition import EXPERIMENT, PLAIN, WORDS, World, partition
from xtc import TransitionId

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
ORACLE = Path(__file__).with_name("psana_timing.py")
TIMING = "import sys; from drp_start import timing; sys.exit(timing())"
EVENTS = 600
STEP = {"motor9": 2.5, "step_value": 7.0, "step_docstring": "{}"}
SCRIPT = ROOT / "drp" / "timing" / "ts_script.py"


def test_psana_reads_event_codes_as_they_were_fired(
    psana: Psana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [word for code in ("40:/1", "42:/10", "272:/3+1") for word in ("--event-code", code)]
    with folder_in_memory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        words = [
            "--alone",
            "1",
            "-n",
            "500",
            "-o",
            str(tmp_path),
            "--expt",
            "xpp1",
            "--run",
            "3",
            "--destination",
            "4",
        ]
        timing = subprocess.Popen([sys.executable, "-c", TIMING, *words, *codes], stdout=subprocess.PIPE)
        source = f"triggered:{well_known('timing-tst-p0').address},inner=ts"
        drp = DrpCommand(tmp_path, "-p", str(SCRIPT), "--source", source)
        try:
            assert drp.wait() == 0, drp.log
            assert timing.wait(30) == 0
        finally:
            drp.destroy()
            timing.kill()
            timing.communicate()
    done = subprocess.run(
        [psana.python, ORACLE, drp.file()],
        capture_output=True,
        text=True,
        timeout=100,
        env=psana_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout)
    assert (said["experiment"], said["run"]) == ("xpp1", 3)
    _, records = read_journal(tmp_path / "tst-xpp1-r0003.triggers")
    fired = records[records["env"] >> 24 == TransitionId.L1Accept]
    bits = np.unpackbits(np.ascontiguousarray(fired["event_codes"]).view(np.uint8), axis=1, bitorder="little")
    expected = [
        {
            "timestamp": int(one["timestamp"]),
            "pulse_id": int(one["pulse_id"]),
            "codes": np.flatnonzero(row).tolist(),
            "destination": 4,
            "inhibited": [0] * 8,
        }
        for one, row in zip(fired, bits, strict=True)
    ]
    assert said["events"] == expected
    assert {40, 42, 272} == {code for one in expected for code in one["codes"]}


def value(stream: Any, field: str) -> Any:
    (found,) = [one for one in stream["fields"] if one["field"] == field]
    return found


def test_psana_builds_the_timing_stream_with_the_others_and_knows_the_step(
    psana: Psana, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_in_memory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        with partition(folder) as world:
            check_streams(world, psana)


def check_streams(world: World, psana: Psana) -> None:
    world.out.mkdir()
    (world.folder / "journal").symlink_to(world.out)
    world.timing(
        "--rate", 1000, "--group", "1:/10", "-n", EVENTS, "--stream", "--event-code", "40:/1", "-S", 10
    )
    world.drp("epixhr_0", world.script(WORDS))
    world.drp("epixhr_1", world.script(PLAIN, "plain.py"), "--group", 1)
    world.lines["timing_0"] = ["drp"]  # which timing starts
    world.lead()
    world.go("running", {"configure": {"step_keys": ["motor9"]}, "beginstep": {"step_values": STEP}})
    world.until(lambda: len(world.triggered(1)) >= EVENTS, "all events")
    world.go("unallocated")
    (run,) = psana.run(EXPERIMENT, 1, next(world.out.rglob("smalldata")).parent)
    assert [event["timestamp"] for event in run["events"]] == world.triggered(1)
    there = [[stream is not None for stream in event["streams"]] for event in run["events"]]
    assert there == [[True, n % 10 == 0, True] for n in range(EVENTS)]
    assert ["motor9", "raw"] in run["scaninfo"]
    assert {"epixhr", "timing"} <= set(run["detnames"])
    pulses = [value(event["streams"][2], "pulseId")["value"] for event in run["events"]]
    assert pulses == [int(one) for one in world.journal(1)["pulse_id"][is_event(world)]]


def is_event(world: World) -> Any:
    return world.journal(1)["env"] >> 24 & 0xF == 12
