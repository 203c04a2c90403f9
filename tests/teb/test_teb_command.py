"""The teb command as a process: with a script, without, as a member of a partition, and in the hands of signals and strangers."""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_control import FakeControl
from intruder import on_file, on_socket, succeed
from teb_stand_in import COMMAND, LIMIT_S, ROOT, StandIn, teb_command

from drp.cli.teb import main
from drp.core.wire import MONITOR_SHIFT, PERSIST
from drp.link.sockets import Endpoint, well_known
from drp.teb.process import STALL_NS, Clock
from xtc import TransitionId

PEAKS = np.dtype([("npeaks", "<u4")])
WORDS = [("npeaks", "UINT32")]
SCRIPT = """
from drp import TriggerDataSource
ds = TriggerDataSource()
for evt in ds.events():
    ds.result(evt["epix_0"].npeaks > 15, 1)
"""


@pytest.fixture
def name() -> str:
    return f"teb-{secrets.token_hex(4)}"


def peaks(*values):
    return np.array([(one,) for one in values], PEAKS)


def test_a_script_decides_for_a_lone_drp(name, tmp_path):
    script = tmp_path / "trigger.py"
    script.write_text(SCRIPT)
    with teb_command(name, "-p", str(script)) as process, StandIn(well_known(name)) as drp:
        drp.hello()
        drp.configure(1, WORDS, 4)
        assert drp.await_transition("Configure")["missing"] == []
        drp.events([10, 11, 12], peaks(15, 16, 17))
        drp.await_verdicts(3)
        monitored = 1 << MONITOR_SHIFT
        assert [drp.verdicts[i][0] for i in range(3)] == [monitored, PERSIST | monitored, PERSIST | monitored]
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


def test_a_script_that_fails_at_its_configure_ends_a_lone_teb_with_its_traceback(name, tmp_path):
    script = tmp_path / "trigger.py"
    script.write_text("from drp import TriggerDataSource\nds = TriggerDataSource()\n1 / 0\n")
    log = tmp_path / "log"
    with teb_command(name, "-p", str(script), log=log) as process, StandIn(well_known(name)) as drp:
        drp.hello()
        drp.configure(1)
        drp.until(lambda: bool(drp.errors) or process.poll() is not None, "the end")
        assert all("ends" in one for one in drp.errors)  # none where this process was too slow to read it
        assert process.wait(LIMIT_S) == 1
        assert "ZeroDivisionError" in log.read_text()
        assert not drp.transitions


def test_a_lone_teb_ends_with_the_process_that_started_it(name, tmp_path):
    told = tmp_path / "pid"
    starter = (
        "import subprocess, sys, pathlib\n"
        f"p = subprocess.Popen([sys.executable, '-c', {COMMAND!r}, '--lone', 'epix_0', '--serve', {name!r}])\n"
        f"pathlib.Path({str(told)!r}).write_text(str(p.pid))\n"
        "sys.stdin.read(1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with StandIn(well_known(name)) as drp:
        drp.hello()
        pid = int(told.read_text())
        watched = os.pidfd_open(pid)
        process.kill()
        process.wait(LIMIT_S)
        assert select.select([watched], [], [], LIMIT_S)[0]
        os.close(watched)
    process.stdin.close()


@pytest.mark.slow
def test_a_teb_that_was_stopped_calls_nobody_late(name):
    stopped_s = 5.0
    both = ["--lone", "hsd_0", "--eb-timeout", "4"]
    with (
        teb_command(name, *both) as process,
        StandIn(well_known(name)) as one,
        StandIn(well_known(name), 1) as two,
    ):
        for drp in (one, two):
            drp.hello()
            drp.configure(1)
        for drp in (one, two):
            drp.await_transition("Configure")
        one.events([10])
        process.send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)  # the time that it is stopped for is what is tried
        process.send_signal(signal.SIGCONT)
        two.events([10])
        one.await_verdicts(1)
        assert one.verdicts[0] == (PERSIST, 0, 0)


