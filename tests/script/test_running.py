"""How a script starts, ends and fails, over a feed."""

import json
from collections.abc import Callable

import pytest
from dgrams import Builder
from script_feed import ListFeed, Script

from drp.script.info import DrpInfo
from drp.script.worker import EXIT_SCRIPT_FAILED, EXIT_STOPPED, WorkerSpec
from xtc import TransitionId

LEFT, RAISED = 3, 1
LOOP = "from drp import DataSource\nds = DataSource()\nfor run in ds.runs():\n    for evt in run.events():\n"


def run_of(events: int = 2) -> list[bytes]:
    builder = Builder(1)
    return [builder.configure(), *builder.run(events), builder.bare(TransitionId.Unconfigure)]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("x = 1\n", "NoDataSource", "for evt in run.events()"),
        ("from drp import DataSource\nds = DataSource()\n", "NoEventLoop", "ds.runs()"),
        ("def f(:\n", "SyntaxError", "script.py"),
        ("import no_such_module_here\n", "ModuleNotFoundError", "no_such_module_here"),
        ("raise SystemExit('bad roi')\n", "SystemExit", "bad roi"),
        ("from drp import DataSource\nDataSource(moniter=True)\n", "UnknownNameError", "'monitor'"),
        ("from drp import DataSource\nDataSource(exp='x')\n", "ScriptError", "files="),
        ("from drp import DataSource\nDataSource(files=['x'])\n", "ScriptError", "Leave files="),
        ("from drp import DataSource\nDataSource()\nDataSource()\n", "ScriptError", "one DataSource"),
    ],
)
def test_a_script_that_cannot_start_fails_the_configure(
    script: Script, text: str, kind: str, words: str
) -> None:
    code, feed = script(text, run_of())
    (answer,) = feed.answers
    assert (code, answer.service, answer.status) == (EXIT_SCRIPT_FAILED, TransitionId.Configure, RAISED)
    assert answer.json["kind"] == kind
    assert words in answer.json["message"] + answer.json["traceback"]


def test_the_traceback_holds_the_scripts_frames_only(script: Script) -> None:
    code, feed = script(LOOP + "        run.Detector('nothing')\n", run_of())
    trace = feed.answers[-1].json["traceback"]
    assert code == EXIT_SCRIPT_FAILED
    assert "script.py" in trace
    assert "run.Detector('nothing')" in trace
    assert "runner.py" not in trace
    assert "run.py" not in trace


@pytest.mark.parametrize(
    "text", ["        raise KeyboardInterrupt\n", "        raise Odd\n", "        f(evt)\n"]
)
def test_anything_raised_is_the_failure_of_the_event_in_hand(script: Script, text: str) -> None:
    head = (
        "class Odd(BaseException):\n    def __str__(self):\n        raise ValueError\ndef f(x):\n    f(x)\n"
    )
    code, feed = script(head + LOOP + text, run_of())
    answer = feed.answers[-1]
    assert (code, answer.service, answer.status) == (EXIT_SCRIPT_FAILED, TransitionId.L1Accept, RAISED)
    assert len(answer.json["traceback"].encode()) <= 16 * 1024


@pytest.mark.parametrize(
    "text",
    [
        LOOP + "        break\n",
        LOOP + "        raise SystemExit\n",
        LOOP + "        break\n    next(ds.runs())\n",
        "from drp import DataSource\nrun = next(DataSource().runs())\nevt = next(run.events())\n",
    ],
)
def test_leaving_the_event_loop_is_told_apart_from_raising(script: Script, text: str) -> None:
    code, feed = script(text, run_of())
    answer = feed.answers[-1]
    assert (code, answer.service, answer.status) == (EXIT_SCRIPT_FAILED, TransitionId.L1Accept, LEFT)


@pytest.mark.parametrize("end", ["", "import sys\nsys.exit(0)\n", "print('done')\n"])
def test_a_script_that_ends_after_its_runs_is_fine(script: Script, end: str) -> None:
    code, feed = script(LOOP + "        pass\n" + end, run_of())
    assert code == EXIT_STOPPED
    assert [one.status for one in feed.answers] == [0] * len(run_of())


def test_a_script_for_one_run_is_run_again_for_the_next(script: Script) -> None:
    builder = Builder(1)
    stream = [builder.configure(), *builder.run(2), *builder.run(2, runnum=8), *builder.run(2, runnum=9)]
    text = """
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("cam", "t", "i"), AlgDef("fex", 0, 0, 1), {"n": (int, 0)})
run = next(ds.runs())
for evt in run.events():
    fex.fex.n = run.runnum
    ds.add_data(fex.fex)
"""
    code, feed = script(text, stream)
    assert code == EXIT_STOPPED
    assert [one.data[0] for one in feed.of(TransitionId.L1Accept)] == [7, 7, 8, 8, 9, 9]
    assert [len(one.json.get("names", ())) for one in feed.answers if one.json] == [1]


