"""Records of running processes: what a crash leaves is found and swept, what lives is left alone."""

import errno
import fcntl
import os
import pickle
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drp.link import rundir
from drp.link.rundir import (
    RunDirectoryError,
    RunEntry,
    RunRecord,
    look,
    name_for_child,
    remove_served,
    run_directory,
    sweep,
)

ENTRY = RunEntry(pid=4711, instrument="xyz", partition=2, alias="cam_0", started=1.5)
INTRUDER = 65534
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="not root, who alone can make what belongs to another user"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return run_directory({"XDG_RUNTIME_DIR": str(tmp_path)})


@pytest.fixture
def shared_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files as /tmp is, in which an intruder may make what it likes."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o001 == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(rundir.tempfile, "gettempdir", lambda: str(shared))
    yield shared


def as_intruder(act: Callable[[], None]) -> int:
    """Run something as another user in a process of its own; return its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(INTRUDER, INTRUDER, INTRUDER)
            os.setresuid(INTRUDER, INTRUDER, INTRUDER)
            act()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_directory_is_made_in_the_runtime_directory_for_us_alone(tmp_path: Path) -> None:
    path = run_directory({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert path == tmp_path / "drp"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert run_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == path


@pytest.mark.parametrize("runtime", [None, "", "/no/such/directory", "relative"])
def test_without_a_runtime_directory_it_is_in_the_temporary_folder(
    shared_temp: Path, runtime: str | None
) -> None:
    path = run_directory({} if runtime is None else {"XDG_RUNTIME_DIR": runtime})
    assert path == shared_temp / f"drp-{os.geteuid()}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@needs_root
def test_runtime_directory_of_another_user_is_passed_over(tmp_path: Path, shared_temp: Path) -> None:
    theirs = tmp_path / "run"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, INTRUDER, INTRUDER)
    assert run_directory({"XDG_RUNTIME_DIR": str(theirs)}).parent == shared_temp
    assert list(theirs.iterdir()) == []


@needs_root
def test_directory_that_an_intruder_made_first_is_refused(shared_temp: Path) -> None:
    name = shared_temp / f"drp-{os.geteuid()}"
    assert as_intruder(lambda: name.mkdir(mode=0o700)) == 0
    with pytest.raises(
        RunDirectoryError, match=f"belongs to uid {INTRUDER}, expected {os.geteuid()}"
    ) as caught:
        run_directory({})
    assert caught.value.path == name
    with pytest.raises(RunDirectoryError, match="belongs to uid"):
        sweep(name)


@needs_root
def test_symlink_that_an_intruder_made_first_is_refused(shared_temp: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours"
    target.mkdir(mode=0o700)
    (target / "precious.json").write_text("{}")
    name = shared_temp / f"drp-{os.geteuid()}"
    assert as_intruder(lambda: name.symlink_to(target)) == 0
    with pytest.raises(RunDirectoryError, match="cannot be opened as a directory"):
        run_directory({})
    with pytest.raises(RunDirectoryError, match="cannot be opened as a directory"):
        sweep(name)
    assert (target / "precious.json").exists()


@needs_root
def test_intruder_cannot_look_into_or_write_to_the_directory(shared_temp: Path) -> None:
    path = run_directory({})
    assert as_intruder(lambda: os.close(os.open(path, os.O_RDONLY))) == errno.EACCES
    assert as_intruder(lambda: os.close(os.open(path / "x.json", os.O_CREAT))) == errno.EACCES
    assert as_intruder(lambda: os.rename(path, shared_temp / "elsewhere")) == errno.EPERM


def test_file_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drp").touch()
    with pytest.raises(RunDirectoryError, match="cannot be opened as a directory: Not a directory"):
        run_directory({"XDG_RUNTIME_DIR": str(tmp_path)})


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_directory_that_others_can_reach_into_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(RunDirectoryError, match=f"has mode {mode:04o}, expected 0700.*chmod 700"):
        run_directory({"XDG_RUNTIME_DIR": str(directory.parent)})


def test_error_survives_pickling(directory: Path) -> None:
    error = RunDirectoryError("is not so", directory, hint="Do this")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path) == (str(error), directory)
    assert str(error) == f"{directory}: is not so. Do this"


def test_record_lasts_as_long_as_its_block_and_is_private(directory: Path) -> None:
    with RunRecord(directory, ENTRY) as record:
        assert list(directory.iterdir()) == [record.path]
        assert stat.S_IMODE(record.path.stat().st_mode) == 0o600
        assert RunEntry.from_json(record.path.read_text().strip()) == ENTRY
    assert list(directory.iterdir()) == []


def test_record_of_a_living_process_is_not_swept(directory: Path) -> None:
    with RunRecord(directory, ENTRY) as record:
        assert sweep(directory) == []
        assert record.path.exists()


def test_descriptor_of_the_lock_is_not_inherited(directory: Path) -> None:
    with RunRecord(directory, ENTRY) as record:
        listed = subprocess.run(
            ["/bin/ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False
        )
        assert record.path.name not in listed.stdout


def leave_record(directory: Path, *updates: dict[str, object]) -> None:
    """Have a process write a record and be killed with SIGKILL."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from drp.link.rundir import RunEntry, RunRecord\n"
        f"entry = RunEntry(os.getpid(), 'xyz', 2, 'cam_0', 1.5)\n"
        f"with RunRecord(Path({str(directory)!r}), entry) as record:\n"
        f"    for changes in {list(updates)!r}:\n"
        "        record.update(**changes)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_killed_process_is_found_with_its_run_and_its_record_removed(directory: Path) -> None:
    leave_record(directory, {"run": 6}, {"run": None}, {"run": 7, "output_files": ("/data/xyz-r0007.xtc2",)})
    with RunRecord(directory, ENTRY) as living:
        [abandoned] = sweep(directory)
        assert abandoned.entry is not None
        assert (abandoned.entry.run, abandoned.entry.output_files) == (7, ("/data/xyz-r0007.xtc2",))
        assert "run 7 of cam_0 of xyz has no EndRun" in str(abandoned)
        assert "/data/xyz-r0007.xtc2" in str(abandoned)
        assert list(directory.iterdir()) == [living.path]
        assert sweep(directory) == []


