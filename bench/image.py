"""Images of calibrated data by default geometries, beside psana's, NumPy's assignment and a memcpy of the data.

Ours draws into a new array, as psana does. psana runs in a process of its own with the Python that PSANA_PYTHON names, and is asked for
what its `det.raw.image` ends in, `CalibConstants.image`, after its first image, which computes the map. Without PSANA_PYTHON it is left out.

    PSANA_PYTHON=/path/to/python python -m bench.image [--turns N]
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench._common import Setting, Table, say_where, scratch, setting, turns
from calib.geometry import Geometry, warm_up

DETECTORS = (("epixhremu", 20), ("jungfrau", 8), ("jungfrau", 32))
IMAGES = 20
PSANA_SIDE = """
import sys, time
import numpy as np
from psana.detector.calibconstants import CalibConstants
text, data = open(sys.argv[1]).read(), np.load(sys.argv[2])
constants = CalibConstants({"geometry": (text, {})}, "detector")
segments = list(range(len(data)))
constants.image(data, segnums=segments)
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(line)):
        constants.image(data, segnums=segments)
    print(time.perf_counter() - start, flush=True)
"""


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Return how long one of `times` calls takes."""
    work()
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) * 1e3 / times


@contextmanager
def psana(folder: Path, geometry: Geometry, data: np.ndarray) -> Iterator[Callable[[int], float] | None]:
    """Start psana's side, and yield what returns its milliseconds per image; None without PSANA_PYTHON."""
    python = os.environ.get("PSANA_PYTHON")
    if python is None:
        yield None
        return
    text, values = folder / "geometry.data", folder / "data.npy"
    text.write_text(geometry.text())
    np.save(values, data)
    command = [python, "-c", PSANA_SIDE, str(text), str(values)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        stdin, stdout = child.stdin, child.stdout
        if stdin is None or stdout is None or stdout.readline() != "ready\n":
            raise SystemExit("bench: psana's side did not start")

        def ask(times: int) -> float:
            stdin.write(f"{times}\n")
            return float(stdout.readline()) * 1e3 / times

        yield ask
        stdin.close()


def compare(settings: Setting, dettype: str, segments: int) -> None:
    """Measure one detector."""
    geometry = Geometry.default_for(dettype, segments)
    data = np.random.default_rng(1).normal(10, 20, geometry.shape).astype(np.float32)
    plan = geometry.plan()
    copy, canvas = np.empty_like(data), np.zeros(plan.shape, np.float32)
    rows, cols = (index.ravel() for index in geometry.pixel_indexes())
    times = max(3, int(IMAGES * settings.scale))
    table = Table(
        f"{dettype}, {data.size / 1e6:.1f} Mpixel, image {plan.shape[0]} x {plan.shape[1]}, ms per image"
    )

    def assign() -> None:
        canvas[rows, cols] = data.ravel()

    ours: dict[str, Callable[[], object]] = {
        "image": lambda: geometry.image(data),
        "image into out=": lambda: geometry.image(data, out=canvas),
        "image, largest": lambda: geometry.image(data, mapmode=2),
        "image, interpolated": lambda: geometry.image(data, mapmode=4),
        "NumPy's assignment": assign,
        "memcpy of the data": lambda: np.copyto(copy, data),
    }
    with scratch() as folder, psana(folder, geometry, data) as rival:

        def turn() -> None:
            for name, work in ours.items():
                table.add(name, "ms", milliseconds(work, times))
            if rival is not None:
                table.add("psana's image", "ms", rival(times))

        turns(settings, turn)
    ratios = [("psana's image", "image")] if "psana's image" in table.rows else []
    table.print([*ratios, ("NumPy's assignment", "image"), ("image", "memcpy of the data")])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all detectors and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    warm_up()
    for dettype, segments in DETECTORS:
        compare(settings, dettype, segments)


if __name__ == "__main__":
    main()
