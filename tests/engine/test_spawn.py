"""Workers forked, killed and reaped through a real nursery, and what becomes of all that they leave."""

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from drp.engine.spawn import (
    ForkedWorker,
    ForkFailed,
    Nursery,
    NurseryError,
    NurseryLost,
    Reaped,
    WorkerForked,
)
from drp.script.nursery_wire import PACKET_LIMIT_BYTES, WireError
from drp.script.process import children, process_state

HERE = Path(__file__).parent
WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Spec:
    do: str
    worker: int = 0
    args: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"do": self.do, "worker": self.worker, "args": self.args})


HANG = Spec("hang")


def make_nursery(entry: str = "nursery_entry:main", preload: tuple[str, ...] = (), **options: Any) -> Nursery:
    return Nursery(entry, preload=preload, path=[*sys.path, str(HERE)], **options)


@pytest.fixture(scope="module")
def shared_nursery() -> Iterator[Nursery]:
    """The real preload; one for the tests that do not hurt it."""
    environment = {
        **os.environ,
        "PMI_RANK": "1",
        "HYDI_X": "1",
        "OMPI_COMM": "1",
        "PALS_A": "1",
        "PMIX_B": "1",
    }
    nursery = make_nursery(preload=("numpy", "numba"), environment=environment | {"MPI_LOCALNRANKS": "2"})
    nursery.start()
    yield nursery
    nursery.close()


@pytest.fixture
def nursery(shared_nursery: Nursery) -> Iterator[Nursery]:
    before = descriptors()
    yield shared_nursery
    shared_nursery.ping()
    assert shared_nursery.receive() == []
    assert children(shared_nursery.pid) == []
    assert descriptors() == before


@pytest.fixture
def own_nursery() -> Iterator[Nursery]:
    """One that a test may hurt."""
    before = descriptors()
    ours = set(children(os.getpid()))
    with make_nursery() as nursery:
        nursery.start()
        yield nursery
    assert descriptors() == before
    assert set(children(os.getpid())) == ours


def descriptors() -> set[str]:
    # The descriptor of the listing itself is closed once this has it.
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


def wait_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(WAIT_S * 1000), "nothing came"


def read_line(fd: int) -> str:
    text = b""
    while not text.endswith(b"\n"):
        wait_readable(fd)
        chunk = os.read(fd, 65536)
        assert chunk, f"the pipe ended after {text!r}"
        text += chunk
    return text.decode()


def read_all(fd: int) -> str:
    text = b""
    while True:
        wait_readable(fd)
        chunk = os.read(fd, 65536)
        if not chunk:
            return text.decode()
        text += chunk


def close_pipes(worker: ForkedWorker) -> None:
    os.close(worker.stdout_fd)
    os.close(worker.stderr_fd)


@contextlib.contextmanager
def forked(nursery: Nursery, spec: Spec) -> Iterator[ForkedWorker]:
    worker = nursery.fork(spec)
    try:
        yield worker
    finally:
        close_pipes(worker)


def finish(nursery: Nursery, spec: Spec) -> tuple[Reaped, str, str]:
    """Run a worker to its end; return how it ended and what it wrote."""
    with forked(nursery, spec) as worker:
        out, err = read_all(worker.stdout_fd), read_all(worker.stderr_fd)
        wait_readable(worker.pidfd)
        return nursery.reap(worker), out, err


def start_strays(nursery: Nursery, how: str, then: str = "hang", worker: int = 0) -> tuple[ForkedWorker, int]:
    forked_worker = nursery.fork(Spec("leave_stray", worker, {"how": how, "then": then}))
    return forked_worker, int(read_line(forked_worker.stdout_fd).split()[0])


def lost_event(nursery: Nursery) -> NurseryLost:
    while True:
        wait_readable(nursery.fileno())
        for event in nursery.receive():
            if isinstance(event, NurseryLost):
                return event