def test_a_script_that_declares_otherwise_the_second_time_fails(script: Script) -> None:
    builder = Builder(1)
    stream = [builder.configure(), *builder.run(0), *builder.run(0)]
    text = """
import os
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
os.environ["TURN"] = name = os.environ.get("TURN", "") + "x"
ds.add_detector(DetectorDef("cam", "t", "i"), AlgDef(name, 0, 0, 1), {"n": (int, 0)})
list(next(ds.runs()).events())
"""
    code, feed = script(text, stream)
    assert code == EXIT_SCRIPT_FAILED
    assert (feed.answers[-1].service, feed.answers[-1].json["kind"]) == (
        TransitionId.BeginRun,
        "DeclarationError",
    )


def test_every_configure_runs_the_script_anew(script: Script) -> None:
    builder = Builder(1)
    one = [*builder.run(1)]
    stream = [
        builder.configure(),
        *one,
        builder.bare(TransitionId.Unconfigure),
        builder.configure(),
        *builder.run(1),
        builder.configure(),
        *builder.run(1),
    ]
    code, feed = script(LOOP + "        ds.remove_data('cam', 'raw')\n", stream)
    assert code == EXIT_STOPPED
    assert len(feed.answers) == len(stream)
    assert all(one.desc for one in feed.of(TransitionId.L1Accept))


def test_the_script_sees_its_arguments_its_name_and_drp_info(script: Script) -> None:
    text = """
import sys
assert __name__ == "__main__" and __file__.endswith("script.py") and sys.argv[0] == __file__
assert sys.modules["__main__"].__dict__ is globals()
from drp import DataSource
ds = DataSource(drp=drp_info, monitor=True, skip_calib_load="all")
assert ds.args == sys.argv[1:] == ["--roi", "1:2"] and ds.drp_info is drp_info
assert (drp_info.det_name, drp_info.det_segment, drp_info.pebble_bufsize) == ("cam", 0, 1 << 16)
for run in ds.runs():
    list(run.events())
"""
    code, feed = script(text, run_of(), "--roi", "1:2")
    assert code == 0, feed.answers[-1].json


def test_modules_beside_the_script_can_be_imported(script: Script) -> None:
    (script.folder / "beside_the_script.py").write_text("value = 3\n")
    code, feed = script(
        "from beside_the_script import value\nassert value == 3\n" + LOOP + "        pass\n", run_of()
    )
    assert code == 0, feed.answers[-1].json


def test_results_go_out_when_the_script_asks_for_more_and_not_before(script: Script) -> None:
    answered: list[int] = []
    feed = ListFeed(run_of(3))
    feed.before = lambda n: answered.append(len(feed.answers))
    code, _ = script(LOOP + "        pass\n", feed)
    assert code == 0
    assert answered == list(range(len(run_of(3)) + 1))


def test_a_spec_survives_json() -> None:
    spec = WorkerSpec(1, 2, 3, 4, 5, 6, 7, 8, 0, ("a.py", "--x"), {"det_name": "cam"}, True)
    assert WorkerSpec.from_json(spec.to_json()) == spec
    with pytest.raises(Exception, match="pebble_id"):
        WorkerSpec.from_json(json.dumps({"pebbel_id": 1}))


def test_a_detector_that_the_source_lacks_fails_the_configure_with_the_near_misses(script: Script) -> None:
    code, feed = script(LOOP + "        pass\n", run_of(), info=DrpInfo(det_name="cma"))
    assert code == EXIT_SCRIPT_FAILED
    assert feed.answers[-1].service == TransitionId.Configure
    assert feed.answers[-1].json["message"] == "-u: the source has no detector 'cma'. Did you mean 'cam'?"


def test_a_segment_that_the_detector_lacks_fails_the_configure(script: Script) -> None:
    code, feed = script(
        "from drp import DataSource\nDataSource()\n",
        [Builder(2).configure()],
        info=DrpInfo(det_name="cam", det_segment=9),
    )
    assert code == EXIT_SCRIPT_FAILED
    assert (
        feed.answers[-1].json["message"] == "-u: detector 'cam' has no segment 9. It has 0, 1: give -u cam_0."
    )


