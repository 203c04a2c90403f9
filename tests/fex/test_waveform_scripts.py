"""timetool.py and hsd_peaks.py, by the command: what they record is what the finders find, live as offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_files import drp, write_run

from drp import DataSource
from drp.fex import EdgeFinder, PulseFinder
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from drp.source.waveforms import WaveformTruth

SCRIPTS = Path(__file__).parents[2] / "fex_scripts"
EVENTS = 40


def recorded(folder: Path, name: str, alg: str) -> list[dict[str, Any]]:
    """Return what was recorded of each event: the fields of `alg`, the trigger words, and whether raw was kept."""
    (path,) = folder.glob("*/*/xtc/*.xtc2")
    events = []
    for run in DataSource(files=str(path)).runs():
        det = run.Detector(name)
        for evt in run.events():
            event = {one: getattr(getattr(det, alg), one)(evt) for one in getattr(det, alg).fields}
            event |= {one: getattr(det.trigger, one)(evt) for one in det.trigger.fields}
            field = next(iter(det.raw.fields))
            events.append(event | {"raw": getattr(det.raw, field)(evt) is not None})
    return events


def both(folder: Path, script: str, source: str, name: str, alg: str) -> list[dict[str, Any]]:
    """Run live with two workers and offline, on one file; return what both recorded."""
    path = write_run(folder / "in.xtc2", source, EVENTS)
    ways = {"live": ("-W", 2, "--check-jit"), "offline": ("--offline", "--check-jit")}
    runs = []
    for way, words in ways.items():
        done = drp("-p", f"{SCRIPTS / script}", "--source", path, "-o", folder / way, *words)
        assert done.returncode == 0, done.stderr
        runs.append(recorded(folder / way, name, alg))
    live, offline = runs
    assert len(live) == len(offline) == EVENTS
    for one, other in zip(live, offline, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)
    return live


def test_edges_are_recorded_live_as_offline(tmp_path: Path) -> None:
    truth = TimeToolTruth(parse("timetool"))
    np.save(tmp_path / "background.npy", truth.light(0))
    script = f"timetool.py --background {tmp_path / 'background.npy'} --keep-every 10"
    events = both(tmp_path, script, "sim:timetool", "timetool", "edge")
    finder = EdgeFinder((truth.samples,), threshold=0.03)
    finder.set_background(truth.light(0))
    for frame, event in enumerate(events):
        found, edge = finder.find(truth.raw(frame)), truth.edge(frame)
        assert event["position"] == pytest.approx(found.position, nan_ok=True)
        assert event["amplitude"] == pytest.approx(found.amplitude)
        assert event["background"] == pytest.approx(truth.light(0).mean(), rel=1e-6)
        assert event["edge"] == pytest.approx(found.position, rel=1e-6, nan_ok=True)
        assert event["hit"] == (edge is not None)
        assert event["raw"] == (frame % 10 == 0)
        if edge:
            assert event["position"] == pytest.approx(edge.position, abs=0.5)


def test_a_worker_averages_the_backgrounds_it_saw(tmp_path: Path) -> None:
    script = SCRIPTS / "timetool.py"
    done = drp("-p", script, "--source", "sim:timetool", "-n", EVENTS, "-o", tmp_path, "-W", 1)
    assert done.returncode == 0, done.stderr
    truth = TimeToolTruth(parse("timetool"))
    finder = EdgeFinder((truth.samples,), threshold=0.03)
    for frame, event in enumerate(recorded(tmp_path, "timetool", "edge")):
        if not truth.has_beam(frame):
            finder.add_background(truth.raw(frame))
        assert event["position"] == pytest.approx(finder.find(truth.raw(frame)).position, nan_ok=True)


def test_pulses_are_recorded_live_as_offline(tmp_path: Path) -> None:
    source = "digitizer:4000,pulses=8,rise=8"
    truth = WaveformTruth(parse(source))
    script = "hsd_peaks.py --threshold 40 --hit 8 --most 7 --keep-every 0"
    finder = PulseFinder(4000, 40.0, interval_s=1e-9, most=7)
    for frame, event in enumerate(both(tmp_path, script, f"sim:{source}", "digitizer", "pulses")):
        found = finder.find(truth.raw(frame))
        for name in ("samples", "times_s", "amplitudes", "widths"):
            assert np.array_equal(event[name], getattr(found, name))
        assert (event["dropped"], event["peaks"], event["hit"], event["raw"]) == (1, 8, 1, False)
        late = event["samples"] - [one.arrival for one in truth.pulses(frame)[:7]]
        assert np.ptp(late) < 0.2


@pytest.mark.parametrize(
    ("script", "source", "said"),
    [
        ("timetool.py", "sim:digitizer", "give a --field of rank 1 or 2"),
        ("timetool.py --rate 2", "sim:timetool", "rate=2.0"),
        ("timetool.py --beam=", "sim:timetool", "give one by --background"),
        ("hsd_peaks.py --baseline 5:x", "sim:digitizer", "--baseline"),
    ],
)
def test_what_cannot_be_used_ends_the_run_before_any_event(script: str, source: str, said: str) -> None:
    done = drp("-p", SCRIPTS / script, "--source", source, "-n", 3, "-W", 1)
    assert done.returncode != 0
    assert said in done.stderr + done.stdout
