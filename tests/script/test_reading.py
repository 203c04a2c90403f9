"""What a script reads from an event."""

import numpy as np
import pytest
from dgrams import DET, Builder
from script_feed import ListFeed, Script

from drp.script.worker import EXIT_SCRIPT_FAILED
from xtc import TransitionId, encode_dgram, encode_shapes_data

LOOP = """
import json, sys
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
seen = []
for run in ds.runs():
    det = run.Detector("cam")
    for evt in run.events():
"""


def check(script: Script, body: str, dgrams: list[bytes], **options: object) -> ListFeed:
    """Run a loop body, and fail with the script's own traceback where it does."""
    indented = "".join(f"        {line}\n" for line in body.strip().splitlines())
    code, feed = script(LOOP + indented, dgrams, **options)  # type: ignore[arg-type]
    assert code == 0, feed.answers[-1].json["traceback"]
    return feed


def one_run(builder: Builder, events: int = 3, **options: int) -> list[bytes]:
    return [builder.configure(), *builder.run(events, **options), builder.bare(TransitionId.Unconfigure)]


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_raw_is_the_segments_in_order_as_one_read_only_view(script: Script, segments: int) -> None:
    check(
        script,
        f"""
raw = det.raw.raw(evt)
assert raw.shape == ({segments}, 8, 6) if {segments} > 1 else raw.shape == (8, 6)
assert not raw.flags.writeable and ds.stacked_copies == 0
for k, one in enumerate(det.raw.segments(evt)):
    assert np.array_equal(one, np.arange(48, dtype=np.uint16).reshape(8, 6) + 1000 * k + evt.index)
    assert np.array_equal(raw if {segments} == 1 else raw[k], one)
""",
        one_run(Builder(segments)),
    )


def test_segments_with_a_leading_axis_are_stacked_to_three_dimensions(script: Script) -> None:
    builder = Builder(3, (1, 8, 6))
    check(
        script, "assert det.raw.raw(evt).shape == (3, 8, 6)\nassert ds.stacked_copies == 0", one_run(builder)
    )
    check(
        script,
        "raw = det.raw.raw(evt)\nassert raw.shape == (6, 4, 3)\nassert raw[3, 0, 0] == 1012 + evt.index\n"
        "assert ds.stacked_copies == evt.index + 1",
        one_run(Builder(3, (2, 4, 3))),
    )


def test_unevenly_lying_segments_are_copied_and_counted(script: Script) -> None:
    builder = Builder(3)
    parts = [encode_shapes_data(builder.raw[k], {"frame": 0, "raw": builder.frame(0, k)}) for k in (0, 2, 1)]
    event = encode_dgram(TransitionId.L1Accept, builder.time + 5, parts)
    dgrams = [builder.configure(), *builder.run(0)[:3], event, *builder.run(0)[3:]]
    check(
        script,
        "raw = det.raw.raw(evt)\nassert [raw[k, 0, 0] for k in range(3)] == [0, 1000, 2000]\nassert ds.stacked_copies == 1",
        dgrams,
    )


def test_a_missing_segment_reads_as_none(script: Script) -> None:
    builder = Builder(2)
    dgrams = [builder.configure(), *builder.run(0)[:3], builder.event(0, [1]), *builder.run(0)[3:]]
    check(
        script,
        "assert det.raw.raw(evt) is None and det.raw.segments(evt) is None\nassert det.raw.frame(evt) == {1: 0}",
        dgrams,
    )


def test_scalars_of_one_segment_are_plain_numbers(script: Script) -> None:
    check(
        script,
        "assert det.raw.frame(evt) == evt.index and type(det.raw.frame(evt)) is int",
        one_run(Builder(1)),
    )


def test_event_tells_time_index_pulse_id_and_env(script: Script) -> None:
    check(
        script,
        """
assert evt.index == len(seen) and evt.pulse_id == 5000 + evt.index
assert evt.env & 0xffff == 1 and evt.service() == 12 and evt.keepraw() == 0
assert evt.timestamp >> 32 == 1000 and evt.datetime().year == 1990
assert evt.run() is run and evt.timestamp_diff(evt.timestamp - 5) == 5
seen.append(evt)
assert seen[0].index == 0
""",
        one_run(Builder(1)),
    )


def test_run_tells_what_psana_tells(script: Script) -> None:
    check(
        script,
        """
assert (run.expt, run.runnum) == ("tst001", 7) and run.timestamp < evt.timestamp
assert run.detnames == {"cam"} and run.detinfo == {("cam", "raw"): ["frame", "raw"]}
assert run.xtcinfo[("cam", "raw")] == "0_1_0" and run.epicsinfo == {("hv", "LAB:HV"): "LAB:HV"}
assert run.scaninfo == {("motor", "raw"): "raw"} and run.scan
""",
        one_run(Builder(1), events=1),
    )


