"""A script over recorded files, without drp."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dgrams import Builder

from drp.core.config import DrpConfig
from drp.core.errors import RecorderError
from drp.core.report import summary
from drp.engine.offline import reduce_offline
from drp.engine.reducer import Reducer
from drp.script.errors import ScriptError
from drp.script.info import DrpInfo
from drp.script.offline import run_offline
from drp.sink.recorder import Output
from xtc import Config, Dgram, Reader, TransitionId

ROOT = Path(__file__).resolve().parents[2]
MYROI = str(ROOT / "fex_scripts" / "myroi.py")
L1 = TransitionId.L1Accept
COUNTING = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
info = ds.drp_info
fex = ds.add_detector(DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 0, 0, 1),
                      {"index": (np.uint32, 0), "hv": (np.float64, 0)})
total = ds.reduce("total", np.zeros((), np.uint64))
for run in ds.runs():
    det, hv = run.Detector(info.det_name), run.Detector("hv")
    for evt in run.events():
        BODY
        fex.fex.index = evt.index
        fex.fex.hv = hv(evt)
        ds.add_data(fex.fex)
        ds.remove_data(info.det_name, "raw")
        total += 1
"""


def counting(folder: Path, body: str = "pass") -> str:
    path = folder / "script.py"
    path.write_text(COUNTING.replace("BODY", body))
    return str(path)


def source(folder: Path, events: int = 10, segments: int = 2) -> Path:
    builder = Builder(segments)
    path = folder / "in.xtc2"
    path.write_bytes(b"".join([builder.configure(), *builder.run(events, slow_every=3)]))
    return path


def recorded(folder: Path) -> list[Dgram]:
    (path,) = [one for one in folder.rglob("*.xtc2") if "smalldata" not in str(one)]
    return list(Reader(path))


def values(dgram: Dgram, alg: str = "fex") -> dict[str, object]:
    return {one.field.name: one.value for one in dgram.fields() if one.names.alg.name == alg}