def test_worker_gets_a_process_of_its_own(nursery: Nursery) -> None:
    ended, out, err = finish(nursery, Spec("describe", worker=3))
    got = json.loads(out)
    assert (ended.exit_code, ended.signal, ended.strays, err) == (0, None, 0, "")
    assert got["pid"] == got["session"] == got["group"] == ended.pid
    assert got["parent"] == nursery.pid
    assert got["name"] == "drp-worker-3"
    assert got["oom_score_adj"] == 800
    assert got["coredump_filter"] & 0b1010 == 0
    assert got["threads"] == 1
    assert not got["has_segments"]
    assert got["default_signals"] == [True] * 4
    assert got["blocked_signals"] == 0
    assert got["line_buffering"]
    assert got["stdin"] == ""
    assert sorted(got["descriptors"]) == ["0", "1", "2"]
    assert got["descriptors"]["0"] == "/dev/null"


def test_worker_environment_has_one_thread_per_library_and_no_mpi_rank(nursery: Nursery) -> None:
    environment = json.loads(finish(nursery, Spec("describe"))[1])["environment"]
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        assert environment[name] == "1"
    assert not [
        name for name in environment if name.startswith(("PMI", "HYDI", "MPI_LOCAL", "PALS", "OMPI_"))
    ]


def test_workers_draw_different_random_numbers(nursery: Nursery) -> None:
    drawn = {json.loads(finish(nursery, Spec("describe"))[1])["random"] for _ in range(3)}
    assert len(drawn) == 3


def test_exit_code_is_reported(nursery: Nursery) -> None:
    ended, _, _ = finish(nursery, Spec("leave", args={"code": 3}))
    assert (ended.exit_code, str(ended)) == (3, "exit code 3")


@pytest.mark.parametrize(
    ("do", "text"), [("fail", "ValueError: the script's own fault"), ("leave_early", "SystemExit")]
)
def test_escaped_exception_is_printed_and_exits_70(nursery: Nursery, do: str, text: str) -> None:
    ended, _, err = finish(nursery, Spec(do))
    assert ended.exit_code == 70
    assert text in err


def test_crash_is_reported_with_its_signal_and_a_traceback(nursery: Nursery) -> None:
    ended, _, err = finish(nursery, Spec("crash"))
    assert (ended.exit_code, ended.signal, str(ended)) == (None, signal.SIGSEGV, "signal 11 (SIGSEGV)")
    assert "in crash" in err


def test_output_without_newline_is_flushed_at_exit(nursery: Nursery) -> None:
    assert finish(nursery, Spec("say", args={"text": "a\nb"}))[1] == "a\nb\n"
    assert finish(nursery, Spec("say", args={"text": "x", "to": "stderr"}))[2] == "x\n"


def test_worker_that_writes_to_every_descriptor_does_not_disturb_the_nursery(nursery: Nursery) -> None:
    ended, out, _ = finish(nursery, Spec("write_everywhere"))
    assert (ended.exit_code, out) == (0, "wrote\n")
    nursery.ping()


def test_traceback_is_written_on_request(nursery: Nursery) -> None:
    with forked(nursery, HANG) as worker:
        read_line(worker.stdout_fd)
        assert nursery.request_traceback(worker)
        text = ""
        while "in main" not in text:
            text += read_line(worker.stderr_fd)
        assert "in hang" in text
        assert nursery.reap(worker).signal == signal.SIGKILL


def test_kill_ends_a_hung_worker_and_does_nothing_once_it_is_reaped(nursery: Nursery) -> None:
    with forked(nursery, HANG) as worker:
        assert nursery.kill(worker)
        wait_readable(worker.pidfd)
        assert process_state(worker.pid) is not None
        assert nursery.reap(worker).signal == signal.SIGKILL
        assert process_state(worker.pid) is None
        assert not nursery.kill(worker)
        assert not nursery.request_traceback(worker)
        with pytest.raises(NurseryError, match="has been reaped"):
            nursery.reap_begin(worker)


