"""What Prometheus is told of a run, and where it finds it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from drp_command import DrpCommand, write_script
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from drp.core.errors import ConfigError
from drp.core.ledger import Fate, Ledger
from drp.core.report import Readings, Snapshot
from drp.engine.metrics import Exporter

WHO = {"instrument": "tst", "partition": "3", "detname": "digitizer", "detseg": "0", "alias": "digitizer_0"}
WAITS = """\
while not os.path.exists("released"):
    time.sleep(0.01)
"""


def fetch(url: str) -> list[Sample]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float | None:
    """The one value of that name and those labels; None while it is not there."""
    found = [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]
    assert len(found) <= 1, found
    return found[0] if found else None


def test_a_run_is_scraped_while_it_goes_on_and_says_what_its_report_says(tmp_path: Path) -> None:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    script = write_script(
        tmp_path,
        "if evt.index % 100 == 0:\n    ds.damage(evt, user=9)",
        after="    " + WAITS.replace("\n", "\n    "),
    )
    words = (
        "--source",
        "sim:digitizer:16",
        "-n",
        "300",
        "-W",
        "2",
        "-P",
        "tst",
        "-p",
        "3",
        "-M",
        str(folder),
    )
    command = DrpCommand(tmp_path, "-p", str(script), *words)
    try:
        target = command.until(lambda: next(folder.glob("*.json"), None), "the target file")
        (group,) = json.loads(target.read_text())
        (address,) = group["targets"]
        assert address.startswith("127.0.0.1:92")

        def all_done() -> list[Sample] | None:
            samples = fetch(f"http://{address}/metrics")
            done = value(samples, "drp_events_total", fate="recorded_no_verdict") == 300
            return samples if done else None

        samples = command.until(all_done, "all events in the metrics")
    finally:
        (tmp_path / "released").touch()
    assert command.wait() == 0, command.log
    report = command.report
    for fate, count in report["ledger"].items():
        if fate != "total":
            assert value(samples, "drp_events_total", fate=fate, **WHO) == count
    assert value(samples, "drp_source_events_total") == report["source_events"] == 300
    assert (
        value(samples, "drp_damaged_events_total", origin="script")
        == report["damage"]["script"]["events"]
        == 3
    )
    by_worker = [
        value(samples, "drp_worker_events_total", worker=str(one["worker"])) for one in report["workers"]
    ]
    assert by_worker == [one["events"] for one in report["workers"]]
    assert value(samples, "drp_latency_seconds_bucket", le="+Inf") == 300
    assert value(samples, "drp_worker_restarts_total") == report["restarts"] == 0
    assert 0 < (value(samples, "drp_bytes_in_total") or 0) <= report["bytes_in"]
    assert 0 < (value(samples, "drp_py_app_time") or 0) <= report["service_ns"]["max"]
    assert value(samples, "drp_event_rate", **WHO) is not None
    assert list(folder.iterdir()) == []
    assert command.left() == []


def test_the_nursery_is_started_before_the_server_s_thread(tmp_path: Path) -> None:
    before = (
        "import subprocess, threading\nclass Popen(subprocess.Popen):\n    def __init__(self, *args, **kwargs):\n"
        "        print('threads:', threading.active_count(), flush=True)\n        super().__init__(*args, **kwargs)\nsubprocess.Popen = Popen"
    )
    words = ("--source", "sim:digitizer:16", "-n", "5", "-W", "1", "-M", str(tmp_path))
    command = DrpCommand(tmp_path, "-p", str(write_script(tmp_path)), *words, before=before)
    assert command.wait() == 0, command.log
    assert "threads: 1\n" in command.log
    assert "metrics at http://127.0.0.1:" in command.log


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path, "127.0.0.1") as one:
        yield one


def test_before_the_first_readings_there_are_no_metrics(exporter: Exporter) -> None:
    assert fetch(exporter.url) == []


def test_a_second_drp_takes_the_next_port_and_has_a_file_of_its_own(
    exporter: Exporter, tmp_path: Path
) -> None:
    with Exporter(tmp_path, "127.0.0.1") as other:
        assert other.port > exporter.port
        assert {path.name for path in tmp_path.iterdir()} == {exporter.target.name, other.target.name}
    assert [path.name for path in tmp_path.iterdir()] == [exporter.target.name]


def test_buckets_of_a_histogram_rise_and_end_at_all(exporter: Exporter) -> None:
    counts = [0] * 1024
    counts[3], counts[200], counts[1000] = 5, 7, 1
    exporter.take(Readings(Snapshot("running", 1.0, 13), ("", "0", "", "0", ""), Ledger(), latency=counts))
    buckets = [one.value for one in fetch(exporter.url) if one.name == "drp_latency_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (5, 12, 13)


def test_every_fate_is_told_from_the_first_readings_on(exporter: Exporter) -> None:
    exporter.take(Readings(Snapshot("running", 1.0, 0), ("", "0", "", "0", ""), Ledger()))
    samples = fetch(exporter.url)
    assert [value(samples, "drp_events_total", fate=fate.name) for fate in Fate] == [0] * len(Fate)


@pytest.mark.parametrize(
    ("snapshot", "paused"),
    [
        (Snapshot("running", 1.0, 0, paused=True, trouble="disk: No space left on device"), 1),
        (Snapshot("running", 1.0, 0, trouble="constants: not there yet"), 0),
    ],
)
def test_recording_is_paused_for_want_of_room_only(
    exporter: Exporter, snapshot: Snapshot, paused: int
) -> None:
    exporter.take(Readings(snapshot, ("", "0", "", "0", ""), Ledger()))
    assert value(fetch(exporter.url), "drp_recording_paused") == paused


def test_an_address_that_is_not_ours_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--metrics-bind 192\.0\.2\.1: nothing can listen there"):
        Exporter(tmp_path, "192.0.2.1")
    assert list(tmp_path.iterdir()) == []


def test_who_asks_for_no_metrics_does_not_load_their_library() -> None:
    code = "import sys, drp.cli.drp; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_what_went_to_each_meb_is_told(tmp_path: Path) -> None:
    counts = {"MCtbO_EvCt": 7, "MCtbO_TrCt": 3, "MCtbO_TxPdg": 11, "unsent": 1, "dropped": 4, "lost": 0}
    with Exporter(tmp_path, "127.0.0.1") as exporter:
        snapshot = Snapshot("running", 1.0, 0)
        exporter.take(Readings(snapshot, ("", "0", "", "0", ""), Ledger(), monitored={"meb0": counts}))
        told = fetch(exporter.url)
        assert value(told, "MCtbO_EvCt", meb="meb0") == 7 and value(told, "MCtbO_TrCt", meb="meb0") == 3
        assert value(told, "drp_monitor_dropped_total", meb="meb0") == 5