def test_events_are_recorded_with_what_the_script_added(tmp_path: Path) -> None:
    report = run_offline([counting(tmp_path)], [source(tmp_path)], Output(tmp_path / "out"))
    assert (report.events, report.failed, report.exit_code) == (10, 0, 0)
    dgrams = recorded(tmp_path / "out")
    events = [one for one in dgrams if one.service == L1]
    assert [values(one) for one in events] == [{"index": k, "hv": k // 3 * 3} for k in range(10)]
    assert not any(values(one, "raw") for one in events)
    ends = [one for one in dgrams if one.service in (TransitionId.EndStep, TransitionId.EndRun)]
    assert [values(one, "reduce") for one in ends] == [{"total": 10}, {"total": 10}]


def test_a_failing_event_keeps_its_raw_and_the_script_goes_on(tmp_path: Path) -> None:
    script = counting(tmp_path, "assert evt.index not in (2, 7)")
    report = run_offline([script], [source(tmp_path)], Output(tmp_path / "out"))
    assert (report.events, report.failed, report.exit_code) == (10, 2, 1)
    assert [one.kind for one in report.failures] == ["AssertionError"]
    for index, event in enumerate(one for one in recorded(tmp_path / "out") if one.service == L1):
        if index in (2, 7):
            assert event.damage.user_code == 1
            assert values(event, "raw")
            assert values(event, "drpinfo")["cause"] == 1
        else:
            assert values(event) == {"index": index, "hv": index // 3 * 3}
            assert event.damage == 0


def test_failures_are_counted_by_kind_as_a_live_run_counts_them(tmp_path: Path) -> None:
    body = "assert evt.index not in (2, 7)\n        assert evt.index != 4"
    script = counting(tmp_path, body)
    config = DrpConfig(script, sources=(str(source(tmp_path)),))
    kinds = {}
    for offline in (True, False):
        report = reduce_offline(config) if offline else Reducer(config).run()
        assert report.ledger.drp.events == 3
        kinds[offline] = report.failure_kinds
    assert kinds[True] == kinds[False]
    assert list(kinds[True].values()) == [2, 1]


def test_a_script_that_always_fails_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="5 events in a row"):
        run_offline([counting(tmp_path, "1 / 0")], [source(tmp_path)])


def test_a_failure_at_configure_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("nonsense(")
    with pytest.raises(ScriptError, match="SyntaxError"):
        run_offline([str(path)], [source(tmp_path)])


def test_results_that_fit_exactly_are_kept_and_one_byte_more_is_truncated(tmp_path: Path) -> None:
    text = """
import sys
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("cam", "t", "i"), AlgDef("fex", 0, 0, 1), {"x": (np.uint8, 1)})
for run in ds.runs():
    for evt in run.events():
        fex.fex.x = np.zeros(int(sys.argv[1]), np.uint8)
        ds.add_data(fex.fex)
"""
    path = tmp_path / "script.py"
    path.write_text(text)
    files = [source(tmp_path, 1, 1)]
    raw = next(one.size for one in Reader(files[0]) if one.service == L1)
    bound = 100_000
    fits = bound - raw - 36 - 20 - 47
    assert run_offline([str(path), str(fits)], files, event_bytes=bound).truncated == 0
    assert run_offline([str(path), str(fits + 1)], files, event_bytes=bound).truncated == 1
    assert run_offline([str(path), str(bound + 1)], files, event_bytes=bound).truncated == 1


def test_a_recorded_file_is_read_again_by_another_script(tmp_path: Path) -> None:
    run_offline([counting(tmp_path)], [source(tmp_path)], Output(tmp_path / "out"))
    (path,) = [one for one in (tmp_path / "out").rglob("*.xtc2") if "smalldata" not in str(one)]
    second = tmp_path / "second.py"
    second.write_text(
        "from drp import DataSource\nds = DataSource()\nfor run in ds.runs():\n    det = run.Detector('cam')\n"
        "    for evt in run.events():\n"
        "        assert det.fex.index(evt) == evt.index and det.fex.hv(evt) == evt.index // 3 * 3\n"
        "        assert det.raw.raw(evt) is None and evt.pulse_id is None\n"
    )
    assert run_offline([str(second)], [path]).failed == 0


def test_a_script_may_open_files_itself(tmp_path: Path) -> None:
    files = source(tmp_path)
    script = tmp_path / "alone.py"
    script.write_text(
        "import sys\nfrom drp import DataSource\nds = DataSource(files=sys.argv[1], output=sys.argv[2])\n"
        "count = 0\nfor run in ds.runs():\n    for evt in run.events():\n        count += 1\n"
        "        ds.remove_data('cam', 'raw')\nprint(count, ds.drp_info.det_name)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(files), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.stdout == "10 cam\n", done.stderr
    assert len([one for one in recorded(tmp_path / "out") if one.service == L1]) == 10


def test_why_an_event_is_damaged_is_read_from_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "assert evt.index != 3"
    run_offline([counting(tmp_path, body)], [source(tmp_path)], Output(tmp_path / "out"))
    reading = tmp_path / "reading.py"
    reading.write_text(
        "from drp import DataSource\nds = DataSource()\nfor run in ds.runs():\n"
        "    assert run.detnames == {'cam'}, run.detnames\n    info = run.Detector('drpinfo').drpinfo\n"
        "    for evt in run.events():\n"
        "        print(evt.index, info.cause(evt), info.worker(evt), info.pulse_id(evt))\n"
    )
    (path,) = [one for one in (tmp_path / "out").rglob("*.xtc2") if "smalldata" not in str(one)]
    assert run_offline([str(reading)], [path]).exit_code == 0
    told = [line.split()[1:3] for line in capsys.readouterr().out.splitlines()]
    assert told == [["1", "0"] if index == 3 else ["0", "65535"] for index in range(10)]


def test_a_cut_off_end_is_a_warning_and_a_wrong_one_a_fault_in_the_account(tmp_path: Path) -> None:
    path = source(tmp_path)
    whole = path.read_bytes()
    config = DrpConfig(counting(tmp_path), sources=(str(path),), offline=True)
    path.write_bytes(whole[:-1])
    report = reduce_offline(config)
    assert (report.exit_code, len(report.as_dict()["source_truncated"])) == (0, 1)
    assert any("warning: " in line and "ends in a cut-off dgram" in line for line in summary(report))
    path.write_bytes(whole + bytes(100))
    report = reduce_offline(config)
    assert (report.exit_code, report.ledger.total) == (1, 10)
    (fault,) = report.as_dict()["source_faults"]
    assert f"read up to byte {len(whole)}" in fault
    assert f"  fault: {fault}" in summary(report)


def test_an_interrupt_in_the_script_ends_an_offline_run(tmp_path: Path) -> None:
    builder = Builder(1, (8, 6))
    path = tmp_path / "in.xtc2"
    path.write_bytes(b"".join([builder.configure(), *builder.run(5)]))
    script = tmp_path / "script.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n"
        "        if evt.index == 2: raise KeyboardInterrupt\n"
    )
    with pytest.raises(KeyboardInterrupt):
        run_offline([str(script)], [path], Output(tmp_path / "out"))
    assert [one.name for one in tmp_path.rglob("*c000.xtc2.noendrun")]


@pytest.mark.parametrize(("segments", "shape"), [(1, (8, 6)), (3, (8, 6)), (2, (1, 8, 6))])
def test_myroi_keeps_the_region_its_sum_and_every_nth_raw(
    tmp_path: Path, segments: int, shape: tuple[int, ...]
) -> None:
    builder = Builder(segments, shape)
    path = tmp_path / "in.xtc2"
    path.write_bytes(b"".join([builder.configure(), *builder.run(5)]))
    report = run_offline([MYROI, "--roi", "1:4,2:5", "--keep-every", "2"], [path], Output(tmp_path / "out"))
    assert report.exit_code == 0
    for index, event in enumerate(one for one in recorded(tmp_path / "out") if one.service == L1):
        whole = np.stack([builder.frame(index, k).reshape(8, 6) for k in range(segments)])
        found = values(event)
        assert np.array_equal(found["roi"], whole[:, 1:4, 2:5])
        assert found["sum"] == whole[:, 1:4, 2:5].sum() == values(event, "trigger")["sum"]
        assert bool(values(event, "raw")) == (index % 2 == 0)


@pytest.mark.parametrize("roi", ["200:100,1:2", "a:b,1:2", "5:5,1:2", "100:200", "1:2:3,4:5", "-1:5,0:2", ""])
def test_myroi_finds_a_text_that_is_no_region_at_configure(tmp_path: Path, roi: str) -> None:
    builder = Builder(1, (8, 6))
    path = tmp_path / "in.xtc2"
    path.write_bytes(builder.configure())
    with pytest.raises(ScriptError, match=r"SystemExit: 2 \(argument --roi: .* is no region such as"):
        run_offline([MYROI, f"--roi={roi}"], [path])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rio", "1:2,3:4"], "unrecognized arguments: --rio 1:2,3:4"),
        (["--keep-every"], "argument --keep-every: expected one argument"),
    ],
)
def test_options_that_a_script_has_not_are_told(tmp_path: Path, words: list[str], said: str) -> None:
    path = tmp_path / "in.xtc2"
    path.write_bytes(Builder(1, (8, 6)).configure())
    with pytest.raises(ScriptError, match=rf"SystemExit: 2 \({said}\)"):
        run_offline([MYROI, *words], [path])


