"""The whole command on simulated data: what is recorded does not depend on how many workers there are, or on there being any."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drp.cli.options import build_parser
from drp.cli.status import HEAD_WORTH_TELLING_S, line
from drp.core.config import DrpConfig
from drp.core.errors import RecorderError
from drp.core.report import Snapshot
from drp.engine import reducer
from drp.engine.reducer import Reducer
from drp.engine.spawn import Nursery, NurseryError
from drp.link.rundir import RunDirectoryError, RunRecord
from drp.sink.recorder import Recorder
from drp.source import Slots
from drp.source.sim import Simulator
from drp.source.simoptions import parse
from xtc import Reader, Stream, TransitionId

PASS = """
from drp import DataSource
for run in DataSource().runs():
    for evt in run.events():
        pass
"""
REDUCE = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

ds = DataSource()
info = ds.drp_info
definition = DetectorDef(info.det_name, info.det_type, info.det_id)
fex = ds.add_detector(definition, AlgDef("fex", 0, 0, 1), {"x": (np.float64, 0), "w": (np.uint16, 1), "t": (str, 1)})
ds.add_trigger({"big": np.uint8, "sum": np.uint32})
total = ds.reduce("total", np.zeros(16, np.int64), "sum")
peak = ds.reduce("peak", np.zeros(16, np.uint16), "max")
for run in ds.runs():
    det = run.Detector(info.det_name)
    for evt in run.events():
        a = det.raw.raw(evt)[:16]
        np.add(total, a, out=total)
        np.maximum(peak, a, out=peak)
        fex.fex.x, fex.fex.w, fex.fex.t = a[3] / 7, a[: evt.index % 9], f"event {evt.index}"
        ds.add_data(fex.fex)
        ds.set_trigger(big=a[0] > 100, sum=int(a.sum()))
        if evt.index % 5:
            ds.remove_data(info.det_name, "raw")
        if evt.index % 11 == 0:
            ds.damage(evt, user=9)
"""


