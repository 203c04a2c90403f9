"""Several drp processes of one detector that share a supervisor over tcp: each has its own panels; loss and wrong keys are errors in time."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from calib.broadcast.keys import write_keys
from drp.cli.options import parse
from drp.core.errors import ConstantsError
from drp.engine.constants_maker import Maker
from tests.support.constants_world import (
    Panels,
    expected,
    pixels,
    put_constants,
    record,
    used,
    write_calibrating_script,
)
from tests.support.drp_command import DrpCommand
from tests.support.plain_xtc2 import PlainFile

Start = Callable[..., DrpCommand]
LIMIT_S = 90.0


@pytest.fixture
def store(folder: Path) -> Path:
    """Constants of panels 10 to 15."""
    put_constants(folder / "store.db", range(10, 16))
    return folder / "store.db"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Family:
    """Several drp processes of one detector that share a supervisor, cam_0."""

    def __init__(self, drp: Start, folder: Path, store: Path | str, *, events: int = 40) -> None:
        self.drp, self.folder, self.store, self.events = drp, folder, store, events
        self.at = f"cam_0@tcp://127.0.0.1:{free_port()}"
        write_keys(folder / "keys")
        self.script = write_calibrating_script(folder)

    def start(
        self, alias: int, panels: dict[int, int], *options: str, key: Path | None = None, rate: str = "200"
    ) -> DrpCommand:
        source = record(self.folder / f"{alias}.xtc2", Panels(panels), events=self.events)
        calib = ("--calib", self.store) if alias == 0 else ()
        shared = ("--calib-supervisor", self.at, "--calib-key", key or self.folder / "keys")
        return self.drp(
            self.script, "--source", source, "-W", "2", "--spares", "0", "-u", f"cam_{alias}", "--rate", rate,
            *calib, *shared, *options, output=self.folder / f"out{alias}",
        )  # fmt: skip


def test_three_processes_share_a_supervisor_and_each_has_its_own_panels(
    drp: Start, folder: Path, store: Path
) -> None:
    family = Family(drp, folder, store, events=400)
    commands = {
        1: family.start(1, {1: 11, 3: 13}),
        5: family.start(5, {5: 15, 7: 10}),
        0: family.start(0, {0: 12}),
    }
    digests = set()
    for alias, panels in ((0, (12,)), (1, (11, 13)), (5, (15, 10))):
        command = commands[alias]
        assert command.wait(LIMIT_S) == 0, command.log
        file = PlainFile(command.file())
        assert pixels(file) == [expected(*panels)] * 400
        digests.add(used(file)[0]["digest"])
        assert ("supervisor" in used(file)[0]["source"]) == (alias != 0)
        assert command.left(files=False) == []
    assert len(digests) == 3


def test_a_supervisor_that_is_not_there_is_an_error_within_the_time_limit(
    drp: Start, folder: Path, store: Path
) -> None:
    command = Family(drp, folder, store).start(1, {1: 11}, "--calib-timeout", "2")
    assert command.wait(LIMIT_S) == 1
    error = command.report["error"]
    assert "no supervisor answered within 2 s" in error and "tcp://127.0.0.1" in error, error
    assert command.left(files=False) == []


def test_what_to_do_about_a_key_that_is_none_is_said_once() -> None:
    told = ["-u", "cam_0", "--calib", "a.db", "--calib-supervisor", "cam_0@tcp://127.0.0.1:1"]
    config = parse([*told, "-p", __file__, "--calib-key", "nowhere", "-W", "1"])
    with pytest.raises(ConstantsError) as caught:
        Maker(config)
    assert caught.value.source == "nowhere"
    assert str(caught.value).count("calib key FILE") == 1


@pytest.mark.slow
def test_a_process_with_another_key_is_refused_with_a_reason(drp: Start, folder: Path, store: Path) -> None:
    family = Family(drp, folder, store, events=3000)
    write_keys(folder / "other")
    supervisor = family.start(0, {0: 12})
    supervisor.until_recording(1000)
    command = family.start(1, {1: 11}, key=folder / "other")
    assert command.wait(LIMIT_S) == 1
    assert "the supervisor has other keys than we have" in command.report["error"]
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait(LIMIT_S) == 0, supervisor.log
    assert command.left(files=False) == []


@pytest.mark.slow
def test_a_supervisor_that_is_lost_is_an_error_at_the_next_begin_run(
    drp: Start, folder: Path, store: Path
) -> None:
    family = Family(drp, folder, store, events=3000)
    supervisor = family.start(0, {0: 12})
    supervisor.until_recording(1000)
    source = record(folder / "two_runs.xtc2", Panels({1: 11}), runs=(7, 8), events=600)
    command = drp(
        family.script, "--source", source, "-W", "2", "-u", "cam_1", "--rate", "300", "--calib-timeout", "3",
        "--calib-supervisor", family.at, "--calib-key", folder / "keys",
    )  # fmt: skip
    command.until_recording(20_000)
    supervisor.process.kill()
    assert command.wait(LIMIT_S) == 1, command.log
    error = command.report["error"]
    assert "no supervisor answered within 3 s" in error, error
    assert command.report["ledger"]["total"] == 600
    assert command.left(files=False) == []


@pytest.mark.slow
def test_keys_that_others_can_read_are_refused_at_the_start(drp: Start, folder: Path, store: Path) -> None:
    family = Family(drp, folder, store)
    (folder / "keys").chmod(0o644)
    command = family.start(1, {1: 11})
    assert command.wait(LIMIT_S) == 1
    assert "chmod 600" in command.log
