"""Processes that our own supervisor keeps: started, looked at, stopped, and nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from drp.launch import Command, LaunchError
from drp.launch.identity import Identity, identity_of
from drp.launch.records import Folder
from drp.link.ready import say_ready
from tests.support.kept import World, descriptors, gone, until


def test_what_is_started_stands_and_is_stopped_without_a_trace(world: World) -> None:
    before = descriptors()
    lines = world.start(world.command("a", "ready"), world.command("b", "ready", A="1"))
    assert [line.state for line in lines.values()] == ["running", "running"]
    assert lines["b"].pid == world.told("b")["pid"]
    assert world.told("b")["env"]["A"] == "1"
    stopped = world.stop()
    assert {name: (line.state, line.code) for name, line in stopped.items()} == {
        "a": ("stopped", 11),
        "b": ("stopped", 11),
    }
    for line in lines.values():
        assert line.pid is not None
        gone(line.pid)
    assert world.left() == []
    assert descriptors() == before


def test_flag_s_stops_with_ctrl_c(world: World) -> None:
    world.start(world.command("a", "ready", interrupts=True))
    assert world.stop()["a"].code == 10


def test_logs_lie_in_folders_by_date_under_host_and_id(world: World) -> None:
    log = Path(world.start(world.command("a", "ready"))["a"].log)
    year, month, name = log.relative_to(world.folder / "logs").parts
    assert (len(year), len(month)) == (4, 2)
    assert name.endswith(f"_{os.uname().nodename}:a.log")
    until(lambda: "stands" in log.read_text(), "nothing was printed")
    world.stop()
    assert world.start(world.command("a", "ready"))["a"].log != str(log)


def test_starting_twice_changes_nothing(world: World) -> None:
    first = world.start(world.command("a", "ready"))["a"]
    second = world.start(world.command("a", "ready"), world.command("b", "ready"))
    assert (second["a"].pid, second["a"].text) == (first.pid, "runs already")
    assert second["b"].state == "running"


def test_stopping_twice_changes_nothing(world: World) -> None:
    world.start(world.command("a", "ready"))
    world.stop()
    assert world.stop() == {}


def test_one_that_fails_says_how_and_the_others_run(world: World) -> None:
    lines = world.start(world.command("a", "exit=3"), world.command("b", "ready"))
    assert (lines["a"].state, lines["a"].code, lines["a"].text) == ("failed", 3, "these are its last words")
    assert lines["b"].state == "running"
    assert world.status()["a"].state == "exited"
    assert world.start(world.command("a", "ready"))["a"].state == "running"


def test_one_that_cannot_be_started_says_why(world: World) -> None:
    lines = world.start(Command("a", "x", (str(world.folder / "nothing"),)), world.command("b", "ready"))
    assert (lines["a"].state, lines["a"].text) == ("failed", "No such file or directory")
    assert lines["b"].state == "running"


def test_one_that_does_not_say_that_it_stands_is_told_after_the_limit(world: World) -> None:
    line = world.start(world.command("a", "mute"), limit_s=0.2)["a"]
    assert line.state == "starting"
    assert "has not said within 0.2 s" in line.text


def test_one_of_which_nothing_is_expected_only_has_to_run(world: World) -> None:
    assert world.start(world.command("a"))["a"].state == "running"


def test_only_the_ids_that_are_named_are_stopped(world: World) -> None:
    world.start(world.command("a", "ready"), world.command("b", "ready"))
    assert list(world.stop("b")) == ["b"]
    assert world.status()["a"].state == "running"


def test_control_is_stopped_after_what_takes_data(world: World) -> None:
    kinds = {"c": "control", "t": "timing", "e": "teb", "d": "drp"}
    world.start(*(world.command(name, "ready", kind=kind) for name, kind in kinds.items()))
    assert list(world.stop()) == ["d", "t", "e", "c"]


def test_one_that_heeds_nothing_is_killed_with_all_of_its_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drp.launch.procmgr.SECOND_ASK_S", 0.1)
    world.start(world.command("a", "ready", "deaf", "child"))
    line = world.stop(limit_s=0.1)["a"]
    assert (line.state, line.code, line.text) == ("stopped", -9, "had to be killed")
    gone(world.told("a")["child"])


def test_what_a_process_leaves_behind_is_ended_too(world: World) -> None:
    world.start(world.command("a", "ready", "child"))
    world.stop()
    gone(world.told("a")["child"])


def test_status_tells_how_one_ended_by_itself(world: World) -> None:
    pid = world.start(world.command("a", "ready"))["a"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    line = world.status()["a"]
    assert (line.state, line.code) == ("exited", -9)
    stopped = world.stop()["a"]
    assert (stopped.code, stopped.text) == (-9, "had ended before")


def test_processes_outlive_their_supervisor_and_can_be_stopped(world: World) -> None:
    line = world.start(world.command("a", "ready"))["a"]
    record = world.procmgr.folder.records()["a"]
    assert record.kept_by.signal(signal.SIGKILL)
    gone(record.kept_by.pid)
    assert world.status()["a"].state == "running"
    stopped = world.stop()["a"]
    assert (stopped.state, stopped.code) == ("stopped", None)
    assert line.pid is not None
    gone(line.pid)


def test_a_pid_that_is_anothers_by_now_is_left_alone(world: World) -> None:
    stranger = subprocess.Popen(
        [sys.executable, "-ISc", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        world.start(world.command("a", "ready"))
        record = world.procmgr.folder.records()["a"]
        world.stop()
        found = identity_of(stranger.pid)
        assert found is not None
        world.procmgr.folder.write(
            replace(record, process=replace(found, ticks=found.ticks - 1), kept_by=found)
        )
        world.procmgr.folder.write(
            replace(record, process=replace(found, boot="another"), kept_by=Identity(stranger.pid, 1, ""))
        )
        assert world.status()["a"].state == "exited"
        assert world.stop()["a"].text == "had ended before"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_processes_heed_ctrl_c_though_procmgr_ignores_it(world: World) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        world.start(Command("a", "sleep", ("/bin/sleep", "600"), interrupts=True))
    finally:
        signal.signal(signal.SIGINT, before)
    assert world.stop()["a"].code == -signal.SIGINT


def test_a_second_procmgr_waits_for_the_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.launch.records.LOCK_LIMIT_S", 0.1)
    with world.procmgr.folder.locked():
        said: list[str] = []

        def other() -> None:
            with pytest.raises(LaunchError, match="another procmgr has been at work") as caught:
                world.stop()
            said.append(str(caught.value))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert said


def test_a_spoilt_record_is_none(world: World) -> None:
    world.start(world.command("a", "ready"))
    (world.procmgr.folder.path / "b.process").write_text("{")
    assert list(world.status()) == ["a"]
    (world.procmgr.folder.path / "b.process").unlink()


def test_what_is_skipped_is_named_and_not_started(world: World) -> None:
    line = world.start(Command("x", "xpmpva", skipped="xpmpva is not part of drp"))["x"]
    assert (line.state, line.text) == ("skipped", "xpmpva is not part of drp")
    assert world.left() == []


def test_saying_ready_where_nobody_listens_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "nobody"))
    say_ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    say_ready()


def test_say_ready_is_heard(world: World) -> None:
    words = "import sys; sys.path.insert(0, %r); from drp.link.ready import say_ready; say_ready(); import time; time.sleep(600)"
    root = str(Path(__file__).resolve().parents[2])
    line = world.start(Command("a", "python", (sys.executable, "-c", words % root), says_ready=True))["a"]
    assert line.state == "running"


def test_its_folders_are_closed_to_others(folder: Path) -> None:
    path = Folder("p0").path
    assert [one.stat().st_mode & 0o777 for one in (path, path.parent, path.parent.parent)] == [0o700] * 3
