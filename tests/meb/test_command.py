"""The meb command: as a member of a partition, alone, killed, stopped, and asked for by strangers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fake_control import FakeControl
from meb_bench import NAME, FakeDrp, until

from drp.cli.meb import main
from drp.core.wire import Kind
from drp.link.sockets import Endpoint, well_known
from drp.script.monitor import MonitorFeed
from tests.support.intruder import on_file, on_segment, on_socket, succeed
from xtc import TransitionId

pytestmark = pytest.mark.timeout(40)
ROOT = Path(__file__).resolve().parents[2]
L1 = TransitionId.L1Accept
BEGUN = [TransitionId.Configure, TransitionId.BeginRun, TransitionId.BeginStep, TransitionId.Enable]


@contextmanager
def meb_process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A meb in a process, ready."""
    command = [sys.executable, "-c", "import drp_start, sys; sys.exit(drp_start.meb())", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "viewers come to" in line, line
            yield process
        finally:
            process.kill()
            process.wait(10)


def drp(stack: ExitStack, endpoint: Endpoint, number: int = 0) -> FakeDrp:
    made = FakeDrp(endpoint, number)
    stack.callback(made.close)
    return made


def viewer(stack: ExitStack) -> MonitorFeed:
    made = MonitorFeed(well_known(f"view-{NAME}"))
    stack.callback(made.close)
    while not made._stream:
        made._receive()
    return made


def test_a_member_tells_control_of_each_transition_that_all_drps_have_sent() -> None:
    with ExitStack() as stack:
        control = stack.enter_context(FakeControl())
        stack.enter_context(meb_process("-P", "tst", "-p", "0", "-u", "meb0", "-n", "16"))
        control.await_members("meb0")
        info = control.command("meb0", "alloc", {"id": 0, "platform": 0, "partition": "tst"})["connect_info"]
        drps = {f"drp{one}": {"id": one, "readout": 0, "connect_info": {}} for one in range(2)}
        assert "err_info" not in control.command("meb0", "connect", {"partition": {"drp": drps}})
        assert "err_info" not in control.command("meb0", "configure", {"epoch": 4})
        sees = viewer(stack)
        endpoint = Endpoint.from_dict(info["endpoint"])
        a, b = (drp(stack, endpoint, one) for one in range(2))
        assert a.hello(epoch=3)["kind"] == Kind.ERROR
        for one in (a, b):
            assert one.hello(epoch=4)["kind"] == Kind.WELCOME
        for one in (a, b):
            one.send(one.builder.bare(TransitionId.Configure)[:24], 1)
            one.begin(2)
        for service, pulse_id in (("Configure", 1), ("BeginRun", 2), ("BeginStep", 3), ("Enable", 4)):
            told = control.await_told("timingTransition", "meb0", service=service)
            assert (told["pulse_id"], told["error"]) == (pulse_id, None)
        assert [sees.next().service for _ in BEGUN] == BEGUN
        control.command("meb0", "reset")
        assert [sees.next().service for _ in range(3)][-1] == TransitionId.EndRun


def test_nonsense_of_control_is_answered_with_an_error() -> None:
    with FakeControl() as control, meb_process():
        control.await_members("meb0")
        for body in ({}, {"partition": {"drp": {"a": {"id": 99}}}}, {"partition": {"drp": 5}}):
            assert control.command("meb0", "connect", body)["err_info"]["what"]
        assert control.command("meb0", "configure", {"epoch": "x"})["err_info"]["what"]
        assert "err_info" not in control.command("meb0", "configure", {"epoch": 1})


@pytest.mark.slow
def test_a_meb_that_is_killed_leaves_room_for_the_next_and_its_viewers_go_on() -> None:
    with ExitStack() as stack:
        with meb_process("--alone") as first:
            sees = viewer(stack)
            one = drp(stack, well_known(NAME))
            one.hello()
            one.await_credit()
            one.begin()
            one.events([10])
            assert [sees.next().service for _ in range(5)] == [*BEGUN, L1]
            first.send_signal(signal.SIGKILL)
            first.wait(10)
        with meb_process("--alone") as second:
            again = drp(stack, well_known(NAME))
            again.hello()
            again.begin(again=True)
            stream = sees._stream
            until(lambda: sees._receive() or sees._stream not in (0, stream))
            again.await_credit()
            again.events([20])
            while sees.next().pulse_id != 20:
                pass
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0


@pytest.mark.slow
def test_a_meb_that_is_stopped_for_a_while_takes_up_where_it_was() -> None:
    with ExitStack() as stack:
        process = stack.enter_context(meb_process("--alone", "-n", "4"))
        sees = viewer(stack)
        one = drp(stack, well_known(NAME))
        one.hello()
        one.await_credit(4)
        one.begin()
        one.events([10])
        assert [sees.next().service for _ in range(5)] == [*BEGUN, L1]
        process.send_signal(signal.SIGSTOP)
        one.events([11, 12])
        process.send_signal(signal.SIGCONT)
        assert [sees.next().pulse_id for _ in range(2)] == [11, 12]


def test_viewers_of_another_user_get_in_nowhere(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root, who alone can become another user")
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.enter_context(meb_process("--alone"))
        sees = viewer(stack)
        one = drp(stack, well_known(NAME))
        one.hello()
        one.await_credit()
        one.begin()
        one.events([10])
        assert [sees.next().service for _ in range(5)] == [*BEGUN, L1]
        path = Path(well_known(f"view-{NAME}").address.removeprefix("ipc://"))
        segment = sees._segment
        assert segment is not None and segment.readonly
        assert succeed(on_socket(str(path), socket.AF_UNIX) | on_file(path) | on_segment(segment.id)) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "0"], "is 1 to 4096"),
        (["--viewers", "nowhere"], "is HOST:PORT"),
        (["--viewers", "here:1"], "tcp is for those who have keys"),
        (["-P", "a/b"], "INSTRUMENT"),
        (["--frobnicate"], "frobnicate"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--alone", *words]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_watch_prints_an_average_of_what_it_sees() -> None:
    script = ROOT / "fex_scripts" / "watch.py"
    words = ["tst:0/meb0", "--runs", "1", "--detector", "cam"]
    with ExitStack() as stack:
        stack.enter_context(meb_process("--alone", "-n", "16"))
        one = drp(stack, well_known(NAME))
        one.hello()
        watch = subprocess.Popen(
            [sys.executable, str(script), *words],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        stack.enter_context(watch)
        stack.callback(watch.kill)
        one.await_credit(16)
        one.begin()
        one.events(range(10, 14))
        one.end(20)
        assert watch.stdout is not None
        said = watch.stdout.read()
        assert watch.wait(10) == 0
        frames = [one.builder.frame(number, 0) for number in range(10, 14)]
        assert "run 7: cam" in said and "4 events, 0 lost" in said
        assert (
            abs(float(said.split("mean ")[1].split(",")[0]) - sum(frame.mean() for frame in frames) / 4) < 0.5
        )


@pytest.mark.slow
def test_a_drp_without_a_partition_is_watched(tmp_path: Path) -> None:
    script = tmp_path / "pass.py"
    script.write_text("from drp import DataSource\nfor run in DataSource().runs():\n    list(run.events())\n")
    code = "import drp_start, sys; sys.exit(drp_start.drp())"
    words = [
        "-P",
        "tst",
        "--monitor",
        "meb0",
        "-p",
        str(script),
        "--source",
        "sim:digitizer:16",
        "-n",
        "500",
        "--rate",
        "500",
    ]
    with ExitStack() as stack:
        stack.enter_context(meb_process("--alone", "-n", "64"))
        sees = viewer(stack)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        stack.enter_context(done)
        stack.callback(done.kill)
        services = []
        while not services or services[-1] != TransitionId.EndRun:
            services.append(TransitionId(sees.next().service))
        assert done.stdout is not None
        text = done.stdout.read()
        assert done.wait(20) == 0, text
        assert services[:4] == BEGUN and services.count(L1) > 100
