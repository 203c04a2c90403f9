"""The whole command with constants: every worker has them before BeginRun is complete, replacements and spares too, and what fails says who or what it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calib.store import open_store
from tests.support.constants_world import (
    DET,
    Panels,
    expected,
    pixels,
    put_constants,
    record,
    serial,
    used,
    write_calibrating_script,
)
from tests.support.drp_command import DrpCommand, rest_slow
from tests.support.plain_xtc2 import PlainFile

Start = Callable[..., DrpCommand]
PASS = "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events(): pass\n"
LIMIT_S = 90.0


@pytest.fixture
def source(folder: Path) -> Path:
    """Forty events of panels 11 and 13 in segments 1 and 3."""
    return record(folder / "in.xtc2", Panels({1: 11, 3: 13}), events=40)


@pytest.fixture
def store(folder: Path) -> Path:
    """Constants of panels 10 to 15."""
    put_constants(folder / "store.db", range(10, 16))
    return folder / "store.db"


def test_every_worker_calibrates_with_the_constants_of_its_panels(
    drp: Start, folder: Path, source: Path, store: Path
) -> None:
    command = drp(write_calibrating_script(folder), "--source", source, "-W", "2", "--calib", store)
    assert command.wait(LIMIT_S) == 0, command.log
    file = PlainFile(command.file())
    assert pixels(file) == [expected(11, 13)] * 40
    (told,) = used(file)
    constants = json.loads(told["constants"])[DET]
    assert constants["pedestals"]["version"] == "v1"
    with open_store(str(store)) as opened:
        put = {record.ctype: (str(record.id), record.digest) for record in opened.history()}
    assert {ctype: (one["id"], one["put_digest"]) for ctype, one in constants.items()} == put
    assert constants["pedestals"]["digest"] != constants["pedestals"]["put_digest"]  # two panels of six
    assert told["source"] == str(store)
    (reported,) = command.report["constants"]
    assert reported["digest"] == told["digest"]
    assert reported["detectors"][DET] == constants
    assert 0 < reported["made_s"] < reported["complete_s"]
    assert command.left() == []


def test_without_constants_there_is_no_socket_and_the_file_says_nothing(
    drp: Start, folder: Path, source: Path
) -> None:
    script = folder / "pass.py"
    script.write_text(PASS)
    command = drp(script, "--source", source, "-W", "1", "--log-level", "debug")
    assert command.wait(LIMIT_S) == 0, command.log
    assert command.report["constants"] == []
    assert b"drpcalib" not in command.file().read_bytes()
    assert command.left() == []


def test_a_command_without_constants_imports_nothing_for_them() -> None:
    code = "import sys, drp.cli.drp, drp.script.worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"zmq", "sqlalchemy", "calib", "numba"} & set(done.stdout.split())


def test_live_and_offline_record_the_same(drp: Start, folder: Path, source: Path, store: Path) -> None:
    script = write_calibrating_script(folder, before="os.getpid = lambda: 7")
    made = []
    for name, options in (("live", ("-W", "1")), ("offline", ("--offline",))):
        command = drp(script, "--source", source, "--calib", store, *options, output=folder / name)
        assert command.wait(LIMIT_S) == 0, command.log
        made.append(command.file().read_bytes())
        made.append(command.file(smd=True).read_bytes())
    assert made[:2] == made[2:]


@pytest.mark.slow
def test_the_environment_names_the_source_too(drp: Start, folder: Path, source: Path, store: Path) -> None:
    script = write_calibrating_script(folder)
    command = drp(script, "--source", source, "-W", "1", environment={"DRP_CALIB": str(store)})
    assert command.wait(LIMIT_S) == 0, command.log
    assert pixels(PlainFile(command.file())) == [expected(11, 13)] * 40


@pytest.mark.parametrize("workers", ["1", pytest.param("8", marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_is_replaced_by_one_with_the_constants(
    drp: Start, folder: Path, store: Path, workers: str
) -> None:
    """The event in hand is lost with its worker; the spare, and who is forked in its place, have the same set."""
    source = record(folder / "in.xtc2", Panels({1: 11, 3: 13}), events=2000)
    script = write_calibrating_script(
        folder,
        begun="open(f'{sys.argv[1]}/has-{info.worker_num}-{os.getpid()}', 'w').close()",
        event="if evt.index in (300, 900): os.kill(os.getpid(), signal.SIGKILL)",
    )
    command = drp(f"{script} {folder}", "--source", source, "-W", workers, "--calib", store, "--rate", "1000")
    assert command.wait(LIMIT_S) == 1, command.log
    file = PlainFile(command.file())
    found = pixels(file)
    assert [place for place, one in enumerate(found) if not one] == [300, 900]
    assert all(one == expected(11, 13) for one in found if one)
    have = {int(path.name.split("-")[1]) for path in folder.glob("has-*")}
    assert have >= set(range(int(workers) + 1)), "a worker, or the spare, has no constants"
    pids = {one["pid"] for one in (event.find("fex") for event in file.events) if one}
    assert len(pids) >= 3 or workers != "1"
    assert len(command.report["constants"]) == 1
    assert command.report["restarts"] == 2
    assert command.left() == []


SLEEPS = """\
from calib.broadcast.subscriber import Subscriber
import drp.script.datasource
if drp.script.datasource._Current.session.info.worker_num == 1:
    {fault}