def test_process_killed_between_runs_has_no_run(directory: Path) -> None:
    leave_record(directory, {"run": 6}, {"run": None})
    [abandoned] = sweep(directory)
    assert abandoned.entry is not None
    assert abandoned.entry.run is None
    assert "was killed between runs" in str(abandoned)


def test_update_cut_short_leaves_the_one_before(directory: Path) -> None:
    whole = replace(ENTRY, run=7).to_json()
    for cut in range(0, len(whole), 7):
        (directory / "1-a.json").write_text(f"\n{ENTRY.to_json()}\n\n{whole[:cut]}")
        [abandoned] = sweep(directory)
        assert abandoned.entry == ENTRY


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        ENTRY.to_json().replace("4711", '"4711"').encode(),
        ENTRY.to_json().replace('"output_files": []', '"output_files": [1]').encode(),
        ENTRY.to_json().replace('"run": null', '"run": 1.5').encode(),
    ],
)
def test_record_that_cannot_be_read_is_reported_as_such(directory: Path, text: bytes) -> None:
    (directory / "1-a.json").write_bytes(text)
    [abandoned] = sweep(directory)
    assert abandoned.entry is None
    assert "cannot be read" in str(abandoned)
    assert list(directory.iterdir()) == []


def test_record_never_written_to_is_removed_without_a_word(directory: Path) -> None:
    (directory / "1-a.json").touch()
    assert sweep(directory) == []
    assert list(directory.iterdir()) == []