def drp(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    code = "import sys; from drp.cli.drp import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all recorded files by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.xtc2"))}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of 700 events in two steps, with SlowUpdates."""
    folder = tmp_path_factory.mktemp("recorded")
    script = folder / "pass.py"
    script.write_text(PASS)
    source = "sim:digitizer:32,slow=50,steps=2,rate=1000"
    done = drp(
        "-p", script, "--source", source, "-n", 700, "-W", 2, "-o", folder, "--report", folder / "r.json"
    )
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads((folder / "r.json").read_text())
    assert report["closes"] and report["ledger"]["recorded_no_verdict"] == report["ledger"]["total"] == 700
    (path,) = (path for path in folder.rglob("*.xtc2") if "smd" not in path.name)
    return path


def test_a_pass_through_run_is_complete(recorded: Path) -> None:
    services = [dgram.service for dgram in Reader(recorded)]
    assert services.count(TransitionId.L1Accept) == 700
    assert services.count(TransitionId.BeginStep) == services.count(TransitionId.EndStep) == 2
    assert services[:2] == [TransitionId.Configure, TransitionId.BeginRun]
    assert services[-1] == TransitionId.EndRun


def test_files_are_byte_equal_for_one_worker_many_and_none(recorded: Path, tmp_path: Path) -> None:
    script = tmp_path / "reduce.py"
    script.write_text(REDUCE)
    outputs = []
    for name, options in (("one", ("-W", 1)), ("many", ("-W", 4)), ("none", ("--offline",))):
        done = drp("-p", script, "--source", recorded, "-o", tmp_path / name, *options)
        assert done.returncode == 0, done.stderr + done.stdout
        outputs.append(files(tmp_path / name))
    assert len(outputs[0]) == 2
    assert outputs[0] == outputs[1] == outputs[2]


def test_events_marked_as_the_end_of_a_batch_are_events(recorded: Path, tmp_path: Path) -> None:
    script = tmp_path / "reduce.py"
    script.write_text(REDUCE)
    marked = bytearray(recorded.read_bytes())
    for number, dgram in enumerate(Reader(recorded)):
        if dgram.service == TransitionId.L1Accept and number % 3 == 0:
            marked[dgram.offset + 11] = marked[dgram.offset + 11] & 0xF0 | TransitionId.L1Accept_EndOfBatch
    source = tmp_path / "marked.xtc2"
    source.write_bytes(marked)
    outputs = []
    for name, file, options in (
        ("plain", recorded, ("-W", 1)),
        ("live", source, ("-W", 2)),
        ("offline", source, ("--offline",)),
    ):
        done = drp("-p", script, "--source", file, "-o", tmp_path / name, *options)
        assert done.returncode == 0, done.stderr + done.stdout
        outputs.append(files(tmp_path / name))
    assert outputs[0] == outputs[1] == outputs[2]


def test_views_checked_by_poison_give_the_same_file(recorded: Path, tmp_path: Path) -> None:
    script = tmp_path / "reduce.py"
    script.write_text(REDUCE)
    for name, options in (("plain", ()), ("checked", ("--check-views",))):
        assert (
            drp("-p", script, "--source", recorded, "-W", 2, "-o", tmp_path / name, *options).returncode == 0
        )
    assert files(tmp_path / "plain") == files(tmp_path / "checked")


def test_a_reduced_file_can_be_reduced_again(recorded: Path, tmp_path: Path) -> None:
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    done = drp("-p", script, "--source", recorded, "-o", tmp_path / "again")
    assert done.returncode == 0, done.stderr + done.stdout
    before, after = Reader(recorded), Reader(next((tmp_path / "again").rglob("*c000.xtc2")))
    events = [[bytes(d) for d in reader if d.service == TransitionId.L1Accept] for reader in (before, after)]
    assert events[0] == events[1]


def test_a_run_is_not_written_over(recorded: Path, tmp_path: Path) -> None:
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    assert drp("-p", script, "--source", recorded, "-o", tmp_path).returncode == 0
    content = files(tmp_path)
    again = drp("-p", script, "--source", recorded, "-o", tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in again.stdout + again.stderr
    assert files(tmp_path) == content
    assert drp("-p", script, "--source", recorded, "-o", tmp_path, "--overwrite").returncode == 0


def test_chunks_roll_and_hold_every_event_once(tmp_path: Path) -> None:
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    args = ("-n", 20000, "--rate", 20000, "-W", 2, "-o", tmp_path, "-k", "chunkSize=1M")
    done = drp("-p", script, "--source", "sim:digitizer:64", *args)
    assert done.returncode == 0, done.stderr + done.stdout
    chunks = sorted(path for path in tmp_path.rglob("*.xtc2") if "smd" not in path.name)
    assert len(chunks) > 2
    times = [d.timestamp for d in Stream(chunks[0]) if d.service == TransitionId.L1Accept]
    assert len(times) == 20000
    assert times == sorted(set(times))


def test_event_slots_of_any_size_do(tmp_path: Path) -> None:
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    size = f"pebbleBufSize={(8 << 20) + 1001}"  # more than a transition's, and a multiple of nothing
    done = drp("-p", script, "--source", "sim:digitizer:32", "-n", 20, "-W", 1, "-k", size)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_script_to_copy_fits_every_area_detector_without_options(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "fex_scripts" / "myroi.py"
    for detector in ("jungfrau", "epixhr"):
        done = drp("-p", script, "--source", f"sim:{detector}", "-n", 2, "-o", tmp_path / detector)
        assert done.returncode == 0, done.stderr + done.stdout


def test_the_first_example_of_the_help_runs() -> None:
    example = re.search(r'drp -p "myroi.py (.*)"$', build_parser().epilog or "", re.MULTILINE)
    assert example is not None
    script = Path(__file__).parents[2] / "fex_scripts" / "myroi.py"
    done = drp("-p", f"{script} {example[1]}", "-n", 2, "-W", 1)
    assert done.returncode == 0, done.stderr + done.stdout


FAILS_IN_RUN_1 = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

ds = DataSource()
info = ds.drp_info
definition = DetectorDef(info.det_name, info.det_type, info.det_id)
fex = ds.add_detector(definition, AlgDef("fex", 0, 0, 1), {"x": (np.uint64, 0)})
for run in ds.runs():
    for evt in run.events():
        if run.runnum == 1:
            raise ValueError("not this run")
        fex.fex.x = evt.index
        ds.add_data(fex.fex)
"""


