"""Processes that the real procServ keeps (Debian: procserv)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.launch import Command
from drp.launch.keepers import default_keeper, keeper_named
from tests.real.conftest import psana_environment
from tests.support.demo import Demo, check_whole_run
from tests.support.drp_fixtures import folder_in_memory
from tests.support.kept import World, gone, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("procServ") is None, reason="no procServ: apt-get install procserv"),
]

STREAMS = Path(__file__).with_name("psana_streams.py")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with folder_in_memory() as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        one = World(path, keeper_named("procServ"))
        yield one
        one.stop(limit_s=0.1)


def test_it_is_chosen_where_it_is_installed() -> None:
    assert default_keeper().name == "procServ"


def test_what_is_started_stands_and_is_stopped_without_a_trace(world: World) -> None:
    lines = world.start(world.command("a", "ready", interrupts=True), world.command("b", "ready", A="1"))
    assert [line.state for line in lines.values()] == ["running", "running"]
    assert (world.told("b")["pid"], world.told("b")["env"]["A"]) == (lines["b"].pid, "1")
    servers = [record.kept_by.pid for record in world.procmgr.folder.records().values()]
    stopped = world.stop()
    assert {name: (line.state, line.code) for name, line in stopped.items()} == {
        "a": ("stopped", 10),
        "b": ("stopped", 11),
    }
    for pid in servers:
        gone(pid)
    assert world.left() == []


def test_its_console_is_a_socket_that_only_this_user_reaches(world: World) -> None:
    world.start(world.command("a", "ready"))
    folder = world.procmgr.folder.path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(10)
        console.connect(str(folder / "a.sock"))
        said = b""
        while b'Child "a" PID:' not in said:
            said += console.recv(4096)
    server = world.procmgr.folder.records()["a"].kept_by.pid
    inodes = {os.readlink(f"/proc/{server}/fd/{fd}") for fd in os.listdir(f"/proc/{server}/fd")}
    listening = [
        row.split()[9]
        for name in ("tcp", "tcp6")
        for row in Path(f"/proc/{server}/net/{name}").read_text().splitlines()[1:]
    ]
    assert not inodes & {f"socket:[{inode}]" for inode in listening}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE])
def test_signals_reach_what_it_keeps(world: World, number: signal.Signals) -> None:
    line = world.start(Command("a", "sleep", ("/bin/sleep", "600")))["a"]
    assert line.pid is not None
    os.kill(line.pid, number)
    gone(line.pid)
    assert world.status()["a"].code == -number


def test_one_that_fails_says_how_and_is_not_started_again(world: World) -> None:
    line = world.start(world.command("a", "exit=3"))["a"]
    assert (line.state, line.code) == ("failed", 3)
    assert "these are its last words" in line.text
    again = world.status()["a"]
    assert (again.state, again.pid) == ("exited", line.pid)
    assert world.start(world.command("a", "ready"))["a"].state == "running"


def test_one_that_heeds_nothing_is_killed_with_all_of_its_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drp.launch.procmgr.SECOND_ASK_S", 0.1)
    world.start(world.command("a", "ready", "deaf", "child"))
    line = world.stop(limit_s=0.1)["a"]
    assert (line.state, line.code, line.text) == ("stopped", -9, "had to be killed")
    gone(world.told("a")["child"])
    assert world.left() == []


def test_where_procserv_is_killed_its_process_is_still_told_and_stopped(world: World) -> None:
    line = world.start(world.command("a", "ready", "deaf"))["a"]
    record = world.procmgr.folder.records()["a"]
    record.kept_by.signal(signal.SIGKILL)
    gone(record.kept_by.pid)
    assert line.pid is not None
    until(lambda: world.status()["a"].state in ("running", "exited"), "nothing is told")
    assert world.stop(limit_s=0.1)["a"].state == "stopped"
    gone(line.pid)
    assert world.left() == []


def test_one_that_was_started_by_a_procmgr_that_died_is_not_there_twice(world: World) -> None:
    first = world.start(world.command("a", "ready"))["a"]
    server = world.procmgr.folder.records()["a"].kept_by.pid
    (world.procmgr.folder.path / "a.process").unlink()
    second = world.start(world.command("a", "ready"))["a"]
    assert second.state == "running"
    assert first.pid is not None
    gone(first.pid)
    gone(server)


@pytest.mark.timeout(240)
def test_psana_event_builds_the_10000_events_that_the_demo_partition_took(psana: Any) -> None:
    with folder_in_memory() as folder:
        demo = Demo(folder, "procServ", 10_000)
        try:
            check_whole_run(demo)
            recorded = next(iter(demo.recorded().values()))
            done = subprocess.run(
                [psana.python, STREAMS, "tst", "1", folder / "demo-out" / "tst" / "tst" / "xtc"],
                capture_output=True,
                timeout=90,
                check=False,
                env=psana_environment(),
                text=True,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            said = json.loads(done.stdout)
            assert said["timestamps"] == recorded
            assert said["streams"] == [[True, True, True]] * len(recorded)
            assert "timing" in said["detnames"]
            assert 0 < said["with_42"] <= demo.events / 10
        finally:
            demo.call("procmgr", "stop", str(demo.file), "--stop-timeout", "1")