"""
NEVER_ASKS = "Subscriber.take = lambda self, stamp: time.sleep(1000)"
NEVER_ANSWERS = "Subscriber._open = lambda self, offer: time.sleep(1000)"


@pytest.mark.parametrize(
    ("fault", "story"),
    rest_slow(1, [(NEVER_ANSWERS, "it was sent word of them"), (NEVER_ASKS, "it never asked for them")]),
)
def test_a_worker_that_never_acknowledges_fails_the_run_with_its_name(
    drp: Start, folder: Path, source: Path, store: Path, fault: str, story: str
) -> None:
    script = write_calibrating_script(folder, before=SLEEPS.format(fault=fault))
    command = drp(script, "--source", source, "-W", "3", "--calib", store, "--calib-timeout", "3")
    assert command.wait(LIMIT_S) == 1, command.log
    error = command.report["error"]
    assert "worker 1" in error and "has not taken the constants of BeginRun within 3 s" in error, error
    assert story in error and "py-spy" in error
    assert command.left() == []


LIES = """\
from calib.broadcast.subscriber import Subscriber
from calib.broadcast.packing import Packed
Subscriber.take = lambda self, stamp: (None, Packed({{"detectors": {{}}}}, (), {{}}, "", 0))
"""


def test_a_worker_that_answers_begin_run_without_the_constants_fails_the_run(
    drp: Start, folder: Path, source: Path, store: Path
) -> None:
    script = folder / "lies.py"
    script.write_text(LIES.format() + PASS)
    command = drp(script, "--source", source, "-W", "2", "--calib", store)
    assert command.wait(LIMIT_S) == 1, command.log
    assert "answered BeginRun without having taken the constants" in command.report["error"]
    assert "worker" in command.report["error"]
    assert command.left() == []


def test_constants_that_do_not_change_keep_their_segment(drp: Start, folder: Path) -> None:
    store = folder / "store.db"
    put_constants(store, (11, 13), expt="tst001")
    source = record(folder / "in.xtc2", Panels({1: 11, 3: 13}), runs=(7, 8, 9), events=5)
    put_constants(store, (11, 13), run=9, add=3.0, expt="tst001")
    command = drp(write_calibrating_script(folder), "--source", source, "-W", "2", "--calib", store)
    assert command.wait(LIMIT_S) == 0, command.log
    told = command.report["constants"]
    assert [one["reused"] for one in told] == [False, True, False]
    assert [one["run"] for one in told] == [7, 8, 9]
    assert told[0]["digest"] == told[1]["digest"] != told[2]["digest"]
    files = sorted(path for path in command.output.rglob("*.xtc2") if "smd" not in path.name)
    for path, add in zip(files, (0.0, 0.0, 3.0), strict=True):
        assert pixels(PlainFile(path)) == [expected(11, 13, add=add)] * 5
    assert command.left() == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_first_start_on_a_machine_waits_for_the_kernels(
    drp: Start, folder: Path, source: Path, store: Path
) -> None:
    cold = {"NUMBA_CACHE_DIR": str(folder / "numba")}
    script = write_calibrating_script(folder)
    command = drp(script, "--source", source, "-W", "2", "--calib", store, environment=cold)
    assert command.wait(240) == 0, command.log
    assert pixels(PlainFile(command.file())) == [expected(11, 13)] * 40
    assert "what calibrates events is being compiled" in command.log
    assert command.report["restarts"] == 0
    assert command.left() == []


@pytest.mark.slow
def test_workers_of_a_new_nursery_have_the_constants(drp: Start, folder: Path, store: Path) -> None:
    source = record(folder / "in.xtc2", Panels({1: 11, 3: 13}), events=3000)
    script = write_calibrating_script(folder)
    command = drp(script, "--source", source, "-W", "2", "--calib", store, "--rate", "1000")
    command.until_recording(20_000)
    nursery = command.nursery()
    assert nursery is not None
    os.kill(nursery, signal.SIGKILL)
    assert command.wait(LIMIT_S) in (0, 1), command.log
    file = PlainFile(command.file())
    found = pixels(file)
    assert found.count([]) <= 2
    assert all(one == expected(11, 13) for one in found if one)
    assert len(found) == 3000
    assert len({event.find("fex")["pid"] for event in file.events if event.find("fex")}) >= 3
    assert command.left() == []


@pytest.mark.slow
def test_a_worker_killed_while_it_takes_the_constants_is_replaced_and_the_run_begins(
    drp: Start, folder: Path, source: Path, store: Path
) -> None:
    before = (
        "from calib.broadcast.subscriber import Subscriber\n"
        "def die(self, offer):\n"
        "    try:\n"
        "        os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL))\n"
        "    except FileExistsError:\n"
        "        return was(self, offer)\n"
        "    os.kill(os.getpid(), 9)\n"
        "was, Subscriber._open = Subscriber._open, die\n"
    )
    script = write_calibrating_script(folder, before=before)
    command = drp(f"{script} {folder / 'once'}", "--source", source, "-W", "2", "--calib", store)
    assert command.wait(LIMIT_S) in (0, 1), command.log
    assert pixels(PlainFile(command.file())) == [expected(11, 13)] * 40
    assert command.report["restarts"] == 1
    assert command.left() == []


def test_panels_keep_their_constants_wherever_they_are(drp: Start, folder: Path, store: Path) -> None:
    """Segments 1,3 and 5,7 in two processes, two panels swapped between them, and two within one."""
    first = record(folder / "a.xtc2", Panels({1: 15, 3: 13}))
    second = record(folder / "b.xtc2", Panels({7: 12, 5: 11}))
    script = write_calibrating_script(folder)
    commands = [
        drp(script, "--source", source, "-W", "1", "--calib", store, output=folder / source.stem)
        for source in (first, second)
    ]
    for command, panels in zip(commands, ((15, 13), (11, 12)), strict=True):
        assert command.wait(LIMIT_S) == 0, command.log
        assert pixels(PlainFile(command.file())) == [expected(*panels)] * 20
        assert command.left(files=False) == []


@pytest.mark.slow
def test_a_recording_keeps_what_it_was_calibrated_with_until_it_is_calibrated_again(
    drp: Start, folder: Path, source: Path, store: Path
) -> None:
    put_constants(folder / "other.db", range(10, 16), add=5.0, version="v9")
    script = folder / "pass.py"
    script.write_text(PASS)
    inputs, told = source, []
    for name, options in (
        ("one", ("--calib", store)),
        ("two", ()),
        ("three", ("--calib", folder / "other.db")),
    ):
        command = drp(script, "--source", inputs, "-W", "1", *options, output=folder / name)
        assert command.wait(LIMIT_S) == 0, command.log
        inputs = command.file()
        told.append(used(PlainFile(inputs)))
    assert [len(one) for one in told] == [1, 1, 1]
    assert told[0] == told[1]
    assert json.loads(told[2][0]["constants"])[DET]["pedestals"]["version"] == "v9"
    assert told[2][0]["digest"] != told[0][0]["digest"]


def test_constants_that_are_missing_are_a_warning_and_an_error_only_for_who_asks(
    drp: Start, folder: Path, source: Path
) -> None:
    put_constants(folder / "other.db", (77, 78))
    script = folder / "pass.py"
    script.write_text(PASS)
    command = drp(
        script, "--source", source, "-W", "1", "--calib", folder / "other.db", output=folder / "one"
    )
    assert command.wait(LIMIT_S) == 0, command.log
    assert any(serial(11) in text for text in command.report["warnings"]), command.report["warnings"]
    command = drp(
        write_calibrating_script(folder), "--source", source, "-W", "1", "--calib", folder / "other.db",
        output=folder / "two",
    )  # fmt: skip
    assert command.wait(LIMIT_S) == 1
    assert serial(11) in command.report["error"] and "CalibrationError" in command.report["error"]
    assert command.left(files=False) == []


def test_what_a_script_does_without_is_not_asked_for(drp: Start, folder: Path, source: Path) -> None:
    script = folder / "pass.py"
    script.write_text(PASS.replace("DataSource()", f"DataSource(skip_calib_load={[DET]!r})"))
    arguments = (
        script,
        "--source",
        source,
        "-W",
        "2",
        "--calib",
        folder / "nowhere.db",
        "--require-constants",
    )
    command = drp(*arguments, output=folder / "one")
    assert command.wait(LIMIT_S) == 0, command.log
    assert command.report["warnings"] == []
    (told,) = used(PlainFile(command.file()))
    assert told["constants"] == "{}"
    assert command.left() == []


def test_constants_that_give_no_numbers_are_a_warning_and_an_error_where_they_are_required(
    drp: Start, folder: Path, source: Path
) -> None:
    put_constants(folder / "nan.db", (11, 13), add=float("nan"))
    script = folder / "pass.py"
    script.write_text(PASS)
    arguments = (script, "--source", source, "-W", "1", "--calib", folder / "nan.db")
    command = drp(*arguments, output=folder / "one")
    assert command.wait(LIMIT_S) == 0, command.log
    (told,) = command.report["warnings"]
    assert told == (
        f"{DET}: pedestals is NaN in 384 of 384 pixels (calib gives NaN); 0 of 384 pixels can be used"
    )
    command = drp(*arguments, "--require-constants", output=folder / "two")
    assert command.wait(LIMIT_S) == 1
    assert "--require-constants" in command.report["error"] and told in command.report["error"]
    assert command.left(files=False) == []


@pytest.mark.parametrize("offline", [(), pytest.param(("--offline",), marks=pytest.mark.slow)])
def test_required_constants_that_are_missing_fail_begin_run_with_the_list(
    drp: Start, folder: Path, source: Path, offline: tuple[str, ...]
) -> None:
    put_constants(folder / "part.db", (11, 13), ctypes=("pixel_gain",))
    script = write_calibrating_script(folder)
    command = drp(
        script,
        "--source",
        source,
        *(offline or ("-W", "2")),
        "--calib",
        folder / "part.db",
        "--require-constants",
    )
    assert command.wait(LIMIT_S) == 1
    for text in ("--require-constants", "pedestals", DET, "part.db", "calib put"):
        assert text in command.log, command.log
    assert command.left(files=False) == []


@pytest.mark.parametrize(
    "url", ["nowhere.db", pytest.param("http://127.0.0.1:9/calib_ws", marks=pytest.mark.slow)]
)
def test_a_source_that_cannot_be_asked_fails_begin_run(
    drp: Start, folder: Path, source: Path, url: str
) -> None:
    command = drp(write_calibrating_script(folder), "--source", source, "-W", "2", "--calib", url)
    assert command.wait(LIMIT_S) == 1
    error = command.report["error"]
    assert error.startswith("constants"), error
    assert url.partition("/calib")[0] in error, error
    assert command.left() == []


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_source_that_hangs_is_an_error_within_the_time_limit_and_does_not_stop_supervision(
    drp: Start, folder: Path, source: Path, silent: str
) -> None:
    """A worker dies meanwhile, and is replaced meanwhile: the main loop waits for nobody."""
    script = write_calibrating_script(folder)
    command = drp(
        script, "--source", source, "-W", "2", "--calib", f"http://{silent}/calib_ws", "--calib-timeout", "6"
    )
    workers = command.until(lambda: command.workers() if len(command.workers()) == 3 else None, "workers")
    began = time.monotonic()
    os.kill(min(workers), signal.SIGKILL)
    command.until(lambda: len(set(command.workers()) - set(workers)) == 1, "a replacement", 5.0)
    assert command.running
    assert command.wait(LIMIT_S) == 1
    assert time.monotonic() - began < 20
    error = command.report["error"]
    assert "constants" in error and silent in error, error
    assert command.left() == []


@pytest.mark.slow
def test_the_socket_is_private_and_named_and_foreigners_get_nothing(
    drp: Start, folder: Path, store: Path
) -> None:
    source = record(folder / "in.xtc2", Panels({1: 11, 3: 13}), events=2000)
    command = drp(
        write_calibrating_script(folder), "--source", source, "-W", "1", "--calib", store,
        "--rate", "500", "-P", "mfx", "-p", "3", "-u", "cam_1",
    )  # fmt: skip
    command.until_recording(20_000)
    (path,) = (folder / "run" / "drp").glob("*.sock")
    assert path.name.startswith("mfx-3-cam_1.")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for noise in (b"\0" * 100, os.urandom(1 << 16)):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(path))
            stranger.settimeout(5)
            try:
                stranger.sendall(noise)
                while stranger.recv(4096):
                    pass
            except (ConnectionError, TimeoutError):
                pass
    assert command.wait(LIMIT_S) == 0, command.log
    assert pixels(PlainFile(command.file())) == [expected(11, 13)] * 2000
    assert command.left() == []


@pytest.mark.slow
def test_a_drp_that_was_killed_leaves_no_socket_after_the_next_start(
    drp: Start, folder: Path, store: Path
) -> None:
    source = record(folder / "in.xtc2", Panels({1: 11}), events=2000)
    script = write_calibrating_script(folder)
    command = drp(
        script, "--source", source, "-W", "1", "--calib", store, "--rate", "500", output=folder / "one"
    )
    command.until_recording(20_000)
    command.process.kill()
    command.process.wait(10)
    assert list((folder / "run" / "drp").glob("*.sock"))
    again = drp(script, "--source", source, "-W", "1", "--calib", store, output=folder / "two")
    assert again.wait(LIMIT_S) == 0, again.log
    assert again.left() == []


@pytest.mark.slow
def test_drp_killed_while_it_makes_a_set_leaves_nothing(
    drp: Start, folder: Path, source: Path, silent: str
) -> None:
    script = write_calibrating_script(folder)
    command = drp(
        script, "--source", source, "-W", "2", "--calib", f"http://{silent}/", "--calib-timeout", "30"
    )
    command.until(lambda: len(command.workers()) == 3, "workers")
    command.process.kill()
    command.process.wait(10)
    assert [one for one in command.left() if not one.startswith("file")] == []


@pytest.mark.slow
def test_signals_end_a_drp_that_waits_for_its_constants(
    drp: Start, folder: Path, source: Path, silent: str
) -> None:
    """One signal ends it within the stop time-out, a second one at once."""
    script = write_calibrating_script(folder)
    waiting = ("--source", source, "-W", "2", "--calib", f"http://{silent}/", "--calib-timeout", "60")
    command = drp(script, *waiting, "--stop-timeout", "3", output=folder / "one")
    command.until(lambda: len(command.workers()) == 3, "workers")
    command.signal(signal.SIGTERM)
    assert command.wait(20) == 1, command.log
    assert "--stop-timeout" in command.report["error"]
    assert command.left(files=False) == []
    command = drp(script, *waiting, output=folder / "two")
    command.until(lambda: len(command.workers()) == 3, "workers")
    command.signal(signal.SIGINT)
    command.until_logged("told to stop")
    began = time.monotonic()
    command.signal(signal.SIGINT)
    assert command.wait(20) == 130, command.log
    assert time.monotonic() - began < 5
    assert command.left(files=False) == []
