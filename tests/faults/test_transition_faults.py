"""A script that fails where no event is at stake: before it runs, at Configure, BeginRun, or another transition; and one that always fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, rest_slow, write_script
from tests.support.judge import judge

pytestmark = pytest.mark.timeout(90)
Start = Callable[..., DrpCommand]
SIM = ("--source", "sim:digitizer", "-n")
QUICK_S = 20.0


@pytest.mark.parametrize(
    ("parts", "said"),
    rest_slow(
        1,
        [
            ({"before": "import no_such_module"}, "No module named 'no_such_module'"),
            ({"before": "this is no Python"}, "SyntaxError"),
            ({"before": "raise RuntimeError('at once')"}, "RuntimeError: at once"),
            ({"before": "sys.exit(4)"}, "SystemExit: 4"),
            ({"before": "sys.exit(0)"}, "without making a DataSource"),
            ({"before": "ctypes.string_at(0)"}, "SIGSEGV"),
            ({"before": "os._exit(0)"}, "exited with code 0"),
            ({"configured": "raise RuntimeError('after add_detector')"}, "RuntimeError: after add_detector"),
            ({"configured": "sys.exit(0)"}, "without asking for runs"),
            ({"begun": "raise RuntimeError('at BeginRun')"}, "RuntimeError: at BeginRun"),
            ({"begun": "run.Detector('no_such_detector')"}, "no detector or variable 'no_such_detector'"),
            (
                {"configured": "if info.worker_num == 1: raise RuntimeError('only one of us')"},
                "RuntimeError: only one of us",
            ),
        ],
    ),
)
def test_a_script_that_cannot_begin_ends_the_run_with_its_traceback(
    drp: Start, folder: Path, parts: dict[str, str], said: str
) -> None:
    began = time.monotonic()
    command = drp(write_script(folder, **parts), *SIM, "100", "-W", "2")
    assert command.wait(QUICK_S * 2) == 1, command.log
    assert time.monotonic() - began < QUICK_S
    assert said in command.log
    assert "worker" in command.report["error"]
    assert said in command.report["error"]
    assert command.report["closes"] or command.report["ledger"]["total"] == 0
    assert not list(command.output.glob("*/*/xtc/*.xtc2")), "a run that did not begin left a whole file"
    assert command.left() == []


def test_a_script_that_is_not_there_is_a_usage_error(drp: Start, folder: Path) -> None:
    command = drp(folder / "nowhere.py", *SIM, "100")
    assert command.wait(20) == 2
    assert "there is no such script" in command.log
    assert command.left() == []


def test_names_that_differ_between_workers_fail_configure(drp: Start, folder: Path) -> None:
    script = write_script(folder, fields="'x%d' % info.worker_num: (np.float32, 0)")
    command = drp(script, *SIM, "100", "-W", "2", "--spares", "0")
    assert command.wait(30) == 1
    error = command.report["error"]
    assert "x0" in error and "x1" in error and "worker" in error, error
    assert command.left() == []


@pytest.mark.slow
def test_names_that_differ_from_the_first_answer_cost_the_replacement(drp: Start, folder: Path) -> None:
    """The first workers agree; one that comes later declares something else, and is left out in the end."""
    before = "late = os.path.exists(sys.argv[1])"
    body = "if evt.index == 50:\n    open(sys.argv[1], 'w').close()\n    os._exit(1)"
    script = write_script(folder, body, before=before, fields="**({'late': (np.float32, 0)} if late else {})")
    command = drp(f"{script} {folder / 'late'}", *SIM, "2000", "-W", "2", "--rate", "1000", "--spares", "0")
    assert command.wait(60) == 1, command.log
    verdict = judge(command.file())
    assert verdict.damaged == {50: "died"}
    assert len(verdict.events) == 2000
    assert "other Names than the first" in command.log
    assert command.left() == []


STEPS = """\
    for step in run.steps():
        for evt in step.events():
            fex.fex.index = evt.index
            ds.add_data(fex.fex)
        if info.worker_num == 0 and step_fails:
            {fault}
