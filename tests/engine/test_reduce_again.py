"""One process reduces several times: what a drp in a partition does over many Configures, with one nursery and no restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.core.config import DrpConfig
from drp.core.ledger import Fate
from drp.core.report import Report
from drp.engine.reducer import Reducer, make_nursery
from drp.engine.spawn import Nursery
from drp.engine.transition import Finished
from drp.sink.recorder import Output
from drp.source import SourceOptions, open_source
from xtc import Reader, TransitionId

PASS = """
from drp import DataSource
ds = DataSource()
for run in ds.runs():
    for evt in run.events():
        pass
"""
WHOLE = [
    TransitionId.Configure,
    TransitionId.BeginRun,
    TransitionId.BeginStep,
    TransitionId.Enable,
    TransitionId.Disable,
    TransitionId.EndStep,
    TransitionId.EndRun,
    TransitionId.Unconfigure,
]
EVENTS = 60


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with make_nursery(()) as made:
        made.start_begin()
        yield made


def _config(script: Path, text: str = PASS) -> DrpConfig:
    script.write_text(text)
    return DrpConfig(str(script), sources=("sim:digitizer:16",), workers=1, events=EVENTS)


def _reduce(
    config: DrpConfig, nursery: Nursery, told: list[Finished], output: Output | None = None
) -> tuple[Report, Nursery | None]:
    def observe(finished: Finished) -> None:
        told.append(finished)
        if finished.service == TransitionId.Configure and finished.error is None:
            reducer.record_to(output)

    reducer = Reducer(config, observe=observe)
    source = open_source(list(config.sources), SourceOptions(events=config.events))
    return reducer.reduce(nursery, source, {}), reducer.nursery


def test_a_nursery_serves_one_script_after_another(nursery: Nursery, tmp_path: Path) -> None:
    told: list[Finished] = []
    for name in ("first.py", "second.py"):
        report, kept = _reduce(_config(tmp_path / name), nursery, told)
        assert (report.exit_code, report.script, report.ledger.total) == (0, str(tmp_path / name), EVENTS)
        assert kept is nursery and nursery.ready
    services = [one.service for one in told if one.service != TransitionId.SlowUpdate]
    assert services == 2 * WHOLE
    assert all(one.error is None for one in told)


def test_a_script_that_fails_at_configure_is_told_with_its_traceback_and_another_can_follow(
    nursery: Nursery, tmp_path: Path
) -> None:
    told: list[Finished] = []
    report, kept = _reduce(_config(tmp_path / "bad.py", "raise ValueError('no such roi')\n"), nursery, told)
    assert report.exit_code == 1
    (failed,) = told
    assert (failed.service, failed.synthesised) == (TransitionId.Configure, False)
    assert "no such roi" in str(failed.error) and "worker 0" in str(failed.error)
    assert kept is None, "its workers are ended with it"
    with make_nursery(()) as another:
        another.start_begin()
        report, _ = _reduce(_config(tmp_path / "good.py"), another, told)
        assert (report.exit_code, report.ledger.total) == (0, EVENTS)


def test_where_a_run_is_recorded_is_said_after_configure(nursery: Nursery, tmp_path: Path) -> None:
    output = Output(tmp_path / "out", "tst", "exp1", 17, stream=3)
    report, _ = _reduce(_config(tmp_path / "script.py"), nursery, [], output)
    assert [Path(one).name for one in report.files] == [
        "exp1-r0017-s003-c000.xtc2",
        "exp1-r0017-s003-c000.smd.xtc2",
    ]
    services = [dgram.service for dgram in Reader(report.files[0])]
    assert services.count(TransitionId.L1Accept) == EVENTS
    assert report.ledger[Fate.recorded_no_verdict] == EVENTS


def test_another_descriptor_is_heard_and_the_run_is_closed_in_order_when_told_to_stop(
    nursery: Nursery, tmp_path: Path
) -> None:
    told: list[Finished] = []
    bell = os.eventfd(0, os.EFD_NONBLOCK)

    def observe(finished: Finished) -> None:
        told.append(finished)
        if finished.service == TransitionId.Enable:
            os.eventfd_write(bell, 1)

    def heard(fd: int) -> None:
        os.eventfd_read(fd)
        reducer.stop()

    script = tmp_path / "script.py"
    script.write_text(PASS)
    config = DrpConfig(str(script), sources=("sim:digitizer:16",), workers=1, rate_hz=200.0)
    reducer = Reducer(config, observe=observe)
    source = open_source(list(config.sources), SourceOptions(rate_hz=200.0))
    try:
        report = reducer.reduce(nursery, source, {bell: heard})
    finally:
        os.close(bell)
    assert report.exit_code == 0 and report.closes
    assert [one.service for one in told if one.service != TransitionId.SlowUpdate] == WHOLE
    assert all(one.synthesised for one in told[-4:])
