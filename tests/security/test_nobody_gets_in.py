"""Another user of the machine: nothing of a drp that runs can be read, changed, signalled, or put in its way."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.drp_command import COMMAND, ROOT, DrpCommand, write_script
from tests.support.intruder import IPC_RMID, LIBC, NOBODY, must, on_file, on_process, on_segment, succeed

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="not root, who alone can become another user"),
]
Start = Callable[..., DrpCommand]
IPC_CREAT = 0o1000


@pytest.fixture(scope="module")
def running() -> Iterator[DrpCommand]:
    """A drp in the middle of a run, in a folder that anybody may enter. In the end it must have been neither hurt nor stopped."""
    folder = Path(tempfile.mkdtemp(prefix="drp-test-"))
    folder.chmod(0o755)
    command = DrpCommand(
        folder,
        "-p",
        str(write_script(folder)),
        "--source",
        "sim:digitizer",
        "-n",
        "100000",
        "--rate",
        "200",
        "-W",
        "2",
    )
    try:
        command.until_recording()
        command.until(lambda: len(command.workers()) == 3, "two workers and a spare")
        yield command
        assert command.running, command.log
        command.signal(2)
        assert command.wait(30) == 0, command.log
        assert command.report["closes"]
        assert command.left() == []
        assert command.report["restarts"] == 0
        assert outside(command.output) == {}
    finally:
        command.destroy()
        shutil.rmtree(folder, ignore_errors=True)


def outside(output: Path) -> dict[str, str]:
    """What others may do with what was recorded, by mode; files that are whole are nobody's to write."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in output.rglob("*")}
    return {
        str(path): oct(mode)
        for path, mode in modes.items()
        if mode & 0o007 or (path.is_file() and mode != 0o440)
    }


@pytest.fixture
def open_segment() -> Iterator[int]:
    """A segment that anybody may attach."""
    shm_id = must(LIBC.shmget(0, 4096, IPC_CREAT | 0o666))
    yield shm_id
    LIBC.shmctl(shm_id, IPC_RMID, None)


def test_the_intruder_gets_what_is_open_to_all(folder: Path, open_segment: int) -> None:
    public = folder / "public"
    public.write_text("for all")
    public.chmod(0o666)
    assert succeed({**on_segment(open_segment), **on_file(public), **on_file(folder)}) == [
        f"read segment {open_segment}",
        f"write segment {open_segment}",
        f"stat segment {open_segment}",
        f"read {public}",
        f"write {public}",
        f"list {folder}",
    ]
    with subprocess.Popen(["sleep", "10"], user=NOBODY, group=NOBODY, extra_groups=[]) as own:
        got = succeed(on_process(own.pid))
        own.kill()
    assert {f"signal {own.pid}", f"environment {own.pid}", f"descriptors {own.pid}"} <= set(got)


def test_segments_are_closed_to_others(running: DrpCommand) -> None:
    segments = running.segments()
    assert len(segments) >= 5, "pebble, bells, and one for each of three workers"
    assert [got for shm_id in segments for got in succeed(on_segment(shm_id))] == []


def test_processes_are_closed_to_others(running: DrpCommand) -> None:
    family = [running.pid, *(one.pid for one in running.family())]
    assert len(family) == 5
    assert [got for pid in family for got in succeed(on_process(pid))] == []


def test_files_are_closed_to_others(running: DrpCommand) -> None:
    (record,) = (running.folder / "run" / "drp").iterdir()
    files = [record.parent, record, running.file(), running.file().parent, running.file(smd=True)]
    assert [got for path in files for got in succeed(on_file(path))] == []


def test_no_socket_listens_and_none_has_a_name(running: DrpCommand) -> None:
    inodes = {
        target.removeprefix("socket:[").removesuffix("]")
        for pid in [running.pid, *(one.pid for one in running.family())]
        for target in links(Path(f"/proc/{pid}/fd"))
        if target.startswith("socket:")
    }
    assert inodes, "drp and its nursery talk over a socket pair"
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "netlink", "packet"):
        place = Path("/proc/net", table)
        words = [line.split() for line in place.read_text().splitlines()[1:]] if place.exists() else []
        assert [line for line in words if inodes & set(line)] == [], table
    named = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert [words for words in named if words[6] in inodes and len(words) > 7] == []


def links(folder: Path) -> Iterator[str]:
    for one in folder.iterdir():
        yield os.readlink(one)


def test_a_worker_inherits_no_descriptor(drp: Start, folder: Path) -> None:
    script = write_script(
        folder,
        configured="print('open', sorted((one, os.readlink(f'/proc/self/fd/{one}')) for one in map(int, os.listdir('/proc/self/fd')) if os.path.lexists(f'/proc/self/fd/{one}')))",
    )
    command = drp(script, "--source", "sim:digitizer", "-n", "10", "-W", "1", "--spares", "0")
    assert command.wait(30) == 0, command.log
    (told,) = (line.partition("open ")[2] for line in command.log.splitlines() if "worker 0: open " in line)
    found = dict(eval(told))
    assert found.pop(0) == "/dev/null"
    assert found.pop(1).startswith("pipe:")
    assert found.pop(2).startswith("pipe:")
    assert found == {}, "the worker holds what is not its own"


# What stands in the way.


def words_of_drp(script: Path, source: str, *options: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, "-p", str(script), "--source", source, *options]


def run_drp(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end with environment variables of the test's choice; an empty one is unset."""
    script = folder / "pass.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n        pass\n"
    )
    script.chmod(0o644)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": "", **variables}
    environment = {name: value for name, value in environment.items() if value}
    words = words_of_drp(script, "sim:digitizer:16", "-n", "20", "-W", "1", "--spares", "0")
    return subprocess.run(
        [*words, *options], capture_output=True, text=True, timeout=40, check=False, env=environment
    )


