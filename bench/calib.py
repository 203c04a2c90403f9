"""ms per frame from raw to calibrated, one core, beside psana's own calib and beside memcpy of the output.

Input: a jungfrau of 4 Mpixel (8 x 512 x 1024, three gain ranges) and an epixHR of 2.2 Mpixel (20 x 144 x 768, two of its seven modes), six frames each that
are gone through in turn, so that raw data come from memory. The noise is that of the detectors; 1.5 % of the pixels, in spots of some 25, are
in a lower gain range, and 1 % of the spots' pixels in an invalid one or the lowest. psana (`PSANA_PYTHON`, else it is left out) gets the same
frames and constants in a process of its own: its C path, which only jungfrau has and which has no common mode, and its Python path. memcpy writes an array of
the output's size into another. Times are the calling thread's own. What is calibrated goes into the same `out` each time, as in a worker.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench._common import Setting, Table, say_where, setting, turns
from calib.detectors import Correction, DetectorSetup, Panel, correction_type

ORACLE = Path(__file__).parents[1] / "tests" / "real" / "psana_calib.py"
FRAMES = 6
SPOT = 5
LOW_PART = 0.015
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A detector to calibrate; `low` are the range bits that pixels of spots get, `gains` those of each range or mode (ADU/keV)."""

    name: str
    dettype: str
    psana: str
    segments: int
    gains: tuple[float, ...]
    low: tuple[int, ...]
    cmpars: tuple[float, ...]


SUBJECTS = (
    Subject(
        "jungfrau 4M",
        "jungfrau",
        "jungfrau.jungfrau_raw_0_2_0",
        8,
        (41.5, -1.39, -0.11),
        (0x4000, 0xC000, 0x8000),
        (7, 1, 200, 10),
    ),
    Subject(
        "epixhr 2.2M",
        "epixhremu",
        "epixhremu.epixhremu_raw_0_0_1",
        20,
        (41.0, 13.7, 0.512, 41.0, 13.7, 0.512, 0.512),
        (0x8000,),
        (7, 1, 100, 10),
    ),
)


class Contest:
    """One detector, its frames, its correction, and psana beside it."""

    def __init__(self, subject: Subject, table: Table, psana: str | None) -> None:
        self.subject = subject
        self.table = table
        self.psana = psana
        panels = tuple(Panel(at, f"panel-{at}", {}) for at in range(subject.segments))
        setup = DetectorSetup("det", subject.dettype, "raw", (0, 0, 0), panels, (0, 0))
        kind = correction_type(setup)
        self.shape = (subject.segments, *kind.panel_shape)
        self.mpixel = int(np.prod(self.shape)) / 1e6
        self.constants = constants(subject, self.shape)
        self.frames = [
            frame(subject, self.shape, self.constants["pedestals"], number) for number in range(FRAMES)
        ]
        self.correction: Correction = kind(setup, self.constants, kind.derive(setup, self.constants))
        self.out = np.empty(self.shape, np.float32)
        self.copied = np.ones_like(self.out)
        for mode in (0, 1, 2, 4):
            self.correction.calib(self.frames[0], out=self.out, cmpars=(7, mode, 200, 10))

    def row(self, what: str) -> str:
        """Return the name of a row."""
        return f"{self.subject.name}: {what}"

    def add(self, what: str, seconds: float) -> None:
        """Add a turn's time for one frame."""
        self.table.add(self.row(what), "ms", 1e3 * seconds)

    def ours(self, what: str, frames: int, mode: int = 0) -> None:
        """Calibrate frames in turn; the median of their times is what counts."""
        parameters = (*self.subject.cmpars[:1], mode, *self.subject.cmpars[2:])
        segments = [list(one) for one in self.frames]
        self.add(
            what,
            typical(
                frames,
                lambda turn: self.correction.calib(segments[turn % FRAMES], out=self.out, cmpars=parameters),
            ),
        )

    def memcpy(self, frames: int) -> None:
        """Copy an array of the output's size."""
        self.add("memcpy of the output", typical(frames, lambda _: np.copyto(self.copied, self.out)))

    def theirs(self, rows: dict[str, dict[str, Any]], repeat: int) -> None:
        """Let psana calibrate, in one process for all rows."""
        if self.psana is None:
            return
        with tempfile.TemporaryDirectory(prefix="drp-bench-") as name:
            folder = Path(name)
            np.savez(folder / "constants.npz", **self.constants)
            np.savez(folder / "raw.npz", **{f"event{number}": one for number, one in enumerate(self.frames)})
            common = {
                "kind": self.subject.psana,
                "segments": list(range(self.subject.segments)),
                "detector": {},
                "repeat": repeat,
            }
            files = {"constants": str(folder / "constants.npz"), "raw": str(folder / "raw.npz")}
            cases = [
                common | files | {"calib": options, "out": str(folder / f"{number}.npz")}
                for number, options in enumerate(rows.values())
            ]
            (folder / "cases.json").write_text(json.dumps(cases))
            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
                "OMPI_MCA_btl": "self"
            }
            command = [self.psana, str(ORACLE), str(folder / "cases.json")]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=600, check=False
            )
            if done.returncode:
                raise SystemExit(f"bench: psana ended with {done.returncode}:\n{done.stderr[-2000:]}")
            for number, what in enumerate(rows):
                with np.load(folder / f"{number}.npz") as file:
                    self.add(what, float(np.median(file["seconds"])))