def test_environment_is_that_of_the_last_slow_update(script: Script) -> None:
    check(
        script,
        """
assert run.Detector("hv")(evt) == run.Detector("LAB:HV")(evt) == evt.index // 2 * 2
assert run.Detector("motor")(evt) == 0.5 and run.Detector("motor")(run.step(evt)) == 0.5
""",
        one_run(Builder(1), 6, slow_every=2),
    )


def test_configuration_values_are_nested_and_enums_know_their_labels(script: Script) -> None:
    check(
        script,
        """
assert det.config[0].user.bias == -7
gain = det.raw._seg_configs()[0].config.user.gain
assert gain == 1 and gain.value == 1 and gain.names == {0: "low", 1: "high"} and gain.label == "high"
""",
        one_run(Builder(1), 1),
    )


def test_steps_give_the_events_of_each_step(script: Script) -> None:
    builder = Builder(1)
    bare = builder.bare
    dgrams = [builder.configure(), builder.begin_run()]
    for step in range(3):
        dgrams += [builder.begin_step(step), bare(TransitionId.Enable), builder.event(0), builder.event(1)]
        dgrams += [bare(TransitionId.Disable), bare(TransitionId.EndStep)]
    dgrams += [bare(TransitionId.EndRun)]
    code, feed = script(
        """
from drp import DataSource
ds = DataSource()
for run in ds.runs():
    motor = run.Detector("motor")
    found = [(motor(step), [evt.index for evt in step.events()]) for step in run.steps()]
    assert found == [(0, [0, 1]), (1, [2, 3]), (2, [4, 5])], found
""",
        dgrams,
    )
    assert code == 0, feed.answers[-1].json
    assert len(feed.answers) == len(dgrams)


def test_steps_without_events_pass_over_them(script: Script) -> None:
    code, feed = script(
        "from drp import DataSource\nfor run in DataSource().runs():\n    assert len(list(run.steps())) == 1\n",
        one_run(Builder(1)),
    )
    assert code == 0, feed.answers[-1].json


@pytest.mark.parametrize("call", ["calib", "image"])
def test_calibrated_data_are_an_error_without_constants(script: Script, call: str) -> None:
    code, feed = script(LOOP + f"        det.raw.{call}(evt)\n", one_run(Builder(1)))
    assert code == EXIT_SCRIPT_FAILED
    assert feed.answers[-1].json["kind"] == "CalibrationError"
    assert "det.raw" in feed.answers[-1].json["traceback"]


def test_an_old_event_cannot_be_read(script: Script) -> None:
    code, feed = script(
        LOOP + "        seen.append(evt)\n        det.raw.raw(seen[0])\n", one_run(Builder(1))
    )
    assert code == EXIT_SCRIPT_FAILED
    assert feed.answers[-1].json["kind"] == "StaleEventError"
    assert len(feed.of(TransitionId.L1Accept)) == 2


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("run.Detector('camm')", "'cam'"),
        ("run.Detector('LAB:HW')", "'LAB:HV'"),
        ("det.raw.raww", "'raw'"),
        ("det.ramp", "'raw'"),
        ("ds.remove_data('cam', 'rew')", "'cam.raw'"),
    ],
)
def test_unknown_names_come_with_near_misses(script: Script, line: str, hint: str) -> None:
    code, feed = script(LOOP + f"        {line}\n", one_run(Builder(1)))
    assert code == EXIT_SCRIPT_FAILED
    assert hint in feed.answers[-1].json["message"]


def test_a_missing_detector_can_be_accepted(script: Script) -> None:
    check(script, "assert run.Detector('no', accept_missing=True).raw.raw(evt) is None", one_run(Builder(1)))


def test_checked_views_are_poisoned_when_the_script_goes_on(script: Script) -> None:
    check(
        script,
        """
raw = det.raw.raw(evt)
assert raw[1, 1, 1] == 1007 + evt.index
assert all((one == 0xDBDB).all() for one in seen)
seen.append(raw)
""",
        one_run(Builder(2)),
        check_views=True,
    )


def test_copies_stay_valid(script: Script) -> None:
    check(
        script,
        "raw = det.raw.raw(evt, copy=True)\nraw[0] += 1\nseen.append(raw)\nassert seen[0][0, 0, 0] == 1",
        one_run(Builder(2)),
        check_views=True,
    )


def test_text_and_empty_arrays_are_read(script: Script) -> None:
    builder = Builder(1, (0, 6))
    check(script, "assert det.raw.raw(evt).shape == (0, 6)", one_run(builder))
    assert DET == "cam"
    assert np.prod(builder.shape) == 0