def test_type_and_serial_number_are_those_of_the_segment_named(script: Script) -> None:
    code, _ = script(
        "from drp import DataSource\nds = DataSource()\n"
        "assert ds.drp_info.det_id == 'serial1', ds.drp_info\nfor run in ds.runs():\n    for evt in run.events(): pass\n",
        [Builder(2).configure()],
        info=DrpInfo(det_name="cam", det_segment=1),
    )
    assert code == 0


AFTER = LOOP + "        last = evt.index\n    print('after the loop', last)\n"


def stand_by(feed: ListFeed) -> ListFeed:
    """Have all of a feed shown as replays, as to a spare."""
    for arrival in feed.arrivals:
        arrival.replay = True
    return feed


@pytest.mark.parametrize(
    "text",
    [
        AFTER,
        LOOP + "        pass\nraise SystemExit('bad')\n",
        "from drp import DataSource\nfor run in DataSource().runs():\n    for step in run.steps():\n        pass\n    last\n",
        LOOP.replace("    for evt", "    try:\n      for evt")
        + "        pass\n    except BaseException:\n        raise ValueError from None\n",
        LOOP.replace("    for evt", "    try:\n      for evt")
        + "        pass\n    except BaseException:\n        pass\n",
    ],
)
def test_a_spare_comes_to_no_code_after_the_event_loop_and_starts_again_with_the_next_run(
    script: Script, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    builder = Builder(1)
    dgrams = [builder.configure(), *(builder.bare(one) for one in RUN_ENDS * 2)]
    code, feed = script("print('starts')\n" + text, stand_by(ListFeed(dgrams)))
    assert code == EXIT_STOPPED
    assert [one.status for one in feed.answers] == [0] * len(dgrams)
    printed = capsys.readouterr().out
    assert "after the loop" not in printed
    assert printed.count("starts") == (
        1 if "        pass\n    except BaseException:\n        pass" in text else 2
    )


RUN_ENDS = (TransitionId.BeginRun, TransitionId.EndRun)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (AFTER, "run"),
        (
            "from drp import DataSource\nfor run in DataSource().runs():\n    for step in run.steps():\n"
            "        for evt in step.events():\n            last = evt\n        last\n",
            "step",
        ),
    ],
)
def test_a_failure_after_a_loop_without_events_says_that_there_were_none(
    script: Script, text: str, where: str
) -> None:
    for events in (0, 1):
        failing = (
            text.replace("last\n", "last\n        no_such_name\n") if events and where == "step" else text
        )
        code, feed = script(failing + ("    no_such_name\n" if events else ""), run_of(events))
        message = feed.answers[-1].json["message"]
        assert code == EXIT_SCRIPT_FAILED
        assert (f"given no event of the {where}" in message) == (events == 0), message


def short(dgram: bytes) -> bytes:
    """The dgram, the last of its data cut off and all extents made to fit."""
    child = bytearray(dgram[24:-4])
    shapes_bytes = int.from_bytes(child[20:24], "little")
    for at in (8, 12 + shapes_bytes + 8):
        child[at : at + 4] = (int.from_bytes(child[at : at + 4], "little") - 4).to_bytes(4, "little")
    return dgram[:20] + (len(child) + 12).to_bytes(4, "little") + bytes(child)


def overrun(dgram: bytes) -> bytes:
    """The dgram, its first child said to be longer than it is."""
    return dgram[:32] + (1 << 20).to_bytes(4, "little") + dgram[36:]


@pytest.mark.parametrize("damage", [short, overrun])
def test_a_transition_that_came_in_damaged_is_no_failure_of_the_script(
    script: Script, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    builder = Builder(1)
    begin_run, begin_step, enable, *events, disable, end_step, end_run = builder.run(2)
    slow = damage(builder.slow_update(9.0))
    good = builder.slow_update(3.0)
    dgrams = [damage(begin_run), damage(begin_step), enable, good, events[0], slow, events[1]]
    text = LOOP + "        print('hv', run.Detector('hv')(evt), run.runnum)\n"
    code, feed = script(text, [builder.configure(), *dgrams, disable, end_step, end_run])
    assert code == EXIT_STOPPED
    assert {one.status for one in feed.answers} == {0}
    assert len([one for one in caplog.messages if "came in damaged" in one]) == 1


def test_a_configure_that_cannot_be_read_is_answered_and_runs_no_script(script: Script) -> None:
    builder = Builder(1)
    broken = overrun(builder.configure())
    code, feed = script("raise ValueError", [broken, *builder.run(1)])
    assert code == EXIT_STOPPED
    assert {one.status for one in feed.answers} == {0}