def typical(frames: int, one: Callable[[int], object]) -> float:
    """Return the median of the seconds that each call takes this thread; what other programs take of the core is not counted."""
    seconds = []
    for turn in range(frames):
        began = time.thread_time()
        one(turn)
        seconds.append(time.thread_time() - began)
    return statistics.median(seconds)


def constants(subject: Subject, shape: tuple[int, ...]) -> dict[str, Array]:
    """Return pedestals, gains and a status with 0.1 % of bad pixels."""
    rng = np.random.default_rng(7)
    every = (len(subject.gains), *shape)
    gains = np.array(subject.gains, np.float32).reshape(-1, 1, 1, 1)
    return {
        "pedestals": rng.normal(2900, 80, every).astype(np.float32),
        "pixel_gain": (gains * rng.normal(1, 0.02, every)).astype(np.float32),
        "pixel_status": (rng.random(every) < 0.001).astype(np.uint64),
    }


def frame(subject: Subject, shape: tuple[int, ...], pedestals: Array, seed: int) -> Array:
    """Return one raw frame: noise and the rows' common mode on the pedestals of the usual range, spots in lower ones."""
    rng = np.random.default_rng(seed)
    usual = 4 if subject.dettype == "epixhremu" else 0
    noise = rng.normal(0, 4, shape) + rng.normal(0, 5, (*shape[:2], 1))
    raw = np.clip(pedestals[usual] + noise, 0, 0x3FFF).astype(np.uint16)
    for _ in range(int(LOW_PART * raw.size / SPOT**2)):
        segment, row, col = rng.integers(0, (shape[0], shape[1] - SPOT, shape[2] - SPOT))
        bits = subject.low[0] if rng.random() < 0.99 else rng.choice(subject.low)
        raw[segment, row : row + SPOT, col : col + SPOT] = rng.integers(3000, 9000, (SPOT, SPOT)) | bits
    return raw


PSANA_ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "jungfrau": {
        "psana, C": {},
        "psana, Python": {"cversion": 0},
        "psana, common mode of rows": {"cversion": 0, "cmpars": [7, 1, 200, 10]},
    },
    "epixhremu": {"psana, Python": {}, "psana, common mode of rows": {"cmpars": [7, 1, 100, 10]}},
}
MODES = {
    "ours": 0,
    "ours, common mode of rows": 1,
    "ours, common mode of columns": 2,
    "ours, common mode of banks": 4,
}


def measure(settings: Setting, subject: Subject, psana: str | None) -> None:
    """Measure one detector and print."""
    table = Table(f"{subject.name} pixels of {subject.dettype}, raw to calibrated, ms per frame")
    contest = Contest(subject, table, psana)
    frames = settings.events(60, 12)

    def ours() -> None:
        for what, mode in MODES.items():
            contest.ours(what, frames, mode)

    turns(
        settings, ours, lambda: contest.memcpy(frames), lambda: contest.theirs(PSANA_ROWS[subject.dettype], 3)
    )
    for what in MODES:
        values = table.rows[contest.row(what)].values
        for value in values:
            table.add(contest.row(f"{what}, per Mpixel"), "ms/Mpixel", value / contest.mpixel)
    pairs = [("ours", "memcpy of the output")]
    targets = {
        contest.row("ours, per Mpixel"): "under 1",
        **{contest.row(f"{what}, per Mpixel"): "under 2" for what, mode in MODES.items() if mode},
    }
    if psana:
        rivals = (("psana, Python", "20"), ("psana, C", "3"), ("psana, common mode of rows", ""))
        for what, target in rivals:
            if what in PSANA_ROWS[subject.dettype]:
                mine = "ours, common mode of rows" if "common" in what else "ours"
                pairs.append((what, mine))
                if target:
                    targets[f"{contest.row(what)} / {contest.row(mine)}"] = target
    table.print([(contest.row(above), contest.row(below)) for above, below in pairs], targets)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    psana = os.environ.get("PSANA_PYTHON")
    if psana is None:
        print("psana: PSANA_PYTHON names no Python that has it; left out")
    for subject in SUBJECTS:
        measure(settings, subject, psana)


if __name__ == "__main__":
    main()
