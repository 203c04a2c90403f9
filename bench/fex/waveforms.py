"""Edges and pulses per second of one core: a time tool's 2048 pixels, a digitizer's 4000 samples with 8 pulses; psana's finders beside ours.

The kernels' rows are events/s of one thread that does nothing else; the rows of the command those of `drp` with one worker, which takes the event from shared memory,
runs the script of fex_scripts and records what it found, raw dropped. psana's finders need PSANA_PYTHON.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench._common import SCRIPTS, Setting, Table, run_drp, say_where, setting, turns
from bench.fex._frames import Work, both_cores, typical
from drp.fex import EdgeFinder, PulseFinder, edge_weights
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from drp.source.waveforms import WaveformTruth

ROOT = Path(__file__).parents[2]
ORACLE = ROOT / "tests" / "real" / "psana_waveforms.py"
FEX_SCRIPTS = os.path.relpath(ROOT / "fex_scripts", SCRIPTS)
FRAMES = 64
ROWS = 64
TAPS = 128
TIMETOOL, DIGITIZER = "timetool", "digitizer:4000,pulses=8,rise=8"
CFD = {
    "sample_interval": 1.0,
    "delay": 4,
    "fraction": 0.5,
    "threshold": 40,
    "walk": 0,
    "polarity": "Positive",
}
CFD |= {"timerange_low": -1, "timerange_high": 1e9, "offset": 400}


def lines() -> list[np.ndarray]:
    """Return lines of a time tool; the first has no edge."""
    truth = TimeToolTruth(parse(TIMETOOL))
    return [truth.raw(frame) for frame in range(FRAMES)]


def edges() -> Work:
    """Return what finds edges in lines."""
    given = lines()
    finder = EdgeFinder((2048,), edge_weights(TAPS))
    finder.add_background(given[0])
    return lambda number: finder.find(given[number % FRAMES])


def edges_of_frames() -> Work:
    """Return what finds edges in frames of a camera, 64 rows with a sideband of 16."""
    given = [np.ascontiguousarray(np.broadcast_to(line, (ROWS, 2048))) for line in lines()]
    finder = EdgeFinder((ROWS, 2048), edge_weights(TAPS), rows=(16, ROWS), sideband=(0, 16), relative=False)
    finder.add_background(given[0])
    return lambda number: finder.find(given[number % FRAMES])


def pulses() -> Work:
    """Return what finds pulses."""
    truth = WaveformTruth(parse(DIGITIZER))
    given = [truth.raw(frame) for frame in range(FRAMES)]
    finder = PulseFinder(truth.samples, 40.0)
    return lambda number: finder.find(given[number % FRAMES])


OURS: dict[str, Callable[[], Work]] = {"edges": edges, "edges of 64 rows": edges_of_frames, "pulses": pulses}
RATE = "events/s"


def ours(table: Table, events: int) -> None:
    """Measure the kernels, alone and on both cores at once."""
    for what, make in OURS.items():
        table.add(f"{what}, ours", RATE, 1 / typical(events, make()))
        table.add(f"{what}, ours, each of both cores", RATE, 1 / both_cores(make, events))


def theirs(table: Table, psana: str | None) -> None:
    """Measure psana's finders on the same events."""
    if psana is None:
        return
    truth = WaveformTruth(parse(DIGITIZER))
    weights = np.round(edge_weights(TAPS) * 4000).astype(np.int8)
    cases: dict[str, dict[str, Any]] = {
        "edges": {
            "lines": np.array(lines()[1:], float),
            "background": lines()[0].astype(float),
            "below": lines()[0].astype(float),
            "weights": weights,
        },
        "pulses": {
            "waveforms": [truth.raw(frame).astype(float) for frame in range(FRAMES)],
            "cfd": json.dumps(CFD),
        },
    }
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "OMPI_MCA_btl": "self"
    }
    for what, arrays in cases.items():
        with tempfile.TemporaryDirectory(prefix="drp-bench-") as folder:
            files = Path(folder, "in.npz"), Path(folder, "out.npy")
            np.savez(files[0], **arrays)
            done = subprocess.run(
                [psana, ORACLE, *files],
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"bench: psana ended with {done.returncode}:\n{done.stderr[-2000:]}")
            table.add(f"{what}, psana", RATE, 1 / float(np.median(np.load(files[1])[:, -1])))


def whole(table: Table, settings: Setting) -> None:
    """Measure the whole command."""
    count = str(settings.events(40_000, 4000))
    for what, script, source in (("edges", "timetool.py", TIMETOOL), ("pulses", "hsd_peaks.py", DIGITIZER)):
        report = run_drp(
            f"{FEX_SCRIPTS}/{script}", f"sim:{source}", "-W", "1", "-n", count, arguments="--keep-every 0"
        )
        table.add(f"{what}, drp -W 1", RATE, report["ledger"]["total"] / report["run_s"])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    psana = os.environ.get("PSANA_PYTHON")
    if psana is None:
        print("psana: PSANA_PYTHON names no Python that has it; left out")
    table = Table(
        "2048 pixels (4096 bytes an event, 262144 of 64 rows), 4000 samples with 8 pulses (8000 bytes)"
    )
    events = settings.events(4000, 500)
    turns(
        settings, partial(ours, table, events), partial(theirs, table, psana), partial(whole, table, settings)
    )
    ratios = [("edges, ours", "edges, psana"), ("pulses, ours", "pulses, psana")] if psana else []
    table.print(ratios, {"edges, ours": "10,000", "pulses, ours": "20,000"})


if __name__ == "__main__":
    main()