def make_public(folder: Path) -> Path:
    """A folder like /tmp: anybody may write into it, and nobody may remove what is another's."""
    public = folder / "public"
    public.mkdir()
    public.chmod(0o1777)
    return public


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "trap",
    [
        "link to our own folder",
        *(
            pytest.param(one, marks=SLOW)
            for one in ("folder of another", "link to a folder of another", "file")
        ),
    ],
)
def test_a_trap_where_the_run_directory_would_be_is_refused(folder: Path, trap: str) -> None:
    public, ours = make_public(folder), folder / "ours"
    ours.mkdir(mode=0o700)
    place = public / f"drp-{os.geteuid()}"
    theirs = public / "theirs"

    def lay() -> None:
        theirs.mkdir(mode=0o700)
        match trap:
            case "folder of another":
                theirs.rename(place)
            case "link to a folder of another":
                place.symlink_to(theirs)
            case "link to our own folder":
                place.symlink_to(ours)
            case "file":
                place.write_text("")

    assert succeed({"lay the trap": lay}) == ["lay the trap"]
    done = run_drp(folder, TMPDIR=str(public))
    assert done.returncode == 1
    assert str(place) in done.stderr
    assert "XDG_RUNTIME_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(ours.iterdir()) == []


@SLOW
def test_the_runtime_directory_of_another_user_is_passed_over(folder: Path) -> None:
    public = make_public(folder)
    theirs = public / "theirs"
    assert succeed({"make it": lambda: theirs.mkdir(mode=0o777)}) == ["make it"]
    done = run_drp(folder, TMPDIR=str(public), XDG_RUNTIME_DIR=str(theirs))
    assert done.returncode == 0, done.stderr
    assert list(theirs.iterdir()) == []
    assert stat.S_IMODE((public / f"drp-{os.geteuid()}").stat().st_mode) == 0o700


IN_PROGRESS = "drp/drpsim0001/xtc/drpsim0001-r0001-s000-c000.xtc2.inprogress"


@pytest.mark.parametrize(
    "trap", ["fifo", pytest.param("link", marks=SLOW), pytest.param("folder", marks=SLOW)]
)
def test_a_trap_where_an_output_file_would_be_is_not_written_through(folder: Path, trap: str) -> None:
    victim = folder / "victim"
    victim.write_text("dear to root")
    place = folder / "out" / IN_PROGRESS
    place.parent.mkdir(parents=True)
    place.parent.chmod(0o777)
    lay = {
        "link": lambda: place.symlink_to(victim),
        "fifo": lambda: os.mkfifo(place),
        "folder": place.mkdir,
    }[trap]
    assert succeed({"lay the trap": lay}) == ["lay the trap"]
    done = run_drp(folder, "-o", str(folder / "out"), TMPDIR=str(folder), XDG_RUNTIME_DIR=str(folder))
    assert victim.read_text() == "dear to root"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(place).removesuffix(".inprogress") in done.stdout + done.stderr


@SLOW
def test_links_at_the_final_name_are_replaced_and_not_followed(folder: Path) -> None:
    victim = folder / "victim"
    place = folder / "out" / IN_PROGRESS.removesuffix(".inprogress")
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    done = run_drp(folder, "-o", str(folder / "out"), XDG_RUNTIME_DIR=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not victim.exists()
    assert not place.is_symlink()


def test_the_link_of_another_user_is_not_followed_for_the_report(folder: Path) -> None:
    public, victim = make_public(folder), folder / "victim"
    victim.write_text("dear to root")
    report = public / "report.json"
    assert succeed({"lay the trap": lambda: report.symlink_to(victim)}) == ["lay the trap"]
    done = run_drp(folder, "--report", str(report), XDG_RUNTIME_DIR=str(folder))
    assert victim.read_text() == "dear to root"
    assert done.returncode == 1
    assert f"the report {report} cannot be written" in done.stderr


@SLOW
def test_a_report_through_a_link_of_our_own_is_written(folder: Path) -> None:
    link, report = folder / "link.json", folder / "report.json"
    link.symlink_to(report)
    assert run_drp(folder, "--report", str(link), XDG_RUNTIME_DIR=str(folder)).returncode == 0
    assert link.is_symlink()
    assert '"closes": true' in report.read_text()


def test_folders_of_the_output_are_ours_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        done = run_drp(folder, "-o", str(folder / "out"), XDG_RUNTIME_DIR=str(folder))
    finally:
        os.umask(before)
    assert done.returncode == 0
    modes = {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (folder / "out", *(folder / "out").rglob("*"))
    }
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o007} == {}


def test_the_intruder_fails_for_being_another_user() -> None:
    """The same calls by root succeed, so that a typing error cannot make the tests above pass."""
    segment = must(LIBC.shmget(0, 4096, IPC_CREAT | 0o600))
    try:
        assert succeed(on_segment(segment)) == []
        got = [name for name, attempt in on_segment(segment).items() if _works(attempt)]
        assert len(got) == 4
    finally:
        LIBC.shmctl(segment, IPC_RMID, ctypes.c_void_p(0))


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


@pytest.mark.timeout(60)
def test_nobody_has_to_read_what_drp_says(folder: Path) -> None:
    script = write_script(folder, "print(evt.index)")
    report = folder / "report.json"
    words = words_of_drp(script, "sim:digitizer", "-n", "200", "-W", "1", "--report", str(report))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(folder)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        assert process.wait(40) == 0
    assert '"closes": true' in report.read_text()