@pytest.mark.parametrize("then", ["hang", "crash"])
@pytest.mark.parametrize("how", ["same-group", "own-session", "no-environment", "forked", "daemon"])
def test_reaping_a_worker_ends_what_it_left_behind(nursery: Nursery, how: str, then: str) -> None:
    worker, stray = start_strays(nursery, how, then)
    if then == "crash":
        wait_readable(worker.pidfd)
    assert process_state(stray) is not None
    ended = nursery.reap(worker)
    assert process_state(stray) is None
    assert process_state(worker.pid) is None
    assert ended.strays == (0 if how == "same-group" else 1)
    close_pipes(worker)


def test_reaping_a_worker_spares_what_belongs_to_a_living_one(nursery: Nursery) -> None:
    living, daemon = start_strays(nursery, "daemon", worker=1)
    other, stray = start_strays(nursery, "own-session", worker=2)
    assert process_state(daemon).parent == nursery.pid
    assert nursery.reap(other).strays == 1
    assert process_state(stray) is None
    assert process_state(daemon) is not None
    assert nursery.reap(living).strays == 1
    assert process_state(daemon) is None
    close_pipes(living)
    close_pipes(other)


def test_stray_that_dies_by_itself_leaves_no_zombie(nursery: Nursery) -> None:
    worker, daemon = start_strays(nursery, "daemon")
    pidfd = os.pidfd_open(daemon)
    os.kill(daemon, signal.SIGKILL)
    wait_readable(pidfd)
    os.close(pidfd)
    # The nursery serves deaths before requests, so it has reaped it when it answers the second ping.
    nursery.ping()
    nursery.ping()
    assert process_state(daemon) is None
    assert nursery.reap(worker).strays == 0
    close_pipes(worker)


def test_forks_are_answered_as_events_without_waiting(nursery: Nursery) -> None:
    ids = [nursery.fork_begin(Spec("hang", worker=number)) for number in range(3)]
    assert nursery.deadline() is not None
    workers: dict[int, ForkedWorker] = {}
    while len(workers) < 3:
        wait_readable(nursery.fileno())
        for event in nursery.receive():
            assert isinstance(event, WorkerForked)
            workers[event.id] = event.worker
    assert list(workers) == ids
    assert nursery.deadline() is None
    for worker in workers.values():
        nursery.reap_begin(worker)
        close_pipes(worker)
    reaped: set[int] = set()
    while len(reaped) < 3:
        wait_readable(nursery.fileno())
        for event in nursery.receive():
            assert isinstance(event, Reaped)
            reaped.add(event.pid)
    assert reaped == {worker.pid for worker in workers.values()}


def test_waiting_for_one_answer_keeps_the_others_for_receive(nursery: Nursery) -> None:
    number = nursery.fork_begin(HANG)
    nursery.ping()
    [event] = nursery.receive()
    assert isinstance(event, WorkerForked)
    assert event.id == number
    nursery.reap(event.worker)
    close_pipes(event.worker)


def test_fifty_workers_leave_no_descriptor_and_no_process(nursery: Nursery) -> None:
    there = Path(f"/proc/{nursery.pid}/fd")
    before = len(list(there.iterdir())), descriptors()
    for number in range(50):
        with forked(nursery, Spec("hang", worker=number)) as worker:
            if number % 2:
                nursery.kill(worker)
            nursery.reap(worker)
    assert (len(list(there.iterdir())), descriptors()) == before
    assert children(nursery.pid) == []


