"""Real engine, real meb, a script that looks: what a viewer sees is what is recorded, and whatever happens to it or the meb the run goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from meb_bench import NAME, served, until

from drp import DataSource
from drp.core.config import DrpConfig
from drp.core.report import Report
from drp.engine.meblink import MebLinks, MebTarget
from drp.engine.reducer import Reducer, make_nursery
from drp.engine.spawn import Nursery
from drp.link.sockets import well_known
from drp.source import SourceOptions, open_source

pytestmark = pytest.mark.timeout(60)
SCRIPT = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
mean = ds.add_detector(DetectorDef("mean", "mean", "m"), AlgDef("fex", 0, 0, 1), {"of": (np.float64, 0)})
for run in ds.runs():
    det = run.Detector("digitizer")
    for evt in run.events():
        mean.fex.of = det.raw.raw(evt).mean()
        ds.add_data(mean.fex)
        ds.remove_data("digitizer", "raw") if evt.index % 2 else None
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with make_nursery(()) as made:
        made.start_begin()
        yield made


class Run:
    """A reducer in a thread, with links to a meb."""

    def __init__(self, nursery: Nursery, folder: Path, events: int, rate_hz: float | None = None) -> None:
        script = folder / "mean.py"
        script.write_text(SCRIPT)
        self.config = DrpConfig(
            str(script), sources=("sim:digitizer:16",), workers=1, events=events, out_dir=folder
        )
        self.links = MebLinks([MebTarget(0, "meb0", well_known(NAME))], alias="digi_0", always=1)
        self.links.start()
        self.source = open_source(list(self.config.sources), SourceOptions(events=events, rate_hz=rate_hz))
        self.reports: list[Report] = []
        reducer = Reducer(self.config, monitor=self.links)
        self.thread = threading.Thread(
            target=lambda: self.reports.append(reducer.reduce(nursery, self.source, {}))
        )

    def __enter__(self) -> Run:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(30)
        self.links.close()
        assert not self.thread.is_alive()


def test_a_viewer_sees_what_is_recorded(nursery: Nursery, tmp_path: Path) -> None:
    with ExitStack() as stack:
        meb = stack.enter_context(served(buffers=64))
        seen: dict[int, tuple[float | None, bool]] = {}
        lost: list[int] = []
        over = threading.Event()

        def look() -> None:
            ds = DataSource(monitor="tst:0/meb0")
            run = next(ds.runs())
            assert run.expt is not None
            mean, det = run.Detector("mean"), run.Detector("digitizer")
            for evt in run.events():
                seen[evt.timestamp] = (mean.fex.of(evt), det.raw.raw(evt) is None)
            lost.append(ds.monitor_lost)
            over.set()

        thread = threading.Thread(target=look)
        thread.start()
        until(lambda: len(meb.viewers))
        run = Run(nursery, tmp_path, 400, rate_hz=400)
        until(lambda: meb.drps.connected == ["digi_0"])
        with run:
            pass
        assert over.wait(10)
        thread.join(10)
        (report,) = run.reports
        assert (report.exit_code, report.ledger.total) == (0, 400)
        assert len(seen) + lost[0] == meb.counts["events"] and len(seen) >= 20
        (file,) = tmp_path.glob("**/*-s000-c000.xtc2")
        ds = DataSource(files=str(file))
        (offline,) = [next(ds.runs())]
        mean, det = offline.Detector("mean"), offline.Detector("digitizer")
        recorded = {evt.timestamp: (mean.fex.of(evt), det.raw.raw(evt) is None) for evt in offline.events()}
        assert seen.items() <= recorded.items() and len(recorded) == 400
        assert {empty for _, empty in seen.values()} == {False, True}


def test_without_a_meb_the_run_is_as_ever_and_nothing_is_copied(nursery: Nursery, tmp_path: Path) -> None:
    run = Run(nursery, tmp_path, 300)
    with run:
        pass
    assert run.reports[0].exit_code == 0
    counts = run.links.counts()["meb0"]
    assert (counts["MCtbO_EvCt"], counts["MCtbO_TrCt"], counts["dropped"]) == (0, 0, 300)


@pytest.mark.slow
def test_a_meb_that_comes_and_goes_disturbs_nothing(nursery: Nursery, tmp_path: Path) -> None:
    with ExitStack() as stack:
        seen: list[int] = []
        stop = threading.Event()

        def look() -> None:
            ds = DataSource(monitor="tst:0/meb0")
            for run in ds.runs():
                for evt in run.events():
                    seen.append(evt.timestamp)
                    if stop.is_set():
                        return

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        run = stack.enter_context(Run(nursery, tmp_path, 2500, rate_hz=1000))
        for _ in range(2):
            with served(buffers=64):
                before = len(seen)
                until(lambda n=before: len(seen) > n + 50)  # type: ignore[misc]
        stop.set()
    (report,) = run.reports
    assert (report.exit_code, report.ledger.total) == (0, 2500)
    assert len(set(seen)) == len(seen) and np.all(np.diff(np.array(seen, np.uint64).astype(np.int64)) > 0)
    assert os.listdir(tmp_path)
