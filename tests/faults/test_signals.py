"""Signals to drp: one ends the run in good order, two end it at once, and a standstill is nobody's fault."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import ROOT, DrpCommand, rest_slow, write_script
from tests.support.judge import judge
from tests.support.plain_xtc2 import DISABLE, END_RUN, END_STEP

pytestmark = pytest.mark.timeout(90)
BUSY_S = 2.0
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:digitizer", "--rate", "1000", "-W", "2", "-n", "1000000")


@pytest.mark.parametrize("number", rest_slow(1, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
def test_one_signal_closes_the_run(drp: Start, folder: Path, number: signal.Signals) -> None:
    command = drp(write_script(folder), *SIM)
    command.until_recording(200_000)
    command.signal(number)
    assert command.wait(15) == 0, command.log
    verdict = judge(command.file())
    assert verdict.file.services[-3:] == [DISABLE, END_STEP, END_RUN]
    assert verdict.damaged == {}
    assert len(verdict.events) == command.report["ledger"]["total"] == command.report["source_events"]
    assert command.report["closes"]
    assert command.left() == []


def test_a_signal_that_drp_was_started_to_ignore_does_not_stop_it(drp: Start, folder: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"  # as nohup does
    rate = ("--source", "sim:digitizer", "--rate", "1000", "-W", "1", "-n", "1500")
    command = drp(write_script(folder), *rate, before=ignore)
    command.until_recording(20_000)
    command.signal(signal.SIGHUP)
    assert command.wait(30) == 0, command.log
    assert command.report["ledger"]["total"] == 1500
    assert "told to stop" not in command.log


@pytest.mark.slow
def test_a_signal_after_damage_still_says_so(drp: Start, folder: Path) -> None:
    command = drp(write_script(folder, "if evt.index == 10: raise ValueError"), *SIM)
    command.until_recording(200_000)
    command.signal(signal.SIGINT)
    assert command.wait(15) == 1, command.log
    assert judge(command.file()).damaged == {10: "raised"}


@pytest.mark.parametrize(
    "body",
    rest_slow(1, ["", "if evt.index == 400:\n    print('hangs now')\n    time.sleep(1000)"]),
    ids=["at work", "hanging"],
)
def test_two_signals_end_drp_at_once(
    drp: Start, folder: Path, body: str, good_second_run: Callable[[], None]
) -> None:
    before = (
        "helpers = [subprocess.Popen(['sleep', '1000'], start_new_session=apart) for apart in (False, True)]"
    )
    command = drp(
        write_script(folder, body, before=before), *SIM, "--event-timeout", "60", "--stop-timeout", "60"
    )
    command.until_recording(200_000)
    if body:
        command.until_logged("hangs now")
    command.signal(signal.SIGINT)
    if body:
        command.until_logged("told to stop")
    began = time.monotonic()
    command.signal(signal.SIGTERM)
    code = command.wait(10)
    took_s = time.monotonic() - began
    assert code == 130 or (not body and code == 0), command.log
    assert took_s < BUSY_S, "drp takes a second at most; this machine may be busy"
    print(f"\nended {took_s:.2f} s after the second signal")
    if code == 130:
        judge(command.file(), ended=False)
    assert command.left() == []
    good_second_run()


HOLDS = """\
import ctypes, sys
from drp.source.sim import open_source as simulate

class Holds:
    def __init__(self, source):
        self.source, self.left = source, 20

    def __getattr__(self, name):
        return getattr(self.source, name)

    def fill(self, slots):
        self.left -= 1
        if self.left == 0:
            print("holds the interpreter now", flush=True)
            ctypes.PyDLL(None).sleep(1000)
        return self.source.fill(slots)

def open_source(rest, options):
    return Holds(simulate(rest, options))