def test_more_requests_than_the_socket_holds_are_all_answered(nursery: Nursery) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    padding = "x" * 60_000
    unanswered = {nursery.fork_begin(Spec("say", args={"text": padding, "to": "stderr"})) for _ in range(12)}
    unreaped: set[int] = set()
    while unanswered or unreaped:
        wait_readable(nursery.fileno())
        for event in nursery.receive():
            if isinstance(event, Reaped):
                unreaped.remove(event.pid)
                continue
            assert isinstance(event, WorkerForked)
            unanswered.remove(event.id)
            assert len(read_all(event.worker.stderr_fd)) == 60_001
            close_pipes(event.worker)
            unreaped.add(event.worker.pid)
            nursery.reap_begin(event.worker)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_longest_spec_is_taken_and_a_longer_one_refused(nursery: Nursery) -> None:
    overhead = len(json.dumps({"kind": "Fork", "id": 10_000, "name": "drp-worker-0", "spec": HANG.to_json()}))
    room = PACKET_LIMIT_BYTES - overhead - 200
    ended, out, _ = finish(nursery, Spec("say", args={"text": "y" * (room - 2000)}))
    assert (ended.exit_code, len(out)) == (0, room - 1999)
    with pytest.raises(WireError, match="over the limit"):
        nursery.fork_begin(Spec("say", args={"text": "y" * PACKET_LIMIT_BYTES}))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nursery_ignores_signals_that_are_for_drp(nursery: Nursery, number: signal.Signals) -> None:
    os.kill(nursery.pid, number)
    nursery.ping()


def test_fork_to_first_line_is_a_matter_of_milliseconds(nursery: Nursery) -> None:
    took_ms = []
    for _ in range(20):
        began = time.monotonic_ns()
        with forked(nursery, Spec("tell_time")) as worker:
            took_ms.append((int(read_line(worker.stdout_fd)) - began) / 1e6)
            nursery.reap(worker)
    print(f"fork to first line: median {median(took_ms):.1f} ms, most {max(took_ms):.1f} ms")
    assert median(took_ms) < 50


def test_killed_nursery_is_lost_with_its_workers_and_all_they_left(own_nursery: Nursery) -> None:
    hows = ("same-group", "own-session", "no-environment", "forked", "daemon")
    started = [start_strays(own_nursery, how, worker=number) for number, how in enumerate(hows)]
    os.kill(own_nursery.pid, signal.SIGKILL)
    event = lost_event(own_nursery)
    assert "signal 9 (SIGKILL)" in event.reason
    assert {ended.pid: ended.signal for ended in event.reaped} == {
        worker.pid: signal.SIGKILL for worker, _ in started
    }
    assert [process_state(stray) for _, stray in started] == [None] * 5
    assert own_nursery.lost == event.reason
    assert own_nursery.receive() == []
    assert not own_nursery.kill(started[0][0])
    with pytest.raises(NurseryError, match="SIGKILL"):
        own_nursery.fork_begin(HANG)
    for worker, _ in started:
        close_pipes(worker)
    with make_nursery() as second:
        second.start()
        assert finish(second, Spec("leave", args={"code": 4}))[0].exit_code == 4


def test_fork_that_a_killed_nursery_did_not_answer_is_named(own_nursery: Nursery) -> None:
    os.kill(own_nursery.pid, signal.SIGSTOP)
    number = own_nursery.fork_begin(HANG)
    os.kill(own_nursery.pid, signal.SIGKILL)
    assert lost_event(own_nursery).unanswered == (number,)


def test_nursery_that_does_not_answer_in_time_is_killed_and_lost() -> None:
    now = 0.0
    before = descriptors()
    with make_nursery(clock=lambda: now) as nursery:
        nursery.start()
        with forked(nursery, HANG) as worker:
            os.kill(nursery.pid, signal.SIGSTOP)
            number = nursery.fork_begin(HANG)
            assert nursery.deadline() == 10.0
            now = 9.0
            assert nursery.receive() == []
            nursery.postpone(5.0)
            now = 14.0
            assert nursery.receive() == []
            now = 15.0
            [event] = nursery.receive()
            assert isinstance(event, NurseryLost)
            assert event.reason == "it did not answer 'fork' within 10 s"
            assert event.unanswered == (number,)
            assert [ended.pid for ended in event.reaped] == [worker.pid]
    assert descriptors() == before


