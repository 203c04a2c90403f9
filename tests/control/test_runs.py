"""Run numbers are given out once, whatever crashes; the ledger of a partition adds up or says why not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drp.control.ledger import account
from drp.control.runs import Store, StoreError

LEDGER = {"recorded_verdict": 4, "filtered": 6, "total": 10}
TAKE = (
    "import sys\nfrom pathlib import Path\nfrom drp.control.runs import Store\nstore = Store(Path(sys.argv[1]))\n"
    "for _ in range(int(sys.argv[2])):\n    print(store.next_run('tst'), flush=True)\n"
)


def test_numbers_rise_from_one_and_outlive_the_store(tmp_path: Path) -> None:
    assert Store(tmp_path).last_run("tst") == 0
    assert [Store(tmp_path / "a" / "b").next_run("tst") for _ in range(3)] == [1, 2, 3]
    store = Store(tmp_path / "a" / "b")
    assert store.last_run("tst") == 3
    assert store.next_run("other") == 1


def test_two_processes_never_get_the_same_number(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE, str(tmp_path), "25"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    numbers = [int(line) for one in both for line in one.communicate(timeout=30)[0].split()]
    assert sorted(numbers) == list(range(1, 51))


def test_a_number_is_kept_before_it_is_told(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TAKE, str(tmp_path), "1000000"], stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        told = [int(one.stdout.readline()) for _ in range(20)]
        one.send_signal(signal.SIGKILL)
        told += [int(line) for line in one.stdout.read().split("\n")[:-1]]
    assert Store(tmp_path).next_run("tst") > max(told)


@pytest.mark.parametrize("cut", ["\n3\n\n4", "\n3\n\n4\n\n", "\n3\n4\n"])
def test_a_line_cut_short_loses_no_number(tmp_path: Path, cut: str) -> None:
    (tmp_path / "tst.runs").write_text(cut)
    assert Store(tmp_path).next_run("tst") == 5
    assert Store(tmp_path).next_run("tst") == 6


def test_a_file_of_numbers_that_holds_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "tst.runs").write_text("x\n")
    with pytest.raises(StoreError, match=r"tst\.runs: holds no run numbers"):
        Store(tmp_path).next_run("tst")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a" * 65])
def test_an_experiment_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no name of an experiment"):
        Store(tmp_path).next_run(name)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "store")


def test_what_is_saved_comes_back_and_a_broken_file_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.load("x") == {}
    store.save("x", {"a": 1})
    store.save("ledgers/x-r0001", {"b": 2})
    assert (store.load("x"), store.load("ledgers/x-r0001")) == ({"a": 1}, {"b": 2})
    for text in ("[]", "{", "\x00"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(StoreError, match="Remove it"):
            store.load("x")
    assert os.listdir(tmp_path / "ledgers") == ["x-r0001.json"]


def test_a_ledger_that_adds_up_closes() -> None:
    made = account(
        "tst",
        3,
        {"a": 0, "b": 0, "slow": 2},
        {"a": LEDGER, "b": LEDGER, "slow": {"total": 1, "recorded_bypass": 1}},
        {"groups": {"0": 10, "2": 1}, "inhibited": {"a": 2}},
    )
    assert made.closes
    assert made.as_text()[-1].strip() == "the partition's ledger closes"
    assert json.loads(json.dumps(made.as_dict()))["inhibited"] == {"a": 2}


@pytest.mark.parametrize(
    ("ledgers", "counts", "problem"),
    [
        (
            {"a": LEDGER, "b": LEDGER | {"filtered": 5, "total": 9}},
            {"0": 10},
            "b has 9 events, and group 0 had 10 triggers",
        ),
        ({"a": LEDGER}, {"0": 10}, "b has given no ledger"),
        ({"a": LEDGER, "b": "x"}, {"0": 10}, "b has given no ledger"),
        (
            {"a": LEDGER, "b": LEDGER | {"recorded_verdict": 5, "filtered": 5}},
            {"0": 10},
            "drps of one group recorded differently: a 4, b 5",
        ),
        ({"a": LEDGER, "b": LEDGER}, None, "timing has not told how many triggers it sent"),
        ({"a": LEDGER, "b": LEDGER}, {"0": -10}, "timing has not told how many triggers it sent"),
        ({"a": LEDGER, "b": LEDGER}, {"1": 10}, "a has 10 events, and group 0 had 0 triggers"),
    ],
)
def test_what_does_not_add_up_is_said(ledgers: dict[str, object], counts: object, problem: str) -> None:
    made = account("tst", 3, {"a": 0, "b": 0}, ledgers, {"groups": counts})
    assert problem in made.problems
    assert "DOES NOT CLOSE" in "\n".join(made.as_text())


def test_events_without_a_verdict_may_make_drps_differ() -> None:
    other = {"recorded_verdict": 3, "recorded_no_verdict": 2, "filtered": 5, "total": 10}
    assert account("tst", 3, {"a": 0, "b": 0}, {"a": LEDGER, "b": other}, {"groups": {"0": 10}}).closes


def test_a_drp_that_died_is_named_and_the_rest_closes() -> None:
    made = account("tst", 3, {"a": 0, "b": 0}, {"a": LEDGER}, {"groups": {"0": 10}}, gone=["b"])
    assert made.closes
    assert any("b (group 0): died" in line for line in made.as_text())


def test_when_timing_died_drps_may_differ_by_what_reached_only_one() -> None:
    ledgers: dict[str, object] = {"a": LEDGER, "b": LEDGER | {"recorded_verdict": 3, "total": 9}}
    made = account("tst", 3, {"a": 0, "b": 0}, ledgers, None, timing_gone=True)
    assert made.closes
    assert (made.issued, made.undelivered) == ({"0": 10}, {"a": 0, "b": 1})
    assert any("timing died in the run" in line and "b 1" in line for line in made.as_text())
    uneven: dict[str, object] = {"a": LEDGER, "b": LEDGER | {"recorded_verdict": 3, "filtered": 7}}
    assert not account("tst", 3, {"a": 0, "b": 0}, uneven, None, timing_gone=True).closes
    assert not account("tst", 3, {"a": 0, "b": 0}, {"a": LEDGER}, None, timing_gone=True).closes
