"""The whole command with constants: every worker has them before BeginRun is complete, replacements and spares too, and what fails says who or what it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calib.broadcast.keys import write_keys
from tests.support.constants_world import (
    DET,
    RAW_VALUE,
    Panels,
    put_constants,
    record,
    serial,
    write_calibrating_script,
)
from tests.support.drp_command import DrpCommand, rest_slow
from tests.support.plain_xtc2 import BEGIN_RUN, PlainFile

Start = Callable[..., DrpCommand]
LIMIT_S = 90.0


def pixels(file: PlainFile, alg: str = "fex") -> list[list[float]]:
    """What each event's script calibrated: the first pixel of each segment."""
    found = [event.find(alg) for event in file.events]
    return [list(one["pixels"]) if one is not None else [] for one in found]


def used(file: PlainFile) -> list[dict[str, Any]]:
    """What each BeginRun says of the constants."""
    found = [one.find("drpcalib") for one in file.dgrams if one.service == BEGIN_RUN]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


def expected(*panels: int, add: float = 0.0) -> list[float]:
    return [RAW_VALUE - panel - add for panel in panels]


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
    assert told["source"] == str(store)
    (reported,) = command.report["constants"]
    assert reported["digest"] == told["digest"]
    assert reported["detectors"][DET] == constants
    assert command.left() == []


def test_without_constants_there_is_no_socket_and_the_file_says_nothing(
    drp: Start, folder: Path, source: Path
) -> None:
    script = folder / "pass.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events(): pass\n"
    )
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
    event = "if evt.index in (300, 900): os.kill(os.getpid(), signal.SIGKILL)"
    script = write_calibrating_script(folder, event=event)
    command = drp(script, "--source", source, "-W", workers, "--calib", store, "--rate", "1000")
    assert command.wait(LIMIT_S) == 1, command.log
    file = PlainFile(command.file())
    found = pixels(file)
    assert [place for place, one in enumerate(found) if not one] == [300, 900]
    assert all(one == expected(11, 13) for one in found if one)
    if workers == "8":
        told = [event.find("fex") for event in file.events]
        assert len({one["worker"] for one in told if one}) >= 8, "a worker did nothing"
    else:
        assert len({one["pid"] for one in (event.find("fex") for event in file.events) if one}) == 3
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
    script.write_text(
        LIES.format()
        + "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events(): pass\n"
    )
    command = drp(script, "--source", source, "-W", "2", "--calib", store)
    assert command.wait(LIMIT_S) == 1, command.log
    assert "answered BeginRun without having taken the constants" in command.report["error"]
    assert "worker" in command.report["error"]
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