@pytest.mark.parametrize(
    ("roi", "shape", "words"), [("1:9,0:2", (8, 6), "does not fit"), ("0:2,0:2", (30,), "1-d data")]
)
def test_myroi_says_what_is_wrong(tmp_path: Path, roi: str, shape: tuple[int, ...], words: str) -> None:
    builder = Builder(1, shape)
    path = tmp_path / "in.xtc2"
    path.write_bytes(b"".join([builder.configure(), *builder.run(9)]))
    with pytest.raises(ScriptError, match=words):
        run_offline([MYROI, "--roi", roi], [path])


def test_myroi_finds_a_region_beyond_the_detector_before_any_event(tmp_path: Path, xtc2_data: Path) -> None:
    with pytest.raises(
        ScriptError, match=r"at a transition.*1:353,0:5 does not fit segments of 352 rows and 384"
    ):
        run_offline([MYROI, "--roi", "1:353,0:5"], [xtc2_data / "test_epix_calib.xtc2"])


@pytest.mark.parametrize("name", ["test_jungfrau05M_calib.xtc2", "test_epix_calib.xtc2"])
def test_myroi_on_real_files(tmp_path: Path, xtc2_data: Path, name: str) -> None:
    files = [xtc2_data / name]
    report = run_offline(
        [MYROI, "--roi", "100:200,50:150", "--keep-every", "2"], files, Output(tmp_path), info=DrpInfo()
    )
    assert (report.events, report.exit_code) == (2, 0)
    before = [one for one in Reader(files[0]) if one.service == L1]
    after = [one for one in recorded(tmp_path) if one.service == L1]
    for index, (raw, record) in enumerate(zip(before, after, strict=True)):
        whole = [one.value for one in raw.fields() if one.field.name == "raw"]
        cut = np.concatenate([one.reshape(-1, *one.shape[-2:])[:, 100:200, 50:150] for one in whole])
        assert np.array_equal(values(record)["roi"], cut)
        assert bool(values(record, "raw")) == (index == 0)
        assert record.timestamp == raw.timestamp


