"""Processes that are killed and stopped: who it was is named within two seconds, and a good run follows."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from drp import DaqControl
from drp.cli.partition import parser, partition_of
from drp.link.control import Member
from drp.link.keys import Keys
from tests.control.conftest import ROOT, Processes

pytestmark = pytest.mark.timeout(110)
NAMED_S = 2.0


def named(processes: Processes, alias: str, words: str) -> float:
    """Wait until an error or warning names a member, and return how long that took."""
    begin = time.monotonic()
    while True:
        message = processes.hear(("error", "warning"))
        if message.body.get("alias") == alias and words in message.body["err_info"]:
            return time.monotonic() - begin


def good_run(processes: Processes) -> None:
    """A run from wherever the partition is, with everybody, whose ledger closes."""
    assert processes.daq.setState("running") is None, processes.log()
    status = processes.daq.ask("getStatus")
    assert (status["state"], status["gone"], len(processes.aliases(status))) == ("running", [], 4)
    run = status["run_number"]
    assert processes.daq.setState("unallocated") is None, processes.log()
    (path,) = processes.folder.rglob(f"ledgers/tst-r{run:04d}.json")
    assert json.loads(path.read_text())["closes"]


@pytest.mark.slow
def test_runs_one_after_the_other(processes: Processes) -> None:
    processes.all()
    for _ in range(2):
        good_run(processes)
    assert processes.daq.getStatus()[8] == 2


def test_a_drp_that_is_killed_is_named_and_the_run_goes_on(processes: Processes) -> None:
    processes.all()
    assert processes.daq.setState("running") is None
    processes.kill("cam_1")
    assert named(processes, "cam_1", "is gone") < NAMED_S
    assert processes.daq.ask("getStatus")["gone"] == ["drp cam_1"]
    assert processes.daq.setState("configured") is None
    assert "drp cam_1: it is gone" in str(processes.daq.setState("running"))
    processes.member("drp", "cam_1")
    assert processes.daq.setState("reset") is None
    processes.until(lambda status: len(processes.aliases(status)) == 4, "cam_1 is there again")
    good_run(processes)


@pytest.mark.slow
def test_a_member_that_is_stopped_is_named_and_comes_back(processes: Processes) -> None:
    processes.all()
    assert processes.daq.setState("running") is None
    processes.kill("teb0", signal.SIGSTOP)
    assert named(processes, "teb0", "has not been heard") < NAMED_S
    assert processes.daq.ask("getStatus")["silent"] == ["teb teb0"]
    processes.kill("teb0", signal.SIGCONT)
    named(processes, "teb0", "heard again")
    good_run(processes)


@pytest.mark.slow
def test_timing_that_is_killed_is_waited_for_and_the_partition_comes_back(processes: Processes) -> None:
    processes.all()
    assert processes.daq.setState("running") is None
    processes.kill("ts")
    assert named(processes, "ts", "is gone") < NAMED_S
    assert "nothing goes on without it" in processes.daq.ask("getStatus")["broken"]
    processes.member("timing", "ts")
    good_run(processes)


@pytest.mark.slow
def test_a_member_that_dies_of_a_transition_fails_it(processes: Processes) -> None:
    processes.control("-T", "4000", "--record")
    for level, alias, *faults in (
        ("timing", "ts"),
        ("drp", "cam_0"),
        ("drp", "cam_1", "configure=die"),
        ("teb", "teb0"),
    ):
        processes.member(level, alias, *faults)
    processes.until(lambda status: len(processes.aliases(status)) == 4, "all four are there")
    assert processes.daq.setState("running") == "drp cam_1: it is gone: its connection is closed"
    assert processes.daq.getState() == "connected"
    processes.member("drp", "cam_1")
    assert processes.daq.setState("reset") is None
    processes.until(lambda status: len(processes.aliases(status)) == 4, "cam_1 is there again")
    good_run(processes)


@pytest.mark.slow
def test_a_new_control_takes_a_run_over_as_it_is(processes: Processes) -> None:
    processes.all()
    assert processes.daq.setState("running") is None
    processes.kill("control")
    processes.control()
    status = processes.until(lambda status: status["state"] == "running", "the run is taken over")
    assert (status["run_number"], status["recording"]) == (1, True)
    assert processes.daq.setState("unallocated") is None, processes.log()
    good_run(processes)


@pytest.mark.slow
def test_a_new_control_resets_what_it_cannot_take_over(processes: Processes) -> None:
    processes.all()
    assert processes.daq.setState("running") is None
    processes.kill("control")
    processes.kill("cam_1")
    processes.control()
    processes.until(lambda status: status["state"] == "reset" and not status["busy"], "the rest is reset")
    processes.member("drp", "cam_1")
    processes.until(lambda status: len(processes.aliases(status)) == 4, "cam_1 is there again")
    good_run(processes)


@pytest.mark.slow
def test_a_second_control_of_the_partition_is_refused(processes: Processes) -> None:
    processes.control()
    processes.until(lambda status: True, "control is there")
    second = subprocess.run(
        [sys.executable, "-c", "import sys, drp_start; sys.exit(drp_start.control())", "-P", "tst"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "another process serves that name" in second.stderr


@pytest.mark.slow
def test_control_ends_in_good_order_when_it_is_asked_to(processes: Processes) -> None:
    processes.control()
    processes.until(lambda status: True, "control is there")
    processes.kill("control", signal.SIGTERM)
    assert processes.named.pop("control").wait(30) == 0
    assert "the partition stays as it is" in processes.log()


@pytest.mark.slow
def test_daqstate_drives_a_partition_from_a_shell(processes: Processes) -> None:
    def daqstate(*words: str) -> subprocess.CompletedProcess[str]:
        program = "import sys, drp_start; sys.exit(drp_start.daqstate())"
        return subprocess.run(
            [sys.executable, "-c", program, "-P", "tst", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert "control has not been heard" in daqstate("-t", "200").stderr
    processes.control("-T", "4000")
    for level, alias, *faults in (
        ("timing", "ts"),
        ("drp", "cam_0", "late:configure=fail"),
        ("drp", "cam_1", "configure=fail"),
    ):
        processes.member(level, alias, *faults)
    processes.until(lambda status: len(processes.aliases(status)) == 3, "all three are there")
    failed = daqstate("--state", "running")
    assert (failed.returncode, failed.stderr) == (1, "daqstate: drp cam_1: cam_1 cannot configure\n")
    processes.kill("cam_1")
    processes.until(lambda status: status["gone"] == ["drp cam_1"], "cam_1 is gone")
    assert daqstate("--state", "reset").returncode == 0
    failed = daqstate("--state", "running")
    assert (failed.returncode, failed.stderr) == (
        1,
        "daqstate: warning: drp cam_1 took part before, and does not now\n"
        "daqstate: drp cam_0: script.py: the script raised\nline 7\n",
    )
    told = daqstate().stdout
    assert told.startswith(
        "last transition: unconfigure  state: connected  configuration alias: BEAM  recording: False"
    )
    assert daqstate("--transition", "enable").returncode == 1
    assert daqstate("--record", "1").returncode == 0
    assert daqstate("--config", "NOBEAM").returncode == 0
    assert daqstate("-B", "--record", "1").returncode == 2
    assert daqstate("--phase1", "[]", "--state", "running").returncode == 2


@pytest.mark.slow
def test_steps_of_a_scan_reach_the_members(processes: Processes) -> None:
    processes.all()
    daq = DaqControl(host="localhost", platform=0, timeout=40000)
    steps = [{"motor": 1.0}, {"motor": 2.0}]
    assert list(daq.scan(steps)) == steps
    assert daq.getState() == "starting"
    assert daq.getInstrument() == "tst"
    assert daq.setState("unallocated") is None
    daq.close()


@pytest.mark.slow
def test_over_the_network_only_who_has_the_keys_comes_in(processes: Processes) -> None:
    keys, others = (Keys.make(processes.folder / name) for name in ("keys", "others"))
    folder = str(processes.folder / "keys")
    processes.control("-p", "7", "--keys", folder)
    daq = DaqControl(host=socket.gethostname(), platform=7, timeout=40000, keys=folder)
    assert daq.getInstrument() == "tst"
    place = partition_of(parser("drp", "x").parse_args(["-p", "7", "--keys", folder])).control
    stranger = Member(place, others, level="drp", alias="stranger")
    member = Member(place, keys, level="drp", alias="cam_0")
    try:
        while not daq.getPlatform():
            daq.news(10000)
        aliases = [one["proc_info"]["alias"] for one in daq.getPlatform()["drp"].values()]
        assert aliases == ["cam_0"]
        assert not stranger.connected
        refused = DaqControl(
            host=socket.gethostname(), platform=7, timeout=300, keys=processes.folder / "others"
        )
        assert refused.getInstrument() is None
        refused.close()
    finally:
        member.close()
        stranger.close()
        daq.close()
