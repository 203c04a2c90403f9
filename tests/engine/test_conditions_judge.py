"""Conditions on trigger words: what the whole command records with --keep-if and --prescale, and the judge's thread."""

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from flow_bench import L1, Bench

from drp.cli.drp import judge_of
from drp.cli.options import parse
from drp.core.config import DrpConfig
from drp.core.errors import ConfigError
from drp.core.ledger import Fate
from drp.core.report import Snapshot
from drp.engine.judging import JudgeThread, Told, Words
from drp.engine.reducer import Reducer
from tests.support.plain_xtc2 import END_RUN, PlainFile
from xtc import TransitionId

SCRIPT = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

ds = DataSource()
info = ds.drp_info
definition = DetectorDef(info.det_name, info.det_type, info.det_id)
fex = ds.add_detector(definition, AlgDef("fex", 0, 0, 1), {"n": (np.uint32, 0)})
ds.add_trigger({"small": np.int16, "half": np.float64})
for run in ds.runs():
    for evt in run.events():
        if evt.index == 333:
            raise ValueError("this event fails")
        fex.fex.n = evt.index
        ds.add_data(fex.fex)
        ds.remove_data(info.det_name, "raw")
        if evt.index != 222:
            ds.set_trigger(small=evt.index % 10 - 5, half=evt.index / 2)
"""


def drp(*args: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; from drp.cli.drp import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def recorded(folder: Path) -> PlainFile:
    (path,) = (path for path in folder.rglob("*.xtc2") if "smd" not in path.name)
    return PlainFile(path)


def test_the_file_holds_what_the_condition_and_the_prescale_keep(tmp_path: Path) -> None:
    script = tmp_path / "words.py"
    script.write_text(SCRIPT)
    source = "sim:digitizer:32,slow=50,steps=2"
    options = ("-n", 600, "-W", 2, "-o", tmp_path / "out", "--report", tmp_path / "r.json")
    done = drp(
        "-p", script, "--source", source, *options, "--keep-if", "small >= 3 or half > 290", "--prescale", 7
    )
    assert done.returncode == 1, done.stderr + done.stdout  # for the event that failed
    persists = {n for n in range(600) if n % 10 >= 8 or n > 580 or n in (222, 333)}
    prescaled = {n for n in range(600) if n % 7 == 6} - persists
    file = recorded(tmp_path / "out")
    found = {}
    for event in file.events:
        told, fex, raw = event.find("drpinfo"), event.find("fex"), event.find("raw")
        assert told is not None
        found[fex["n"] if fex else 333] = (raw is not None, fex is not None, told["cause"])
    assert found == {
        n: (n in prescaled or n == 333, n != 333, int(n == 333)) for n in sorted(persists | prescaled)
    }
    assert list(found) == sorted(found)
    fates = {"recorded_verdict": len(persists), "recorded_prescale": len(prescaled)}
    fates |= {"filtered": 600 - len(found), "total": 600}
    (end,) = (one for one in file.dgrams if one.service == END_RUN)
    ledger = end.find("drpledger")
    assert ledger is not None
    report = json.loads((tmp_path / "r.json").read_text())
    for account in (ledger, report["ledger"]):
        assert {name: account[name] for name in fates} == fates
        assert account["recorded_no_verdict"] == account["recorded_bypass"] == account["not_recorded"] == 0
    assert report["closes"] and report["faults"] == ["drp damaged 1 event"]


def test_a_condition_on_what_the_script_does_not_declare_ends_the_run_at_configure(tmp_path: Path) -> None:
    script = tmp_path / "words.py"
    script.write_text(SCRIPT)
    done = drp("-p", script, "--source", "sim:digitizer:32", "-n", 5, "-W", 1, "--keep-if", "smal > 3")
    assert done.returncode == 1
    assert (
        "condition 'smal > 3', column 1: there is no trigger word 'smal'. Did you mean 'small'" in done.stdout
    )
    script.write_text("\n".join(line for line in SCRIPT.splitlines() if "trigger" not in line) + " pass\n")
    done = drp("-p", script, "--source", "sim:digitizer:32", "-n", 5, "-W", 1, "--keep-if", "small > 3")
    assert done.returncode == 1
    assert "declares no trigger words, and --keep-if asks for some" in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--keep-if", "n >"], "column 4: something is missing at the end"),
        (["--prescale", "5"], "there is none"),
        (["--keep-if", "n > 1", "--prescale", "-1"], "is out of range"),
        (["--keep-if", "n > 1", "-C", "localhost", "-u", "cam_0"], "the teb decides for all"),
        (["--trigger", __file__, "-C", "localhost", "-u", "cam_0"], "the teb decides for all"),
        (["--trigger", __file__, "--keep-if", "n > 1"], "both decide"),
        (["--trigger", "nowhere.py"], "--trigger nowhere.py: there is no such script"),
        (["--trigger", " "], "--trigger: is empty"),
        (["--keep-if", "n > 1", "--offline", "--source", "x.xtc2"], "Leave out --offline"),
    ],
)
def test_a_trigger_that_cannot_be_is_refused(words: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse(["-p", __file__, *words])


def test_without_a_condition_there_is_no_judge() -> None:
    assert judge_of(parse(["-p", __file__])) is None


class Mute(JudgeThread):
    """A judge that never decides."""

    def decide(self, taken: bytes) -> None:
        pass


def test_a_stop_waits_for_the_trigger_no_longer_than_for_all_else(tmp_path: Path) -> None:
    script = tmp_path / "words.py"
    script.write_text(SCRIPT)
    config = DrpConfig(
        str(script),
        sources=("sim:digitizer:32",),
        workers=1,
        events=200,
        out_dir=tmp_path,
        event_timeout_s=0.5,
        stop_timeout_s=0.6,
    )

    def watch(now: Snapshot) -> None:
        if now.slots_used >= 200:
            reducer.stop()

    reducer = Reducer(config, watch, judge=Mute())
    report = reducer.run()
    assert report.closes and report.error == "" and report.ledger[Fate.recorded_no_verdict] == 200
    assert "the trigger had not decided on 200 dgrams within --stop-timeout: they are kept" in report.warnings
    assert recorded(tmp_path).services[-1] == END_RUN


class Broken(JudgeThread):
    """A judge that fails at the first event it is shown."""

    def decide(self, taken: bytes) -> None:
        raise RuntimeError("no idea")


def test_a_judge_that_breaks_keeps_everything_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    judge = Broken()
    judge.start(bench.flow)
    bench.add_worker(0)
    bench.begin()
    with caplog.at_level(logging.CRITICAL, "drp.trigger"):
        for _ in range(3):
            bench.put(L1, b"raw")
            bench.turn()
            bench.answer_all()
            bench.turn()
            limit_s = time.monotonic() + 10
            while bench.flow.judged_next < bench.flow.retire_next and time.monotonic() < limit_s:
                threading.Event().wait(0.001)
    judge.close()
    bench.settle()
    assert len([one for one in bench.recorded() if one[0] == L1]) == 3
    assert "no idea" in judge.warnings[0] and judge.trouble
    bench.close()


def test_words_are_packed_in_the_order_of_their_declaration() -> None:
    assert Words().size_bytes == 0
    told = Told(1, TransitionId.Configure, 0, 0, 0, Words())
    judge = judge_of(parse(["-p", __file__, "--keep-if", "n > 1"]))
    assert judge is not None
    with pytest.raises(Exception, match="declares no trigger words"):
        judge.transition(told)