def test_setup_that_the_system_refuses_is_reported_and_leaves_nothing() -> None:
    before = descriptors()
    with make_nursery(preload=("broken_setup",)) as nursery:
        nursery.start()
        with pytest.raises(NurseryError, match="Invalid argument"):
            nursery.fork(HANG)
        number = nursery.fork_begin(HANG)
        wait_readable(nursery.fileno())
        [event] = nursery.receive()
        assert isinstance(event, ForkFailed)
        assert event.id == number
        assert children(nursery.pid) == []
    assert descriptors() == before


@pytest.mark.parametrize(
    ("entry", "preload", "reason"),
    [
        ("no_such_module:main", (), "No module named 'no_such_module'"),
        ("nursery_entry:no_such_function", (), "no_such_function"),
        ("nursery_entry:main", ("threaded_entry",), "has 2 threads after its imports and must have 1"),
    ],
)
def test_nursery_that_cannot_start_says_why(entry: str, preload: tuple[str, ...], reason: str) -> None:
    before = descriptors()
    with make_nursery(entry, preload) as nursery, pytest.raises(NurseryError, match=reason):
        nursery.start()
    assert descriptors() == before


def test_fork_without_descriptors_to_spare_is_refused_and_leaks_none(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pipe2 = os.pipe2
    made: list[int] = []

    def second_fails(flags: int) -> tuple[int, int]:
        made.append(flags)
        if len(made) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real_pipe2(flags)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe2", second_fails)
        with pytest.raises(NurseryError, match="Too many open files"):
            nursery.fork_begin(HANG)


def test_module_in_the_working_directory_does_not_shadow_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    path = [str(Path(entry).absolute()) for entry in (*sys.path, HERE)]
    monkeypatch.chdir(tmp_path)
    with Nursery("nursery_entry:main", preload=("numpy",), path=path) as nursery:
        nursery.start()


def test_closing_ends_living_workers_and_what_they_left() -> None:
    nursery = make_nursery()
    nursery.start()
    pid = nursery.pid
    started = [start_strays(nursery, how) for how in ("own-session", "forked", "daemon", "same-group")]
    nursery.close()
    assert process_state(pid) is None
    for worker, stray in started:
        assert process_state(worker.pid) is None
        assert process_state(stray) is None
        close_pipes(worker)
    nursery.close()


def test_death_of_drp_ends_the_nursery_the_workers_and_what_they_left() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(HERE / "drp_stand_in.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as drp:
        assert drp.stdout is not None
        pids = [int(pid) for pid in read_line(drp.stdout.fileno()).split()]
        pidfds = [os.pidfd_open(pid) for pid in pids]
        drp.kill()
    assert len(pids) == 9
    for pid, pidfd in zip(pids, pidfds, strict=True):
        wait_readable(pidfd)
        os.close(pidfd)
        # The nursery is ours now if an earlier test made this process a subreaper; all else was reaped by it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    assert [process_state(pid) for pid in pids] == [None] * 9


def test_a_fork_asked_of_a_nursery_that_does_not_stand_yet_waits_for_its_start() -> None:
    """Kernels may be compiled before the first fork: until it stands, its start is what is limited."""
    now_s = [100.0]
    nursery = make_nursery(clock=lambda: now_s[0], start_limit_s=300.0, answer_limit_s=10.0)
    with nursery:
        nursery.start_begin()
        number = nursery.fork_begin(HANG)
        nursery.fork_begin(HANG)
        assert nursery.deadline() == 400.0
        now_s[0] = 390.0
        worker = None
        while worker is None:
            wait_readable(nursery.fileno())
            for event in nursery.receive():
                if isinstance(event, WorkerForked):
                    close_pipes(event.worker)
                    worker = event.worker if event.id == number else worker
        now_s[0] = 400.5
        assert nursery.lost is None