def test_a_configure_may_name_another_script(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text(SCRIPT)
    second.write_text(SCRIPT.replace("> 15", "> 16"))
    with FakeControl() as control, teb_command("", "-u", "teb0", "-p", str(first), lone=""):
        control.await_members("teb0")
        connect = control.command("teb0", "alloc", {})["connect_info"]
        control.command("teb0", "connect", {"partition": {"drp": {"epix_0": {"id": 0, "readout": 0}}}})
        endpoint = Endpoint.from_dict(connect["endpoint"])
        with StandIn(endpoint) as drp:
            for epoch, script, kept in ((1, None, 2), (2, [str(second)], 1), (3, None, 2)):
                assert control.command("teb0", "configure", {"epoch": epoch, "script": script}) == {}
                drp.epoch = epoch
                drp.hello()
                drp.configure(1, WORDS, 4)
                drp.events([10, 11, 12], peaks(15, 16, 17))
                drp.await_verdicts(3 * epoch)
                results = [drp.verdicts[seq][0] for seq in range(3 * epoch - 3, 3 * epoch)]
                assert sum(bool(one & PERSIST) for one in results) == kept
            asked = {"epoch": 4, "script": [str(tmp_path / "none.py")]}
            assert "no trigger script" in control.command("teb0", "configure", asked)["err_info"]["what"]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is played by root")
def test_another_user_does_not_get_at_the_socket(name):
    endpoint = well_known(name)
    path = Path(endpoint.address.removeprefix("ipc://"))
    with teb_command(name), StandIn(endpoint) as drp:
        drp.hello()
        assert (
            succeed({**on_socket(str(path), socket.AF_UNIX), **on_file(path), **on_file(path.parent)}) == []
        )
        drp.configure(1)
        drp.events([10])
        drp.await_verdicts(1)


@pytest.mark.parametrize(
    "argv",
    [
        ["--lone", "a b"],
        ["--lone", "a:99"],
        ["--prescale", "-1"],
        ["--eb-timeout", "0"],
        ["--window", "0"],
        ["-k", "eb_timeout=x"],
        ["--keep-if", "npeaks >"],
        ["-p", "a.py", "--keep-if", "npeaks > 1"],
        ["-p", "a.py", "-p", "b.py"],
        ["-p", "9"],
        ["-C", "elsewhere"],
        ["--nonsense"],
    ],
)
def test_options_that_cannot_be_used_are_refused(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("teb: ")


def test_time_in_which_the_teb_itself_was_stopped_counts_for_nobody():
    at = [0]
    clock = Clock(lambda: at[0])
    at[0] = 1000
    clock.turn(0)
    assert clock.now_ns() == 1000
    at[0] += 10 * STALL_NS
    clock.turn(0)
    assert clock.now_ns() == 1000
    at[0] += 10 * STALL_NS
    clock.turn(10 * STALL_NS)
    assert clock.now_ns() == 1000 + 10 * STALL_NS


def test_a_member_does_what_control_says_and_tells_when_it_is_done(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    drps = {"epix_0": {"id": 2, "readout": 0}, "hsd_0": {"id": 5, "readout": 0}}
    short = ("--eb-timeout", "0.3")
    with FakeControl() as control, teb_command("", "-u", "teb0", *short, lone="") as process:
        control.await_members("teb0")
        connect = control.command("teb0", "alloc", {"id": 0, "platform": 0})["connect_info"]
        assert connect["timeout_s"] == 0.3
        assert (
            control.command("teb0", "connect", {"partition": {"drp": drps, "meb": {"meb0": {"id": 0}}}}) == {}
        )
        assert control.command("teb0", "configure", {"epoch": 4, "trigger": None}) == {}
        endpoint = Endpoint.from_dict(connect["endpoint"])
        with StandIn(endpoint, 2, "epix_0", epoch=4) as one, StandIn(endpoint, 5, "hsd_0", epoch=4) as two:
            for drp in (one, two):
                drp.hello()
                drp.configure(1)
            assert control.await_told("timingTransition", "teb0", service="Configure")["error"] is None
            one.events([10])
            two.events([10])
            one.await_verdicts(1)
            one.events([11])
            assert "hsd_0" in control.await_told("warning", "teb0")["what"]
            one.await_verdicts(2)
            one.events([12])
            control.send("teb0", "gone", {"level": "drp", "alias": "hsd_0", "id": 5})
            one.await_verdicts(3)
            one.transition(TransitionId.Disable, 13)
            told = control.await_told("timingTransition", "teb0", service="Disable")
            assert (told["pulse_id"], told["error"]) == (13, None)
            assert control.command("teb0", "reset") == {}
            one.until(lambda: bool(one.errors), "goodbye")
            assert "err_info" in control.command("teb0", "connect", {"partition": {"drp": {"a": {"id": 99}}}})
            assert "err_info" in control.command("teb0", "configure", {})
            asked = {"epoch": 5, "script": ["other.py"]}
            assert "runs no script" in control.command("teb0", "configure", asked)["err_info"]["what"]
            control.command("teb0", "configure", {"epoch": 5})
            one.epoch = 5
            one.hello()
            assert one.window
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