def test_constants_that_are_missing_are_a_warning_and_an_error_only_for_who_asks(
    drp: Start, folder: Path, source: Path
) -> None:
    put_constants(folder / "other.db", (77, 78))
    script = folder / "pass.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events(): pass\n"
    )
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
    assert serial(11) in command.report["error"] and "RuntimeError" in command.report["error"]
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
        2: family.start(2, {5: 15, 7: 10}),
        0: family.start(0, {0: 12}),
    }
    digests = set()
    for alias, panels in ((0, (12,)), (1, (11, 13)), (2, (15, 10))):
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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_runs_with_changing_constants_leave_memory_and_segments_flat(
    drp: Start, folder: Path
) -> None:
    """Every run has other constants, of 5 MB: what is held after ten of them is what is held after a hundred."""
    shape = (512, 512)
    runs = range(1, 101)
    panels = Panels({1: 11, 3: 13}, shape)
    for run in runs:
        put_constants(
            folder / "store.db",
            (11, 13),
            shape=shape,
            run=run,
            add=float(run),
            expt="tst001",
            version=f"r{run}",
        )
    source = record(folder / "in.xtc2", panels, runs=runs, events=3)
    script = write_calibrating_script(folder)
    command = drp(
        script,
        "--source",
        source,
        "-W",
        "2",
        "--calib",
        folder / "store.db",
        "--rate",
        "30",
        "-k",
        "pebbleBufCount=8",
    )
    looks: list[tuple[int, int, int, int, int]] = []
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(command, looks, stop), daemon=True)
    thread.start()
    assert command.wait(240) == 0, command.log
    stop.set()
    thread.join(5)
    files = sorted(path for path in command.output.rglob("*.xtc2") if "smd" not in path.name)
    assert len(files) == 100
    for run, path in zip(runs, files, strict=True):
        file = PlainFile(path)
        assert pixels(file) == [expected(11, 13, add=run)] * 3, run
        assert json.loads(used(file)[0]["constants"])[DET]["pedestals"]["version"] == f"r{run}"
    assert len({one["digest"] for one in command.report["constants"]}) == 100
    assert command.report["restarts"] == 0
    late = [one for one in looks if one[0] >= 10]
    first, last = ([one for one in late if low <= one[0] < high] for low, high in ((10, 30), (80, 100)))
    print("\nruns begun, segments, PSS of drp in kB, of its workers, descriptors of drp")
    print(*(looks[:: max(1, len(looks) // 12)]), sep="\n")
    # Pebble, doorbells and three rings; the set in force, the next one, and for a moment one that each process still has.
    assert max(one[1] for one in looks) <= 5 + 2 + 3
    assert min(one[1] for one in last) <= min(one[1] for one in first)
    for column in (2, 3):
        assert max(one[column] for one in last) < 1.1 * max(one[column] for one in first) + 8000
    assert max(one[4] for one in last) <= max(one[4] for one in first) + 2
    assert command.left(files=False) == []


def _watch(command: DrpCommand, looks: list[tuple[int, int, int, int, int]], stop: threading.Event) -> None:
    while not stop.wait(0.05) and command.running:
        begun = command.log.count("constants of run ")
        try:
            workers = sum(pss_kb(pid) for pid in command.workers())
            descriptors = len(os.listdir(f"/proc/{command.pid}/fd"))
            looks.append((begun, len(command.segments()), pss_kb(command.pid), workers, descriptors))
        except OSError:
            continue


def pss_kb(pid: int) -> int:
    """What a process holds, but for the recorded files that it reads in place."""
    total, is_file = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            is_file = line.endswith(".xtc2")
        elif words[0] == "Pss:" and not is_file:
            total += int(words[1])
    return total


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixteen_workers_and_a_large_set_cost_one_copy(drp: Start, folder: Path) -> None:
    """A set of 400 MB, every page of it read by every worker: what all processes hold together is one set."""
    shape = (2048, 2048)
    numbers = (11, 13, 14, 15)
    put_constants(folder / "store.db", numbers, shape=shape)
    panels = Panels({place: number for place, number in enumerate(numbers)}, shape)
    source = record(folder / "in.xtc2", panels, events=1)
    reads = (
        "total = sum(float(one.sum(dtype=np.float64)) for one in (*mine.constants.values(), *mine.derived.values()))\n"
        "open(f'{sys.argv[1]}/read-{info.worker_num}', 'w').close()\n"
        "while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.05)"
    )
    script = write_calibrating_script(folder)
    text = script.read_text().replace(
        "    correction = ", "    " + reads.replace("\n", "\n    ") + "\n    correction = "
    )
    script.write_text(text)
    command = drp(
        f"{script} {folder}", "--source", source, "-W", "16", "--spares", "0", "--calib", folder / "store.db",
        "-k", "pebbleBufCount=4",
    )  # fmt: skip
    command.until(lambda: len(list(folder.glob("read-*"))) == 16, "sixteen workers that read it all", 100)
    segment = int(command.log.partition("in a new segment ")[2].split(",")[0])
    found = [of_segment(pid, segment) for pid in (command.pid, *command.workers())]
    size_kb, shares = found[0][0], [pss_kb for _, pss_kb in found]
    print(f"\nsegment of {size_kb} kB, mapped by {len(found)} processes; PSS of it, kB: {shares}")
    print(f"in all {sum(shares)} kB: {sum(shares) / size_kb:.4f} copies")
    (folder / "go").touch()
    assert command.wait(LIMIT_S) == 0, command.log
    assert len(found) == 17
    assert size_kb > 390_000
    assert all(shares) and 0.99 * size_kb < sum(shares) <= 1.001 * size_kb
    assert command.left(files=False) == []


def of_segment(pid: int, segment: int) -> tuple[int, int]:
    """The size and the PSS, in kB, of one SysV segment in one process; its id is the inode of the mapping."""
    size_kb = pss_kb = 0
    is_it = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            is_it = "/SYSV" in line and int(words[4]) == segment
        elif is_it and words[0] in ("Size:", "Pss:"):
            size_kb += int(words[1]) if words[0] == "Size:" else 0
            pss_kb += int(words[1]) if words[0] == "Pss:" else 0
    return size_kb, pss_kb