"""


@pytest.mark.parametrize(
    "fault", rest_slow(1, ["raise RuntimeError('at EndStep')", "os._exit(9)", "ctypes.string_at(0)"])
)
def test_a_failure_at_another_transition_replaces_the_worker_and_completes(
    drp: Start, folder: Path, fault: str
) -> None:
    text = write_script(folder, before="step_fails = True").read_text()
    head = text[: text.index("    for evt in run.events")].rstrip().removesuffix("pass")
    script = folder / "steps.py"
    script.write_text(head + "\n" + STEPS.format(fault=fault))
    command = drp(script, "--source", "sim:digitizer,steps=2", "-n", "400", "-W", "3")
    assert command.wait(60) == 1, command.log
    verdict = judge(command.file())
    report = command.report
    assert verdict.damaged == {}
    assert len(verdict.events) == 400
    assert report["closes"]
    assert report["transitions"]["EndStep"] == 2
    assert report["failed_transitions"] >= 1
    assert verdict.file.services.count(7) == 2
    assert command.left() == []


@pytest.mark.slow
def test_reductions_of_a_worker_that_dies_are_lost_and_the_others_count(drp: Start, folder: Path) -> None:
    body = "total[0] += 1\nif evt.index == 150: os._exit(1)"
    script = write_script(
        folder, body, configured="total = ds.reduce('total', np.zeros(1, np.uint64), 'sum')"
    )
    command = drp(script, *SIM, "300", "-W", "2")
    assert command.wait(60) == 1, command.log
    verdict = judge(command.file())
    assert verdict.damaged == {150: "died"}
    end = verdict.file.dgrams[-1].find("reduce")
    assert 0 < end["total"][0] < 300


IN_A_HURRY = """\
from drp.core import Policy
limit_s = Policy.limit_s
Policy.limit_s = lambda self, service, *, first: limit_s(self, service, first=first) / 20
"""


@pytest.mark.slow
def test_a_worker_that_hangs_at_configure_is_given_up_after_its_limit(drp: Start, folder: Path) -> None:
    """The limit is a minute, of which the test has a twentieth."""
    script = write_script(folder, before="time.sleep(1000)")
    began = time.monotonic()
    command = drp(script, *SIM, "10", "-W", "1", before=IN_A_HURRY)
    assert command.wait(60) == 1
    assert 2.9 < time.monotonic() - began < 40
    assert "Configure was not answered within 3 s" in command.log
    assert f'File "{script}", line' in command.log
    assert command.left() == []


@pytest.mark.slow
def test_a_script_that_always_fails_is_left_out_and_raw_passes_damaged(drp: Start, folder: Path) -> None:
    script = write_script(folder, "raise ValueError('never')")
    command = drp(script, *SIM, "3000", "-W", "2", "--rate", "1000", "--spares", "1")
    assert command.wait(60) == 1, command.log
    verdict = judge(command.file())
    assert len(verdict.damaged) == len(verdict.events) == 3000
    assert verdict.causes["no_worker"] > 1000
    assert 10 <= verdict.causes["raised"] < 100
    assert "left out after 5 failures in a row" in command.log
    assert "events pass raw and damaged" in command.log
    assert command.report["closes"]
    assert command.left() == []


@pytest.mark.slow
def test_a_worker_that_was_left_out_is_tried_again(drp: Start, folder: Path) -> None:
    """The script fails until a file is there, which a healthy operator makes; then events are whole again."""
    script = write_script(folder, "if not os.path.exists(sys.argv[1]): raise ValueError('not yet')")
    cure = folder / "cure"
    command = drp(f"{script} {cure}", *SIM, "8000", "-W", "2", "--rate", "1000")
    command.until_logged("events pass raw and damaged")
    cure.touch()
    assert command.wait(60) == 1, command.log
    verdict = judge(command.file())
    assert len(verdict.events) == 8000
    assert set(verdict.causes) <= {"raised", "no_worker"}
    assert 7999 not in verdict.damaged
    assert "at work again" in command.log
    assert command.left() == []


@pytest.mark.slow
def test_on_script_failure_stop_ends_the_run_in_good_order(drp: Start, folder: Path) -> None:
    command = drp(
        write_script(folder, "if evt.index == 200: raise ValueError('enough')"),
        *SIM, "1000000", "--rate", "500", "-W", "2", "--on-script-failure", "stop",
    )  # fmt: skip
    assert command.wait(30) == 1
    verdict = judge(command.file())
    assert verdict.damaged == {200: "raised"}
    assert len(verdict.events) == command.report["ledger"]["total"] < 5000
    assert "--on-script-failure stop" in command.report["error"]
    assert command.left() == []


@pytest.mark.slow
def test_kills_from_outside_do_not_count_as_failures_in_a_row(drp: Start, folder: Path) -> None:
    script = write_script(folder, "if evt.index < 30: os.kill(os.getpid(), 9)")
    command = drp(script, *SIM, "100", "-W", "1")
    assert command.wait(60) == 1, command.log
    assert judge(command.file()).damaged == dict.fromkeys(range(30), "died")
    assert "left out" not in command.log


ONCE = """\
def once(name):
    try:
        os.close(os.open(f"{sys.argv[1]}/{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("place", ["before", "configured", "begun"])
def test_a_worker_killed_from_outside_at_configure_or_begin_run_is_asked_again(
    drp: Start, folder: Path, place: str, workers: str
) -> None:
    """Whoever comes first is killed, the spare included; nobody's script is to blame, so the run begins."""
    parts = (
        {"before": ONCE, place: "once('a'); once('b')"}
        if place != "before"
        else {"before": f"{ONCE}\nonce('a'); once('b')"}
    )
    script = write_script(folder, **parts)
    command = drp(f"{script} {folder}", *SIM, "200", "-W", workers)
    assert command.wait(40) in (0, 1), command.log
    verdict = judge(command.file())
    assert verdict.damaged == {}
    assert len(verdict.events) == 200
    assert command.report["restarts"] == 2
    assert command.report["closes"]
    assert command.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_worker_killed_from_outside_at_end_step_loses_no_event(
    drp: Start, folder: Path, workers: str
) -> None:
    text = write_script(folder, before=ONCE).read_text()
    head = text[: text.index("    for evt in run.events")].rstrip().removesuffix("pass")
    script = folder / "steps.py"
    script.write_text(head + "\n" + STEPS.format(fault="once('a')").replace("step_fails", "True"))
    command = drp(f"{script} {folder}", "--source", "sim:digitizer,steps=3", "-n", "300", "-W", workers)
    assert command.wait(40) == 1, command.log
    verdict = judge(command.file())
    assert verdict.damaged == {}
    assert len(verdict.events) == 300
    assert verdict.file.services.count(7) == 3
    assert command.report["failed_transitions"] == 1
    assert command.left() == []


@pytest.mark.slow
def test_a_spare_that_stands_still_costs_no_event(drp: Start, folder: Path) -> None:
    """It is given the post of a worker that dies, takes nothing, and is given up; what it was sent is done by another."""
    body = "if evt.index == 300: os._exit(1)"
    limits = ("--event-timeout", "0.5", "--first-event-timeout", "1")
    command = drp(write_script(folder, body), *SIM, "1500", "--rate", "500", "-W", "1", *limits)
    spare = command.until(
        lambda: [pid for pid, name in command.workers().items() if name == "drp-worker-1"], "a spare"
    )
    command.until_recording(50_000)
    os.kill(spare[0], signal.SIGSTOP)
    assert command.wait(40) == 1, command.log
    assert judge(command.file()).damaged == {300: "died"}
    assert command.report["restarts"] == 2
    assert "was not even taken" in command.log
    assert command.left() == []
