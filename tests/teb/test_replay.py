"""Verdicts over recorded files: events of several drps are built again, and decided on as they would be online."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_files import drp, run_command

from drp.core.batch import Contributor
from drp.core.conditions import ConditionError, Conditions
from drp.core.errors import SourceError
from drp.core.wire import PERSIST, PRESCALE, Contributed
from drp.teb.deciding import AtOnce
from drp.teb.replay import Stream, build, read_stream, replay, streams_of
from drp.teb.stage import StageConfig, TriggerStage
from xtc import Reader, TransitionId

EVENTS = 60
teb = partial(run_command, "teb")
WORDS = """
import sys
import numpy as np
from drp import DataSource
ds = DataSource()
ds.add_trigger({"n": np.uint32, "x": np.float64})
for run in ds.runs():
    for evt in run.events():
        if evt.index == int(sys.argv[1]):
            raise ValueError("no words of this one")
        ds.set_trigger(n=evt.index % 10, x=evt.index / 2)
"""
TRIGGER = """
from drp import TriggerDataSource
ds = TriggerDataSource()
for evt in ds.events():
    one, other = evt["digitizer_0"], evt["second_0"]
    ds.result(bool(one) and bool(other) and one.n + other.n > 15, one.n & 3 if one else 0)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of two drps, smalldata too; their scripts fail on events 7 and 8."""
    folder = tmp_path_factory.mktemp("recorded")
    script = folder / "words.py"
    script.write_text(WORDS)
    found = []
    for number, name in enumerate(("digitizer", "second")):
        out = folder / name
        options = [
            "--source",
            f"sim:digitizer:16,name={name}",
            "-n",
            EVENTS,
            "-o",
            out,
            "--run",
            3,
            "--expt",
            "tst",
        ]
        done = drp("-p", f"{script} {7 + number}", *options)
        assert "damaged 1 event" in done.stdout, done.stdout + done.stderr
        found += sorted(out.rglob("*.xtc2"))
    return found


def expected(k: int) -> int:
    if k in (7, 8):  # of 7 the first words are not there, and their two lowest bits are no monitors
        return PERSIST | (0 if k == 7 else (k & 3) << 2)
    n = k % 10
    return (PERSIST if 2 * n > 15 else 0) | (n & 3) << 2


def listed(path: Path) -> list[tuple[int, int, int, str]]:
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(int(pulse), int(stamp), int(word, 16), cause) for pulse, stamp, word, cause in lines]


def test_a_script_decides_on_recorded_events_by_their_pulse_ids(files, tmp_path):
    script = tmp_path / "trigger.py"
    script.write_text(TRIGGER)
    tally = replay(files, TriggerStage(StageConfig(str(script))), write=tmp_path / "list")
    found = listed(tmp_path / "list")
    stamps = [
        one.timestamp
        for one in Reader(next(p for p in files if "smd" not in p.name))
        if one.service == TransitionId.L1Accept
    ]
    assert [one[1] for one in found] == stamps
    assert [one[2] for one in found] == [expected(k) for k in range(EVENTS)]
    assert all(pulse > 0 and cause == "none" for pulse, _, _, cause in found)
    persist = sum(1 for k in range(EVENTS) if expected(k) & PERSIST)
    assert (tally.events, tally.persist, tally.filtered, tally.failed) == (
        EVENTS,
        persist,
        EVENTS - persist,
        2,
    )
    assert (
        "60 events" in tally.lines()[0] and "2 persist because a script of a drp failed" in tally.lines()[1]
    )


def test_conditions_decide_as_the_script_does(files, tmp_path):
    replay(files, AtOnce(Conditions.parse("digitizer_0.n + second_0.n > 15")), write=tmp_path / "list")
    assert [one[2] & (PERSIST | PRESCALE) for one in listed(tmp_path / "list")] == [
        expected(k) & PERSIST for k in range(EVENTS)
    ]
    with pytest.raises(ConditionError, match=r"digitizer_0.n, second_0.n"):
        replay(files, AtOnce(Conditions.parse("n > 15")))


def test_an_event_that_one_stream_lacks_is_built_without_it(files, tmp_path):
    streams = [one for k, paths in enumerate(streams_of(files)) if (one := read_stream(paths, k)) is not None]
    assert [one.contributor.alias for one in streams] == ["digitizer_0", "second_0"]
    assert streams[0].contributor.words == (("n", "UINT32"), ("x", "DOUBLE"))
    part = type(streams[1])(
        *(
            getattr(streams[1], name)[::2] if name != "contributor" else streams[1].contributor
            for name in streams[1].__slots__
        )
    )
    events, rows = build([streams[0], part])
    assert events["present"].tolist() == [3, 1] * (EVENTS // 2)
    assert events["pulse_id"].tolist() == streams[0].pulse_ids.tolist()
    assert not rows[1][1::2].any()


def stream_of(number: int, keys: list[int], *, pulses: bool) -> Stream:
    contributor = Contributor(number, f"det_{number}", 0, (("n", "<u4"),))
    rows = np.zeros((len(keys), contributor.stride), np.uint8)
    stamps = np.array(keys, np.uint64) + np.uint64(1000)
    stream = Stream(contributor, np.array(keys if pulses else [0] * len(keys), np.uint64), stamps, rows)
    head = stream.head
    head["pulse_id"], head["timestamp"] = stream.pulse_ids, stamps
    head["damage"], head["flags"] = (
        1 << number,
        [Contributed.failed if key % 5 == 0 else Contributed.words for key in keys],
    )
    rows[:, 32] = np.array(keys) % 200
    return stream


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), max_size=12), min_size=1, max_size=4), st.booleans())
def test_events_are_built_of_the_first_of_each_key_in_every_stream(keys, pulses):
    events, rows = build([stream_of(number, one, pulses=pulses) for number, one in enumerate(keys)])
    known = sorted({key for one in keys for key in one})
    assert events["timestamp"].tolist() == [key + 1000 for key in known]
    assert events["pulse_id"].tolist() == (known if pulses else [0] * len(known))
    for k, key in enumerate(known):
        there = [number for number, one in enumerate(keys) if key in one]
        assert events["present"][k] == events["damage"][k] == sum(1 << number for number in there)
        assert events["flags"][k] == (key % 5 == 0)
        assert [int(rows[number][k, 32]) for number in range(len(keys))] == [
            key if number in there else 0 for number in range(len(keys))
        ]


@pytest.mark.slow
def test_a_script_that_hangs_on_an_event_makes_its_batch_persist_and_is_told(files, tmp_path, caplog):
    script = tmp_path / "trigger.py"
    script.write_text(TRIGGER + "    if one and one.n == 9:\n        while True: pass\n")
    tally = replay(
        files, TriggerStage(StageConfig(str(script), event_timeout_s=0.2, first_event_timeout_s=0.5))
    )
    assert tally.persist == EVENTS
    assert tally.unanswered == {"timed_out": EVENTS}
    assert "timed_out" in tally.lines()[-1]


@pytest.mark.slow
def test_the_teb_command_replays_a_script_with_its_arguments_and_a_condition(files, tmp_path):
    script = tmp_path / "trigger.py"
    script.write_text(
        "import sys\nfrom drp import TriggerDataSource\nfrom psdaq.configdb.get_config import *\n"
        "ds = TriggerDataSource()\nleast = get_config(ds.connect_json, 'BEAM', 'trigger', 0)['least'] + int(sys.argv[1])\n"
        "for evt in ds.events():\n    words = evt['digitizer_0']\n    ds.result(not words or words.n >= least)\n"
    )
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"least": 5}))
    ours = [one for one in files if "digitizer" in str(one)]
    done = teb(
        "-p", f"{script} 3", "--trigger-config", config, "--verdicts", tmp_path / "script", "--source", *ours
    )
    told = f"{EVENTS} events: 13 persist, 0 by prescale only, {EVENTS - 13} filtered; 0 for monitors\n1 persist because a script of a drp failed on them\n"
    assert (done.returncode, done.stdout) == (0, told), done.stderr
    done = teb("--keep-if", "n >= 8", "--source", *ours, "--verdicts", tmp_path / "condition")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "script").read_text() == (tmp_path / "condition").read_text()
    done = teb("--keep-if", "n >= 8", "--prescale", 7, "--source", *ours)
    assert "13 persist, 7 by prescale only" in done.stdout  # every 7th, but for one that persists


@pytest.mark.slow
def test_a_replay_keeps_the_events_that_the_same_script_keeps_online(files, tmp_path):
    words, script = tmp_path / "words.py", tmp_path / "trigger.py"
    words.write_text(WORDS)
    script.write_text(
        "from drp import TriggerDataSource\nds = TriggerDataSource()\n"
        "for k, evt in enumerate(ds.events()):\n    one = evt['digitizer_0']\n    ds.result(bool(one) and (one.n * k) % 7 < 3)\n"
    )
    source = ["--source", "sim:digitizer:16,name=digitizer", "-n", EVENTS, "--run", 3, "--expt", "tst"]
    done = drp(
        "-p", f"{words} 7", *source, "-o", tmp_path / "online", "--trigger", script, "-u", "digitizer_0"
    )
    (online,) = [one for one in (tmp_path / "online").rglob("*.xtc2") if "smd" not in one.name]
    kept = [one.timestamp for one in Reader(online) if one.service == TransitionId.L1Accept]
    ours = [one for one in files if "digitizer" in str(one)]
    assert teb("-p", script, "--source", *ours, "--verdicts", tmp_path / "list").returncode == 0
    offline = [stamp for _, stamp, word, _ in listed(tmp_path / "list") if word & PERSIST]
    assert kept == offline, done.stdout + done.stderr
    assert 0 < len(kept) < EVENTS


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        pytest.param(["--keep-if", "n >"], 2, "column 4: something is missing", marks=pytest.mark.slow),
        (["--keep-if", "m > 1"], 2, "there is no trigger word 'm'"),
        pytest.param(
            ["-p", "nowhere.py 3"], 1, "there is no trigger script nowhere.py", marks=pytest.mark.slow
        ),
    ],
)
def test_the_teb_command_says_what_is_wrong(files, options, code, said):
    done = teb(*options, "--source", next(one for one in files if "smd" not in one.name))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_files_that_cannot_be_built_are_told(files, tmp_path):
    with pytest.raises(SourceError, match="2 streams are of digitizer_0"):
        other = tmp_path / "again.xtc2"
        other.write_bytes(next(p for p in files if "smd" not in p.name).read_bytes())
        replay([*files, other], AtOnce())
    with pytest.raises(SourceError, match="nothing but smalldata"):
        replay([p for p in files if "smd" in p.name], AtOnce())