"""


def test_two_signals_end_drp_though_nothing_in_it_can_run(
    drp: Start, folder: Path, good_second_run: Callable[[], None]
) -> None:
    """A source that holds the interpreter's lock for good: drp's main thread never comes to see a signal."""
    info = folder / "holds-1.0.dist-info"
    info.mkdir()
    (folder / "holds.py").write_text(HOLDS)
    (info / "entry_points.txt").write_text("[drp.sources]\nholds = holds:open_source\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: holds\nVersion: 1.0\n")
    command = drp(
        write_script(folder), "--source", "holds:digitizer", "-n", "1000000", "--rate", "1000",
        environment={"PYTHONPATH": f"{ROOT}:{folder}"},
    )  # fmt: skip
    command.until_logged("holds the interpreter now")
    command.signal(signal.SIGINT)
    command.signal(signal.SIGTERM)
    began = time.monotonic()
    assert command.wait(10) == 130, command.log
    took_s = time.monotonic() - began
    assert took_s < BUSY_S
    print(f"\nended {took_s:.2f} s after the second signal")
    assert command.left(files=False) == []
    good_second_run()


@pytest.mark.parametrize(
    ("place", "transition"),
    rest_slow(
        1, [("begun", "BeginRun"), ("before", "Configure"), ("configured", "Configure"), ("after", "EndRun")]
    ),
)
def test_who_hangs_at_a_transition_when_the_run_is_stopped_is_named_with_its_traceback(
    drp: Start, folder: Path, place: str, transition: str
) -> None:
    hang = "print('hangs now', flush=True); time.sleep(1000)"
    script = write_script(folder, **{place: f"    {hang}" if place == "after" else hang})
    command = drp(script, *SIM, "--stop-timeout", "2", "--spares", "0")
    if place == "after":
        command.until_recording(100_000)
    else:
        command.until_logged("hangs now")
    command.signal(signal.SIGINT)
    assert command.wait(20) == 1, command.log
    error = command.report["error"]
    assert "worker 0" in error or "worker 1" in error
    assert f"at {transition}" in error
    assert "tracebacks above" in error
    assert "script.py" in command.log[: command.log.index("did not finish within --stop-timeout")]
    assert command.left() == []


@pytest.mark.slow
def test_what_hangs_when_the_run_is_stopped_is_settled_within_the_stop_timeout(
    drp: Start, folder: Path
) -> None:
    body = "if evt.index == 400:\n    print('hangs now')\n    time.sleep(1000)"
    command = drp(write_script(folder, body), *SIM, "--event-timeout", "1", "--first-event-timeout", "20")
    command.until_logged("hangs now")
    command.signal(signal.SIGINT)
    assert command.wait(15) == 1, command.log
    verdict = judge(command.file())
    assert verdict.damaged == {400: "timed_out"}
    assert command.report["closes"]


@pytest.mark.slow
def test_a_standstill_of_drp_is_not_blamed_on_workers(drp: Start, folder: Path) -> None:
    script = write_script(folder, "time.sleep(0.02)")
    command = drp(
        script, "--source", "sim:digitizer", "--rate", "100", "-W", "2", "-n", "600", "--event-timeout", "0.5"
    )
    command.until_recording(100_000)
    command.signal(signal.SIGSTOP)
    time.sleep(3)
    command.signal(signal.SIGCONT)
    assert command.wait(60) == 0, command.log
    assert "stood still" in command.log
    assert judge(command.file()).damaged == {}
    assert command.report["restarts"] == 0


@pytest.mark.slow
def test_workers_do_not_see_the_terminal_s_signals(drp: Start, folder: Path) -> None:
    """A worker and what it starts stand in a session of their own; nobody ignores what the script sends itself."""
    command = drp(
        write_script(folder, "if evt.index == 100: os.kill(os.getpid(), signal.SIGTERM)"), *SIM[:-1], "400"
    )
    assert command.wait(30) == 1
    assert judge(command.file()).damaged == {100: "died"}
    assert "SIGTERM" in command.log
