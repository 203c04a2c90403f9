"""Processes as /proc shows them: children, zombies, state, first environment; what is not there has none."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from drp.script import process
from drp.script.process import children, initial_environment, process_state


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environment = {"EMPTY": "", "WHO": "a=b", "PREFIX_WHO": "no"}
    with subprocess.Popen(["/bin/sleep", "1000"], env=environment, start_new_session=True) as sleeper:
        yield sleeper
        sleeper.kill()


def test_children_are_listed_with_and_without_the_kernels_list(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in children(os.getpid())
    assert sorted(process._children_by_scan(os.getpid())) == sorted(children(os.getpid()))
    assert children(sleeper.pid) == []


def test_zombie_is_still_a_child(sleeper: subprocess.Popen[bytes]) -> None:
    pidfd = os.pidfd_open(sleeper.pid)
    sleeper.send_signal(signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000)
    os.close(pidfd)
    state = process_state(sleeper.pid)
    assert state is not None
    assert state.state == "Z"
    assert sleeper.pid in children(os.getpid())


def test_state_tells_parent_group_and_session(sleeper: subprocess.Popen[bytes]) -> None:
    state = process_state(sleeper.pid)
    assert state is not None
    assert (state.parent, state.group, state.session) == (os.getpid(), sleeper.pid, sleeper.pid)


def test_name_of_a_process_cannot_pass_for_its_state() -> None:
    out, back = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.set_name("a) Z 1 1 1 (b")
        os.write(back, b"+")
        while True:
            signal.pause()
    os.read(out, 1)
    state = process_state(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(out)
    os.close(back)
    assert state is not None
    assert (state.state != "Z", state.parent, state.session) == (True, os.getpid(), os.getsid(0))


def test_process_that_is_not_there_has_no_state_and_no_children() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert process_state(pid) is None
    assert children(pid) == []
    assert initial_environment(pid, "PATH") is None


def test_initial_environment_is_read_by_whole_names(sleeper: subprocess.Popen[bytes]) -> None:
    got = [initial_environment(sleeper.pid, name) for name in ("WHO", "EMPTY", "HO", "PREFIX")]
    assert got == ["a=b", "", None, None]


def test_refused_attribute_is_an_os_error() -> None:
    with pytest.raises(OSError, match="prctl"):
        process.set_parent_death_signal(1000)
