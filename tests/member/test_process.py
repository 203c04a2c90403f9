"""A drp under control: many Configures in one process, each with its script, and what control is told of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_control import FakeControl
from xtc import Config, Dgram, Reader, TransitionId

LIMIT_S = 30.0
ALIAS = "epixhr_1"
SCRIPT = """
from drp import DataSource
ds = DataSource()
for run in ds.runs():
    det = run.Detector("epixhr")
    for evt in run.events():
        assert det.raw.raw(evt) is not None
"""
OF_TIMING = {
    "timing": {"timing": {"id": 0, "connect_info": {"endpoint": {"address": "ipc://nobody", "key": ""}}}}
}
RUN = ("BeginRun", "BeginStep", "Enable")
END = ("Disable", "EndStep", "EndRun")


@dataclass
class Drp:
    """The process under test, and the control that it has."""

    control: FakeControl
    process: subprocess.Popen[str]

    def feed(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(*words, sep="\n", file=self.process.stdin, flush=True)

    def ask(self, key: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.control.command(ALIAS, key, body)
        assert "err_info" not in answer, answer
        return answer

    def connect(self, number: int = 3) -> None:
        self.ask("rollcall")
        self.ask("alloc", {"id": number, "platform": 0, "partition": "p0"})
        self.ask("connect", {"partition": OF_TIMING})

    def configure(self, epoch: int, script: Path | None = None) -> dict[str, Any]:
        self.ask(
            "configure", {"epoch": epoch, "config": None, "script": None if script is None else [str(script)]}
        )
        self.feed("Configure")
        return self.told("Configure")

    def told(self, service: str) -> dict[str, Any]:
        return self.control.await_told("timingTransition", ALIAS, service=service)

    def run(self, number: int, events: int, *, record: bool = True) -> dict[str, Any]:
        """Do a whole run; return what was told of its end."""
        info = {"experiment_name": "exp1", "run_number": number}
        self.ask("beginrun", {"run_info": info, "record": record})
        self.feed(*RUN, events, *END)
        told = {service: self.told(service) for service in (*RUN, *END)}
        assert all(one["error"] is None for one in told.values())
        return told["EndRun"]


@pytest.fixture
def drp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drp]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    script = tmp_path / "first.py"
    script.write_text(SCRIPT)
    with FakeControl(limit_s=LIMIT_S) as control:
        argv = [
            Path(__file__).with_name("stepped.py"),
            control.endpoint.address,
            script,
            tmp_path / "out",
            ALIAS,
        ]
        with (
            (tmp_path / "log").open("w") as log,
            subprocess.Popen(
                [sys.executable, *map(str, argv)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            control.await_members(ALIAS)
            try:
                yield Drp(control, process)
            finally:
                process.kill()
                print((tmp_path / "log").read_text())


def test_one_process_serves_one_script_after_another(drp: Drp, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(SCRIPT.replace("    for evt", "    print('the other script')\n    for evt"))
    drp.connect()
    assert drp.configure(1)["error"] is None
    first = drp.run(5, 40)
    assert first["ledger"]["total"] == 40
    assert first["ledger"]["recorded_no_verdict"] == 40
    second = drp.run(6, 30)
    assert second["ledger"]["total"] == 30, "a ledger is that of its run"
    assert [Path(one).name for one in second["files"]] == [
        "exp1-r0006-s003-c000.xtc2",
        "exp1-r0006-s003-c000.smd.xtc2",
    ]
    drp.ask("unconfigure")
    drp.feed("Unconfigure")
    drp.told("Unconfigure")
    drp.configure(2, other)
    assert drp.run(7, 20, record=False)["files"] == []
    assert not list((tmp_path / "out").rglob("*r0007*"))


def test_a_file_has_the_segments_of_its_drp(drp: Drp) -> None:
    drp.connect()
    drp.configure(1)
    (big, _) = drp.run(5, 3)["files"]
    dgrams = list(Reader(big))
    names = Config(dgrams[0]).names.values()
    assert {(one.detname, one.segment) for one in names if one.detname == "epixhr"} == {("epixhr", 1)}
    assert [one.service for one in dgrams].count(TransitionId.L1Accept) == 3
    assert Dgram(bytes(dgrams[0])).service == TransitionId.Configure


def test_a_script_that_fails_at_configure_is_told_of_with_its_traceback_and_the_next_one_runs(
    drp: Drp, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("raise ValueError('no such roi')\n")
    drp.connect()
    error = drp.configure(1, bad)["error"]
    assert "worker 0" in error["where"]
    assert "no such roi" in error["traceback"]
    assert drp.ask("unconfigure")["out_of_stream"], "control's undoing of a Configure that failed"
    assert drp.configure(2)["error"] is None
    assert drp.run(1, 5)["ledger"]["total"] == 5


def test_a_configure_that_timing_never_inserted_ends_with_unconfigure_and_the_next_one_runs(drp: Drp) -> None:
    drp.connect()
    for epoch in (1, 2):
        drp.ask("configure", {"epoch": epoch, "config": None, "script": None})
        assert drp.ask("unconfigure") == {"out_of_stream": True}
    assert drp.configure(3)["error"] is None
    assert drp.run(1, 5)["ledger"]["total"] == 5


def test_what_cannot_be_done_is_answered_with_why(drp: Drp) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("configure", {"epoch": 1, "script": ["/nowhere/none.py"]}, "there is no such script"),
        ("configure", {"epoch": 0}, "no epoch"),
        ("configure", {"epoch": 1, "script": [3]}, "a script is a list"),
        ("beginrun", {"run_info": {"experiment_name": "e", "run_number": 1}}, "not configured"),
        ("enable", {}, "not configured"),
        ("dance", {}, "knows no dance"),
    ]
    drp.connect()
    for key, body, expected in wrong:
        answer = drp.control.command(ALIAS, key, body)
        assert expected in str(answer["err_info"])
    assert drp.configure(5)["error"] is None


def test_a_partition_that_cannot_be_read_is_refused(drp: Drp) -> None:
    drp.ask("rollcall")
    drp.ask("alloc", {"id": 1, "platform": 0, "partition": "p0"})
    answer = drp.control.command(ALIAS, "connect", {"partition": {"timing": {"t": {"id": "x"}}}})
    assert "cannot be read" in answer["err_info"]["what"]


def test_reset_closes_a_run_in_order_and_the_drp_can_be_used_again(drp: Drp) -> None:
    drp.connect()
    drp.configure(1)
    drp.ask("beginrun", {"run_info": {"experiment_name": "exp1", "run_number": 8}, "record": True})
    drp.feed(*RUN, 12)
    drp.told("Enable")
    drp.ask("reset")
    ended = drp.told("EndRun")
    assert ended["synthesised"]
    assert ended["ledger"]["total"] <= 12
    services = [dgram.service for dgram in Reader(ended["files"][0])]
    assert services[-3:] == [TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun]
    drp.connect()
    drp.configure(2)
    assert drp.run(9, 7)["ledger"]["total"] == 7


def test_a_signal_ends_it_with_the_run_closed(drp: Drp) -> None:
    drp.connect()
    drp.configure(1)
    drp.ask("beginrun", {"run_info": {"experiment_name": "exp1", "run_number": 8}, "record": True})
    drp.feed(*RUN)
    files = drp.told("BeginRun")["files"]
    drp.told("Enable")
    drp.process.send_signal(signal.SIGTERM)
    assert drp.process.wait(LIMIT_S) == 0
    assert [dgram.service for dgram in Reader(files[0])][-1] == TransitionId.EndRun


def test_its_log_tells_of_each_configure_and_run(drp: Drp, tmp_path: Path) -> None:
    drp.connect()
    drp.configure(1)
    files = drp.run(5, 40)["files"]
    drp.run(6, 30, record=False)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [one for one in lines if one.startswith(("INFO:drp.run:configured", "INFO:drp.run:run "))] == [
        f"INFO:drp.run:configured: {tmp_path / 'first.py'}, workers 1",
        f"INFO:drp.run:run 5 begins: {', '.join(files)}",
        "INFO:drp.run:run 5 ends: 40 events, recorded_no_verdict 40",
        "INFO:drp.run:run 6 begins: not recorded",
        "INFO:drp.run:run 6 ends: 30 events, not_recorded 30",
    ]
