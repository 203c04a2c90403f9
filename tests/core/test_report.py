"""The report says what happened in names that do not change, and why the exit code is what it is."""

import json

import pytest

from drp.core.ledger import Cause, Fate, Ledger
from drp.core.quantiles import N_BUCKETS, bucket
from drp.core.report import Report, WorkerReport, summary
from drp.core.units import duration, si


def counts(*values: int) -> list[int]:
    out = [0] * N_BUCKETS
    for value in values:
        out[bucket(value)] += 1
    return out


def good(events: int = 1000, **fields: object) -> Report:
    ledger = Ledger()
    ledger.count(Fate.recorded_no_verdict, events)
    given = {
        "source": "sim:epixhr",
        "script": "myroi.py",
        "source_events": events,
        "ledger": ledger,
        "elapsed_s": 2.0,
    }
    return Report(**{**given, **fields})  # type: ignore[arg-type]


def test_good_run_closes_and_exits_with_0() -> None:
    report = good()
    assert (report.closes, report.exit_code, report.faults) == (True, 0, ())


def test_each_fault_alone_makes_the_exit_code_1_and_is_named() -> None:
    damaged, lost, large = Ledger(), Ledger(), Ledger()
    damaged.count(Fate.recorded_no_verdict, 5)
    damaged.count_damage(drp=Cause.raised.damage)
    large.count(Fate.recorded_no_verdict, 5)
    large.count_damage(drp=Cause.truncated.damage)
    lost.count(Fate.recorded_no_verdict, 4)
    lost.count(Fate.lost_with_process)
    for report, text in (
        (good(source_events=1001), "the ledger holds 1,000 events, the source gave 1,001"),
        (good(5, ledger=damaged), "drp damaged 1 event"),
        (
            good(5, ledger=large),
            "drp damaged 1 event; 1 for a result that did not fit: give more --fex-room, or keep less",
        ),
        (good(5, ledger=lost), "1 event lost"),
        (good(failed_transitions=2), "workers failed at 2 transitions"),
        (good(error="the disk is gone\nand more"), "the disk is gone"),
    ):
        assert report.exit_code == 1
        assert report.faults == (text,)


def test_damage_that_came_in_or_that_the_script_set_is_no_fault() -> None:
    report = good()
    report.ledger.count_damage(incoming=1 << 5, script=9 << 12)
    assert report.exit_code == 0


def test_restarts_and_memory_alone_are_no_fault() -> None:
    assert good(workers=(WorkerReport(0, 1000, 3, {"memory": 3}),)).exit_code == 0


@pytest.mark.parametrize(
    ("restarts", "failures", "spares", "text"),
    [
        (0, {}, 0, "restarts: 0"),
        (153, {"killed": 92, "raised": 61}, 26, "restarts: 179 (killed 92, raised 61, of spares 26)"),
        (0, {"died": 1}, 0, "restarts: 0 of 1 that ended (died 1)"),
        (2, {"died": 2}, 1, "restarts: 3 (died 2, of spares 1)"),
    ],
)
def test_what_is_told_of_restarts_adds_up(
    restarts: int, failures: dict[str, int], spares: int, text: str
) -> None:
    report = good(workers=(WorkerReport(0, 1000, restarts, failures),), spare_restarts=spares)
    assert f"  workers: 1, {text}" in summary(report)


def test_json_report_has_the_promised_names() -> None:
    report = good(
        bytes_in=4_000_000,
        latency_counts=counts(1000, 2000, 3_000_000),
        workers=(WorkerReport(0, 600, 2, {"raised": 2}), WorkerReport(1, 400, 0)),
        spare_restarts=1,
        synthesised={"EndRun": 1},
        files=("out/a.xtc2",),
    )
    told = json.loads(json.dumps(report.as_dict()))
    assert told["ledger"]["recorded_no_verdict"] == 1000
    assert told["ledger"]["total"] == 1000
    assert set(told["ledger"]) == {fate.name for fate in Fate} | {"total"}
    assert told["closes"] is True
    assert told["rates"] == {"events_per_s": 500.0, "bytes_in_per_s": 2e6, "bytes_recorded_per_s": 0.0}
    assert told["workers"][0] == {
        "worker": 0,
        "events": 600,
        "restarts": 2,
        "failures": {"raised": 2},
        "state": "gone",
    }
    assert told["restarts"] == 3
    assert set(told["latency_ns"]) == {"p50", "p90", "p99", "p99_9", "max"}
    assert told["service_ns"] == {}
    assert set(told["damage"]) == {"incoming", "drp", "script", "trigger"}


def test_summary_tells_rate_ledger_latency_workers_files_and_faults() -> None:
    report = good(
        source_events=1001,
        bytes_in=8_800_000_000,
        bytes_recorded=1_000_000,
        latency_counts=counts(*range(1_000_000, 2_000_000, 1000)),
        workers=(WorkerReport(0, 1000, 4, {"raised": 3, "killed": 1}),),
        failure_kinds={"raised ValueError at myroi.py:7": 3},
        synthesised={"Disable": 1, "EndRun": 1},
        files=("out/a.xtc2",),
        warnings=("the pebble is small",),
    )
    text = "\n".join(summary(report))
    for part in (
        "1,000 events from sim:epixhr in 2.00 s: 500 events/s, 4.40 GB/s in, 500 kB/s recorded",
        "THE LEDGER DOES NOT CLOSE",
        "latency p50 1.5",
        "workers: 1, restarts: 4 (raised 3, killed 1)",
        "3 x raised ValueError at myroi.py:7",
        "transitions put in: Disable 1, EndRun 1",
        "wrote out/a.xtc2",
        "warning: the pebble is small",
        "fault: the ledger holds 1,000",
    ):
        assert part in text


def test_run_of_no_time_and_no_events_can_be_told() -> None:
    report = good(0, elapsed_s=0.0)
    assert report.as_dict()["rates"]["events_per_s"] == 0.0
    assert summary(report)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1.00 kB"),
        (1234567, "1.23 MB"),
        (45_600, "45.6 kB"),
        (2e18, "2000 PB"),
    ],
)
def test_sizes_are_told_in_three_digits(value: float, text: str) -> None:
    assert si(value, "B") == text


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0 ns"), (999, "999 ns"), (1500, "1.50 us"), (2.5e6, "2.50 ms"), (6.1e10, "61 s")]
)
def test_times_are_told_in_their_unit(ns: float, text: str) -> None:
    assert duration(ns) == text