def test_workers_left_out_are_tried_again_at_the_next_configure(tmp_path: Path) -> None:
    (tmp_path / "pass.py").write_text(PASS)
    (tmp_path / "fails.py").write_text(FAILS_IN_RUN_1)
    for run in (1, 2):
        source = f"sim:digitizer:16,run={run}"
        assert (
            drp("-p", tmp_path / "pass.py", "--source", source, "-n", 200, "-o", tmp_path / "in").returncode
            == 0
        )
    first, second = sorted(path for path in (tmp_path / "in").rglob("*.xtc2") if "smd" not in path.name)
    done = drp("-p", tmp_path / "fails.py", "--source", first, second, "-W", 2, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "400 of 400" in " ".join(done.stdout.split()).replace("  ", " ")
    damaged = []
    for path in sorted(path for path in (tmp_path / "out").rglob("*.xtc2") if "smd" not in path.name):
        damaged.append([bool(d.damage) for d in Reader(path) if d.service == TransitionId.L1Accept])
    assert damaged == [[True] * 200, [False] * 200]


def test_a_result_too_large_beside_its_raw_data_stops_the_run_that_asks_for_it(tmp_path: Path) -> None:
    script = tmp_path / "large.py"
    script.write_text(
        REDUCE.replace("a[: evt.index % 9]", "np.zeros(40000, np.uint16)").replace(
            "if evt.index % 5:", "if False:"
        )
    )
    args = ("-p", script, "--source", "sim:digitizer:32", "--rate", 500, "-n", 5000, "-W", 1)
    done = drp(*args, "--on-overflow", "stop")
    assert done.returncode == 1
    assert "--on-overflow stop" in done.stdout
    assert "of 5,000 events" not in done.stdout


def test_slots_lent_to_an_idle_source_are_not_told_as_used(tmp_path: Path) -> None:
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    seen: list[Snapshot] = []
    config = DrpConfig(str(script), sources=("sim:digitizer:16",), events=25, rate_hz=20.0, workers=1)
    assert Reducer(config, seen.append).run().exit_code == 0
    assert seen
    assert max(one.slots_used for one in seen) < 16


def test_the_status_line_names_the_worker_that_all_others_wait_for(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    slow = "        if evt.index == 40: import time; time.sleep(1.8)\n"
    script.write_text(PASS.replace("        pass\n", slow))
    seen: list[Snapshot] = []
    config = DrpConfig(
        str(script), sources=("sim:digitizer:16",), events=600, rate_hz=200.0, workers=2, event_timeout_s=5.0
    )
    assert Reducer(config, seen.append).run().exit_code == 0
    held = [one for one in seen if one.head_worker is not None and one.head_s >= HEAD_WORTH_TELLING_S]
    assert held
    assert "holds the order for" in line(held[-1])
    assert seen[-1].head_worker is None


def test_no_worker_left_is_told_as_what_holds_the_run_up(tmp_path: Path) -> None:
    script = tmp_path / "raises.py"
    script.write_text(PASS.replace("pass", "raise ValueError"))
    seen: list[Snapshot] = []
    config = DrpConfig(
        str(script), sources=("sim:digitizer:16",), events=300, rate_hz=100.0, workers=1, spares=0
    )
    assert Reducer(config, seen.append).run().exit_code == 1
    assert "no worker: events pass raw" in [one.trouble for one in seen]


def test_a_run_directory_that_is_full_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(record: RunRecord, **changes: object) -> None:
        if changes:
            raise RunDirectoryError("cannot be written: no space left", record.path)

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(RunRecord, "update", full)
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    config = DrpConfig(
        str(script), sources=("sim:digitizer:16",), events=50, workers=1, out_dir=tmp_path / "out"
    )
    report = Reducer(config).run()
    assert (report.exit_code, report.ledger.total) == (0, 50)
    (warning,) = (one for one in report.warnings if "no space left" in one)
    assert "the next start would not say of which run" in warning


def test_a_nursery_that_cannot_be_started_again_ends_the_run_with_its_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(Nursery):
        def start_begin(self) -> None:
            raise NurseryError("its process could not be started: no memory")

    nurseries = iter((Nursery(), Refused()))
    monkeypatch.setattr(reducer, "make_nursery", lambda _config: next(nurseries))
    script = tmp_path / "murderer.py"
    murder = "        if evt.index == 20: import os, time; os.kill(os.getppid(), 9); time.sleep(60)\n"
    script.write_text(PASS.replace("        pass\n", murder))
    config = DrpConfig(
        str(script), sources=("sim:digitizer:16",), events=60, workers=1, out_dir=tmp_path / "out"
    )
    report = Reducer(config).run()
    assert report.exit_code == 1
    assert report.error == "nursery: its process could not be started: no memory"
    assert report.closes
    assert report.files


def test_a_source_that_fails_without_a_word_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Speechless(Simulator):
        def fill(self, slots: Slots) -> int:
            if self._deck.events >= 30:
                raise AssertionError
            return super().fill(slots)

    monkeypatch.setattr(
        reducer, "open_source", lambda _text, options: Speechless(parse("digitizer:16"), options)
    )
    script = tmp_path / "pass.py"
    script.write_text(PASS)
    report = Reducer(DrpConfig(str(script), workers=1, rate_hz=1000.0)).run()
    assert (report.exit_code, report.error) == (1, "the source failed: AssertionError")
    assert report.closes


RESIZED = """
import numpy as np
from drp import DataSource
ds = DataSource()
total = ds.reduce("total", np.zeros(4, np.int64), "sum")
for run in ds.runs():
    for n, step in enumerate(run.steps()):
        if n == 1:
            total.resize(8, refcheck=False)
        for evt in step.events():
            total += 1
"""
UNCHECKED = """
from drp.script.reduce import Reductions
def filled(self):
    if self._data is not None:
        self._data.total = self._entries["total"][1]
    return self._data
Reductions.filled = filled
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [("", "reduce 'total' has another shape"), (UNCHECKED, "workers reduce different arrays")],
)
def test_an_array_that_changes_its_shape_between_steps_costs_what_it_holds_and_no_run(
    tmp_path: Path, before: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "resized.py"
    script.write_text(before + RESIZED)
    source = ("sim:digitizer:16,steps=3",)
    config = DrpConfig(str(script), sources=source, events=60, workers=1, out_dir=tmp_path / "out")
    report = Reducer(config).run()
    assert (report.exit_code, report.error, report.ledger.total) == (1, "", 60)
    assert report.failed_transitions > 0
    assert said in caplog.text
    (path,) = (path for path in (tmp_path / "out").rglob("*.xtc2") if "smd" not in path.name)
    assert [dgram.service for dgram in Reader(path)][-1] == TransitionId.EndRun


def test_files_that_cannot_be_closed_do_not_cost_the_account_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(_recorder: Recorder) -> None:
        raise RecorderError("the file cannot be closed: no such folder")

    monkeypatch.setattr(Recorder, "close", close)
    script = tmp_path / "mistaken.py"
    script.write_text("raise ValueError('mistaken')")
    report = Reducer(DrpConfig(str(script), sources=("sim:digitizer:16",), events=5, workers=1)).run()
    assert report.exit_code == 1
    assert "mistaken" in report.error


def test_the_start_of_workers_is_not_in_the_latency_of_the_first_events(
    recorded: Path, tmp_path: Path
) -> None:
    script = tmp_path / "slow_start.py"
    script.write_text(
        "import time\nfrom drp import DataSource\ntime.sleep(0.6)\nfor run in DataSource().runs():\n    time.sleep(0.6)\n"
        "    for evt in run.events():\n        pass\n"
    )
    report = tmp_path / "r.json"
    done = drp("-p", script, "--source", recorded, "-n", 2, "-W", 2, "--report", report)
    assert done.returncode == 0, done.stderr + done.stdout
    assert max(json.loads(report.read_text())["latency_ns"].values()) < 0.5e9
