"""ms from raw to curve of 1000 bins, one core: a simulated epixHR of 2.2 Mpixel, and a quarter of it; pyFAI's split bounding boxes (CSR) beside ours.

Ours is calibrated and integrated a segment at a time. pyFAI, if it is there, gets the calibrated frame: what calibrates it is counted too. It has
one thread, so that core stands beside core; OMP_NUM_THREADS gives it more, and then its time is the clock's. Other times are the thread's own.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np

from bench._common import Table, say_where, setting, turns
from bench.fex._frames import Camera, Work, both_cores, typical
from drp.fex import AzimuthalIntegrator, Directions, Poni

BINS = 1000
SIZES = {"2.2M": 20, "0.55M": 5}
DISTANCE_UM = 100_000.0


def integrator(
    camera: Camera, error_model: str | None = None, method: str = "scatter"
) -> AzimuthalIntegrator:
    """Return what integrates the camera's frames over q."""
    x, y = camera.truth.positions_um
    directions = Directions.of_coords(
        (y, x, np.full(camera.shape, -DISTANCE_UM)), Poni.of_energy(camera.energy_kev)
    )
    return AzimuthalIntegrator(directions, BINS, polarization=0.99, error_model=error_model, method=method)


def ours(camera: Camera, error_model: str | None = None) -> Work:
    """Return what calibrates and integrates an event a segment at a time."""
    one = integrator(camera, error_model)
    return lambda number: one.integrate(camera.correction.segments(camera.event(number)))


def calibrated(camera: Camera) -> Work:
    """Return what calibrates an event a segment at a time, and does nothing else."""

    def work(number: int) -> None:
        for _ in camera.correction.segments(camera.event(number)):
            pass

    return work


def pyfai(camera: Camera) -> Work:
    """Return what calibrates an event and has pyFAI integrate it."""
    one = integrator(camera, method="pyFAI")
    out = np.empty(camera.shape, np.float32)
    return lambda number: one.integrate(camera.correction.calib(camera.event(number), out=out))


def by_the_clock(events: int, work: Work) -> float:
    """Return the median of the seconds between the beginning and the end of an event."""
    work(0)
    seconds = []
    for number in range(events):
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(table: Table, size: str, events: int, threads: int) -> None:
    """Measure one size of the detector."""
    camera = Camera(segments=SIZES[size])
    contestants: dict[str, Callable[[], Work]] = {
        "ours": partial(ours, camera),
        "ours, with azimuthal errors": partial(ours, camera, "azimuthal"),
        "calibration alone": partial(calibrated, camera),
        "one read of raw, pedestal and gain": camera.floor,
    }
    for what, make in contestants.items():
        table.add(f"{size}: {what}", "ms", 1e3 * typical(events, make()))
    table.add(f"{size}: ours, each of both cores", "ms", 1e3 * both_cores(contestants["ours"], events))
    if find_spec("pyFAI"):
        clock = typical if threads == 1 else by_the_clock
        table.add(f"{size}: pyFAI, {threads} threads", "ms", 1e3 * clock(max(5, events // 5), pyfai(camera)))
    pixels = int(np.prod(camera.shape))
    table.add(f"{size}: bytes read for each event", "MB", (camera.floor_bytes + 10 * pixels) / 1e6)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    threads = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
    if not find_spec("pyFAI"):
        print("pyFAI: not installed; left out")
    table = Table(f"raw to curve of {BINS} bins")
    turns(settings, *(partial(measure, table, size, settings.events(40, 10), threads) for size in SIZES))
    rivals = [f"{size}: pyFAI, {threads} threads" for size in SIZES if find_spec("pyFAI")]
    ratios = [(rival, f"{rival.partition(':')[0]}: ours") for rival in rivals]
    floors = [(f"{size}: ours", f"{size}: one read of raw, pedestal and gain") for size in SIZES]
    table.print([*ratios, *floors], {f"{above} / {below}": "6" for above, below in ratios})


if __name__ == "__main__":
    main()