def test_sweep_touches_nothing_but_records(directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text(ENTRY.to_json())
    (directory / "link.json").symlink_to(target)
    (directory / "folder.json").mkdir()
    os.mkfifo(directory / "fifo.json")
    (directory / "segment").write_text("1")
    before = sorted(directory.iterdir())
    assert look(directory) == []
    assert sweep(directory) == []
    assert sorted(directory.iterdir()) == before
    assert target.exists()


def test_sockets_go_with_the_record_they_belong_to_and_no_sooner(directory: Path) -> None:
    def bound(path: Path) -> Path:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
        return path

    with RunRecord(directory, ENTRY) as record:
        alive = bound(record.socket_path("xyz-2-cam_0"))
        dead = bound(directory / "xyz-2-cam_1.4712-0011aabb.sock")
        plain = directory / "notes.sock"
        plain.write_text("no socket")
        assert alive.name.startswith("xyz-2-cam_0.4711-")
        sweep(directory)
        assert alive.exists() and plain.exists() and not dead.exists()
    sweep(directory)
    assert not alive.exists() and plain.exists()


def test_what_a_child_has_served_goes_when_it_and_its_parent_are_dead(directory: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ""])
    parent.wait()
    names = {"dead": f"of-{parent.pid}-aa", "served": f"of-{parent.pid}-bb", "alive": name_for_child()}
    names |= {"more": f"words-{names['dead']}", "alive too": f"words-{names['alive']}"}
    for name in names.values():
        for suffix in (".lock", ".ipc"):
            (directory / f"{name}{suffix}").touch()
    (directory / f"of-{parent.pid}-text.txt").touch()
    with (directory / f"{names['served']}.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep(directory)
    left = {path.name for path in directory.iterdir()}
    assert left == {
        *(
            f"{names[one]}{suffix}"
            for one in ("served", "alive", "alive too")
            for suffix in (".lock", ".ipc")
        ),
        f"of-{parent.pid}-text.txt",
    }
    remove_served(directory / f"{names['alive']}.ipc")
    assert names["alive"] not in str(list(directory.iterdir()))


def test_a_served_name_goes_when_nobody_holds_its_lock(directory: Path) -> None:
    for name in ("dead", "served"):
        for suffix in (".lock", ".ipc"):
            (directory / f"{name}{suffix}").touch()
    with (directory / "served.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep(directory)
        assert {path.name for path in directory.iterdir()} == {"served.lock", "served.ipc"}


def test_the_path_of_a_socket_is_short_whatever_the_names_are(directory: Path) -> None:
    with RunRecord(directory, ENTRY) as record:
        path = record.socket_path("x" * 300)
        assert len(os.fsencode(path)) <= 107 or len(path.name.partition(".")[0]) == 8
        assert path.name.endswith(f".{record.path.stem}.sock")


def test_look_tells_the_living_from_the_dead_and_changes_nothing(directory: Path) -> None:
    dead = replace(ENTRY, pid=1, run=7)
    (directory / "1-a.json").write_text(dead.to_json())
    (directory / "2-b.json").write_text("torn")
    with RunRecord(directory, ENTRY):
        before = sorted(directory.iterdir())
        assert look(directory) == [(dead, False), (ENTRY, True)]
        assert sorted(directory.iterdir()) == before
        assert len(sweep(directory)) == 2


def test_record_swept_before_it_was_locked_is_made_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["00000001", "00000002"])
    real_flock = rundir.fcntl.flock
    swept: list[int] = []

    def sweep_first(fd: int, operation: int) -> None:
        if not swept:
            swept.append(fd)
            (directory / "4711-00000001.json").unlink()
        real_flock(fd, operation)

    monkeypatch.setattr(rundir.secrets, "token_hex", lambda _count: next(names))
    monkeypatch.setattr(rundir.fcntl, "flock", sweep_first)
    with RunRecord(directory, ENTRY) as record:
        assert record.path.name == "4711-00000002.json"
        assert list(directory.iterdir()) == [record.path]


def test_long_journal_is_begun_anew(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "RECORD_LIMIT_BYTES", 1000)
    with RunRecord(directory, ENTRY) as record:
        for run in range(50):
            record.update(run=run)
            assert record.path.stat().st_size <= 1000
        assert '"run": 49' in record.path.read_text().splitlines()[-1]


def test_entry_over_the_limit_is_refused_and_the_last_one_stands(directory: Path) -> None:
    with RunRecord(directory, ENTRY) as record:
        record.update(run=7)
        with pytest.raises(RunDirectoryError, match="over the limit"):
            record.update(output_files=("x" * 70_000,))
        assert '"run": 7' in record.path.read_text().splitlines()[-1]
        record.update(run=8)
        assert '"run": 8' in record.path.read_text().splitlines()[-1]


def test_full_disk_is_an_error_and_the_next_update_counts(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    with RunRecord(directory, ENTRY) as record:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, line: real_write(fd, line[:20]))
            with pytest.raises(RunDirectoryError, match="no space left"):
                record.update(run=7)
        record.update(run=8)
        text = record.path.read_bytes()
    (directory / "1-a.json").write_bytes(text)
    [abandoned] = sweep(directory)
    assert abandoned.entry == replace(ENTRY, run=8)


def test_directory_that_goes_before_its_record_does_is_no_error(directory: Path) -> None:
    """systemd removes /run/user/UID when the user logs out, whatever still runs."""
    with RunRecord(directory, ENTRY) as record:
        shutil.rmtree(directory)
        record.update(run=7)


def test_unknown_field_is_refused(directory: Path) -> None:
    with RunRecord(directory, ENTRY) as record, pytest.raises(TypeError):
        record.update(colour="red")


def test_two_sweeps_at_once_report_a_record_once(directory: Path) -> None:
    for number in range(40):
        (directory / f"{number}-a.json").write_text(ENTRY.to_json())
    reports, report_in = os.pipe()
    go, go_in = os.pipe()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os.read(go, 1)
            os.write(report_in, bytes([len(sweep(directory))]))
            os._exit(0)
        pids.append(pid)
    os.write(go_in, b"123")
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    poll = select.poll()
    poll.register(reports, select.POLLIN)
    assert poll.poll(10_000)
    assert sum(os.read(reports, 100)) == 40
    for fd in (reports, report_in, go, go_in):
        os.close(fd)
