"""The timing command as a process: under control, killed, stopped, alone with real drps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp.cli.timing import main
from drp.core import beam
from drp.link.sockets import Endpoint, well_known
from drp.source.timing_link import Who
from drp.timing.journal import read_journal
from tests.support.drp_command import ROOT, DrpCommand, write_script
from tests.support.fake_control import FakeControl
from tests.support.timing_world import BEGIN, END, FakeDrp, rising
from xtc import Reader, TransitionId

pytestmark = pytest.mark.timeout(120)
COMMAND = "import sys; from drp_start import timing; sys.exit(timing())"
LIMIT_S = 20.0


class Timing:
    """One run of the command."""

    def __init__(self, folder: Path, *words: str, runtime: Path | None = None) -> None:
        self.log_path = folder / "timing.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(runtime or folder)}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=log, env=environment
            )

    def wait(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out.decode()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=LIMIT_S)


@pytest.fixture
def started(folder: Path) -> Iterator[Any]:
    made: list[Timing] = []

    def start(*words: str, **more: Any) -> Timing:
        made.append(Timing(folder, *words, **more))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def control(folder: Path) -> Iterator[FakeControl]:
    with FakeControl(limit_s=LIMIT_S) as made:
        yield made


def members(*drps: tuple[int, int]) -> dict[str, Any]:
    return {"partition": {"drp": {f"drp_{n}": {"id": n, "readout": group} for n, group in drps}}}


def insert(control: FakeControl, *services: TransitionId, **info: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for service in services:
        answer = control.command("timing_0", "insert", {"service": service.name, "info": info})
        assert "err_info" not in answer
    return answer


def until(holds: Any, *drps: FakeDrp) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        for drp in drps:
            drp.turn()
            drp.link.wait(0.005)
        assert time.monotonic() < end, "it did not come"


def pid_of(control: FakeControl) -> int:
    who = control.members.get("timing_0")
    return 0 if who is None else int(who[1]["proc_info"]["pid"])


def to_configured(control: FakeControl, epoch: int) -> FakeDrp:
    """Take the partition from rollcall to Configure, with one drp."""
    assert "err_info" not in control.command("timing_0", "rollcall")
    answer = control.command("timing_0", "alloc", {"id": 0, "platform": 0})
    endpoint = Endpoint.from_dict(answer["connect_info"]["endpoint"])
    assert control.command("timing_0", "connect", members((0, 0))) == {}
    assert control.command("timing_0", "configure", {"epoch": epoch}) == {}
    insert(control, TransitionId.Configure)
    drp = FakeDrp(endpoint, Who("drp_0", 0, 0, epoch), slots=50)
    until(lambda: drp.services == [TransitionId.Configure], drp)
    return drp


def begin(control: FakeControl, run: int) -> None:
    run_info = {"run_info": {"experiment_name": "xpp1", "run_number": run}, "record": True}
    assert control.command("timing_0", "beginrun", run_info) == {}
    insert(control, *BEGIN)


def test_control_leads_it_through_runs_and_a_kill_loses_no_line_of_the_journal(
    control: FakeControl, started: Any, tmp_path: Path
) -> None:
    words = ("-u", "timing_0", "-o", str(tmp_path), "-S", "10", "--rate", "2000")
    timing = started(*words)
    drp = to_configured(control, 1)
    begin(control, 1)
    until(lambda: len(drp.pulses) > 300, drp)
    wrong = control.command("timing_0", "insert", {"service": "Configure", "info": {}})
    assert "not legal" in wrong["err_info"]["what"]
    ended = insert(control, *END[:3])
    until(lambda: drp.services[-1] == TransitionId.EndRun, drp)
    assert ended["counts"]["groups"]["0"] == ended["counts"]["events"] == len(drp.pulses)
    assert set(ended["counts"]["inhibited"]) == {"drp_0"}
    again = control.command(
        "timing_0", "beginrun", {"run_info": {"experiment_name": "xpp1", "run_number": 1}}
    )
    assert "nothing is overwritten" in again["err_info"]["what"]

    begin(control, 2)
    before = len(drp.pulses)
    until(lambda: len(drp.pulses) > before + 300, drp)
    timing.process.kill()
    timing.wait()
    until(lambda: not drp.link.receive(), drp)
    _, records = read_journal(tmp_path / "tst-xpp1-r0002.triggers")
    sent = drp.pulses[before:]
    assert set(sent) <= set(records["pulse_id"].tolist())
    drp.link.close()

    control.forget()
    pid = started(*words).process.pid
    control.until(lambda: pid_of(control) == pid, "a heartbeat of the new one")
    after = to_configured(control, 2)
    begin(control, 3)
    until(lambda: len(after.pulses) > 300, after)
    insert(control, *END)
    until(lambda: after.services[-1] == TransitionId.Unconfigure, after)
    assert rising([*drp.pulses, *after.pulses])
    assert after.link.lost == 0
    after.link.close()


def test_what_control_sends_wrong_is_answered_and_reset_ends_everything(
    control: FakeControl, started: Any, tmp_path: Path
) -> None:
    started("-u", "timing_0", "-o", str(tmp_path))
    control.await_members("timing_0")
    for key, body in (
        ("insert", {"service": "Enable"}),
        ("insert", {"service": "Tea"}),
        ("insert", {}),
        ("connect", {}),
        ("connect", {"partition": {"drp": {"a": {"id": "x"}}}}),
        ("configure", {"epoch": -1}),
        ("configure", {"epoch": 1, "slow_update_hz": 3}),
        ("beginrun", {"run_info": {"run_number": "x"}}),
        ("beginrun", {"run_info": {"experiment_name": "../x", "run_number": 1}}),
    ):
        assert "err_info" in control.command("timing_0", key, body), (key, body)
    drp = to_configured(control, 3)
    begin(control, 1)
    until(lambda: drp.pulses, drp)
    assert control.command("timing_0", "reset")["counts"]["events"] > 0
    until(lambda: not drp.link.welcome, drp)
    path = tmp_path / "tst-xpp1-r0001.triggers"
    assert path.stat().st_mode & 0o777 == 0o440
    drp.link.close()
    again = to_configured(control, 4)
    begin(control, 2)
    until(lambda: len(again.pulses) > 10, again)
    again.link.close()


def test_a_stopped_timing_skips_and_blames_nobody(control: FakeControl, started: Any) -> None:
    timing = started("-u", "timing_0")
    drp = to_configured(control, 1)
    drp.slots = 2000
    begin(control, 1)
    until(lambda: len(drp.pulses) > 50, drp)
    timing.process.send_signal(signal.SIGSTOP)
    until(lambda: not drp.link.receive(), drp)
    time.sleep(0.5)  # as long as it is stopped
    timing.process.send_signal(signal.SIGCONT)
    seen = len(drp.pulses)
    until(lambda: len(drp.pulses) > seen + 300, drp)
    counts = insert(control, *END[:3])["counts"]
    assert counts["skipped"] > 100
    assert counts["inhibited"]["drp_0"] < 50, "those before its first credit, at most"
    assert rising(drp.pulses)
    drp.link.close()
    timing.process.terminate()
    assert timing.wait()[0] == 0


def test_without_any_drp_it_ends_at_a_signal(folder: Path, started: Any) -> None:
    timing = started("--alone", "1")
    end = time.monotonic() + LIMIT_S
    while "serving" not in timing.log_path.read_text():
        assert time.monotonic() < end
    timing.process.terminate()
    assert timing.wait() == (0, "{}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "fast"], "--rate fast"),
        (["--group", "2"], "--group 2"),
        (["--group", "2:270"], "333.333, 250"),
        (["--group", "2:10,2:20"], "each once"),
        (["--event-code", "300:/1"], "--event-code 300"),
        (["-k", "a=b"], "-k a"),
        (["--alone", "0"], "--alone"),
        (["-S", "3"], "-S"),
    ],
)
def test_options_that_cannot_be_are_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_two_timings_of_one_partition_are_one_too_many(
    world: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.start()
    assert main(["--alone", "1"]) == 1
    assert "serves that name already" in capsys.readouterr().err


def stamps(drp: DrpCommand) -> list[int]:
    with Reader(drp.file()) as reader:
        return [one.timestamp for one in reader if one.service == TransitionId.L1Accept]


@pytest.fixture
def triggered(folder: Path, tmp_path: Path) -> Iterator[Any]:
    """Start real drps that follow timing: `triggered(id, group, script, *options)`."""
    made: list[DrpCommand] = []

    def start(number: int, group: int, script: Path, *words: str) -> DrpCommand:
        own = tmp_path / f"drp{number}"
        own.mkdir()
        address = well_known("timing-tst-p0").address
        source = f"triggered:{address},group={group},id={number},inner=sim:digitizer,frames=4"
        made.append(DrpCommand(own, "-p", str(script), "--source", source, *words))
        return made[-1]

    yield start
    for one in made:
        one.destroy()


@pytest.mark.slow
def test_two_real_drps_record_what_was_triggered_a_slow_one_in_every_tenth_event(
    triggered: Any, started: Any, tmp_path: Path
) -> None:
    timing = started(
        "--alone",
        "2",
        "-n",
        "3000",
        "--group",
        "2:/10",
        "--keep-raw",
        "0:/7",
        "-S",
        "10",
        "-o",
        str(tmp_path / "j"),
    )
    script = write_script(tmp_path)
    fast = triggered(0, 0, script)
    slow = triggered(1, 2, script)
    code, out = timing.wait()
    assert (code, fast.wait(), slow.wait()) == (0, 0, 0), fast.log + slow.log
    counts = json.loads(out)
    assert counts["events"] == len(stamps(fast)) == 3000
    assert stamps(slow) == stamps(fast)[::10]
    _, records = read_journal(next((tmp_path / "j").glob("*.triggers")))
    events = records[records["env"] >> 24 == TransitionId.L1Accept]
    assert events["timestamp"].tolist() == stamps(fast)
    for report in (fast.report, slow.report):
        assert report["ledger"]["total"] == report["source_events"]


@pytest.mark.slow
def test_a_hung_script_makes_dead_time_and_loses_nothing(
    triggered: Any, started: Any, tmp_path: Path
) -> None:
    timing = started("--alone", "1", "-n", "4000", "-o", str(tmp_path / "j"))
    script = write_script(tmp_path, "if evt.index == 500: time.sleep(100)")
    hung = triggered(0, 0, script, "-k", "pebbleBufCount=64", "--event-timeout", "1", "-W", "2")
    code, out = timing.wait()
    hung.wait()
    counts = json.loads(out)
    assert code == 0
    assert counts["inhibited"]["drp_0"] > 100
    assert counts["dead_s"]["drp_0"] > 0.3
    assert len(stamps(hung)) == counts["events"] == 4000


@pytest.mark.slow
def test_a_drp_that_is_told_to_stop_while_timing_is_away_ends(
    triggered: Any, started: Any, tmp_path: Path
) -> None:
    timing = started("--alone", "1")
    drp = triggered(0, 0, write_script(tmp_path))
    drp.until_recording()
    timing.process.kill()
    timing.wait()
    drp.signal(signal.SIGTERM)
    drp.wait()
    times = np.array(stamps(drp), np.uint64)
    assert (np.diff(times.astype(np.int64)) > 0).all()
    assert beam.timestamp(beam.ORIGIN_PULSE) < times[0]