def test_a_failure_after_the_events_leaves_a_whole_file(tmp_path: Path) -> None:
    script = Path(counting(tmp_path))
    script.write_text(script.read_text() + "    raise RuntimeError('too late')\n")
    report = run_offline([str(script)], [source(tmp_path)], Output(tmp_path / "out"))
    assert (report.events, report.failed, report.failed_transitions, report.exit_code) == (10, 0, 1, 1)
    assert recorded(tmp_path / "out")[-1].service == TransitionId.EndRun


def test_a_type_that_the_user_names_leaves_the_rest_to_the_configure(tmp_path: Path) -> None:
    builder = Builder(1, (8, 6))
    path = tmp_path / "in.xtc2"
    path.write_bytes(b"".join([builder.configure(), *builder.run(3)]))
    report = run_offline(
        [MYROI, "--roi", "0:2,0:2"], [path], Output(tmp_path / "out"), info=DrpInfo(det_type="mine")
    )
    assert (report.events, report.exit_code) == (3, 0)
    names = Config(recorded(tmp_path / "out")[0]).names.values()
    raw, fex = (next(one for one in names if one.alg.name == alg) for alg in ("raw", "fex"))
    assert (fex.detname, fex.detid, fex.dettype) == (raw.detname, raw.detid, "mine")


def test_what_cannot_be_written_is_no_failure_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a folder is wanted")
    with pytest.raises(RecorderError, match="cannot be made"):
        run_offline([counting(tmp_path)], [source(tmp_path)], Output(tmp_path / "out"))


def test_a_write_error_is_told_even_where_the_script_swallows_it(tmp_path: Path) -> None:
    script = tmp_path / "deaf.py"
    script.write_text(
        "import resource, signal\nfrom drp import DataSource\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "ds = DataSource()\nfor run in ds.runs():\n    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))\n"
        "    try:\n        for evt in run.events():\n            pass\n    except Exception:\n        pass\n"
    )
    code = (
        "import sys; from drp.script.offline import run_offline; from drp.sink.recorder import Output\n"
        "from pathlib import Path\nrun_offline([sys.argv[1]], [sys.argv[2]], Output(Path(sys.argv[3])))"
    )
    words = [sys.executable, "-c", code, str(script), str(source(tmp_path, 9000)), str(tmp_path / "out")]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert "RecorderError: " in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]


def test_a_failing_script_is_told_once_with_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("ERROR"), pytest.raises(ScriptError) as caught:
        run_offline([counting(tmp_path, "1 / 0")], [source(tmp_path)])
    assert "Traceback" not in str(caught.value)
    assert caplog.text.count("Traceback") == 1


def test_bytes_that_came_in_and_the_times_of_the_script_are_counted(tmp_path: Path) -> None:
    file = source(tmp_path)
    report = run_offline([counting(tmp_path)], [file])
    assert file.stat().st_size <= report.bytes_in <= file.stat().st_size + 24 * 2
    assert sum(report.service) == report.events
