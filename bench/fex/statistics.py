"""Statistics, profiles, rebinning, histograms, sparse lists and averages of a calibrated 2.2 Mpixel frame, beside NumPy and one plain read.

    python -m bench.fex.statistics [--short]

`read` says how the speed compares with that of reading the event once (numpy.sum of float32, or an OR over all words of photon counts): 1 where
it takes no longer. `MB moved` is all that an algorithm must read and write, its tables and state included; `per byte` compares that with the plain
read.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench._common import say_where, setting
from bench.fex._frames import Camera, Work, both_cores
from drp.fex import (
    Histogram,
    Profile,
    Rebin,
    RoiStatistics,
    RunningAverage,
    SparseEvents,
    StepAverage,
    Threshold,
)

Array = Any
MAKERS = dict[str, tuple[Callable[[], Callable[[Array], object]], float]]


def contestants(camera: Camera) -> tuple[MAKERS, MAKERS]:
    """Return what works on calibrated frames, and on photon counts: name to what makes it, and bytes it moves for each pixel."""
    shape = camera.shape
    x, y = camera.truth.positions_um
    mask = np.random.default_rng(1).random(shape) > 0.001
    total, squares = np.zeros(shape), np.zeros(shape)

    def sums(frame: Array) -> None:
        np.add(total, frame, out=total)
        np.add(squares, frame * frame, out=squares)

    on_frames: MAKERS = {
        "plain read (numpy.sum)": (lambda: np.sum, 4),
        "statistics": (lambda: RoiStatistics(shape).of, 4),
        "statistics, 0.1 % masked": (lambda: RoiStatistics(shape, mask=mask).of, 4),
        "  numpy sum mean std min max": (lambda: lambda f: (f.sum(), f.mean(), f.std(), f.min(), f.max()), 20),
        "profile along columns": (lambda: Profile.along_columns(shape).of, 4),
        "  numpy sum of rows": (lambda: lambda f: f.sum(axis=(0, 1), dtype=np.float64), 4),
        "profile along rows": (lambda: Profile.along_rows(shape).of, 4),
        "radial profile, 1000 bins": (lambda: Profile.radial(x, y, 1000).of, 6),
        "radial profile, 1000 bins, 90 degrees": (lambda: Profile.radial(x, y, 1000, azimuth=(0, 90)).of, 1.5),
        "rebin 2 x 2": (lambda: Rebin(shape, (2, 2)).of, 5),
        "rebin 2 x 2, 0.1 % masked": (lambda: Rebin(shape, (2, 2), "mean", mask).of, 5),
        "  numpy reshape and sum": (lambda: lambda f: f.reshape(shape[0], shape[1] // 2, 2, -1, 2).sum(axis=(2, 4)), 5),
        "histogram, 1000 bins": (lambda: Histogram(shape, 1000, (-10, 90)).of, 4),
        "  numpy.histogram": (lambda: lambda f: np.histogram(f, 1000, (-10, 90)), 4),
        "threshold at 5 keV": (lambda: Threshold(shape, 5).of, 4),
        "  numpy.flatnonzero and take": (lambda: lambda f: np.take(f, np.flatnonzero(f >= 5)), 4),
        "running average, weight": (lambda: RunningAverage(shape, weight=0.1).of, 12),
        "running average, window of 4": (lambda: RunningAverage(shape, window=4).of, 32),
        "step average": (lambda: StepAverage(shape, lambda _name, array, _op, **_: array).add, 36),
        "  numpy sums of it": (lambda: sums, 36),
    }  # fmt: skip
    on_counts: MAKERS = {
        "plain read of uint8 counts": (
            lambda: lambda c: np.bitwise_or.reduce(c.reshape(-1).view(np.uint64)),
            1,
        ),
        "sparse events": (lambda: SparseEvents(shape).of, 1),
        "  numpy.flatnonzero and take": (lambda: lambda c: np.take(c, np.flatnonzero(c)), 1),
        "rebin 2 x 2 of counts": (lambda: Rebin(shape, (2, 2), dtype=np.uint8).of, 2),
    }
    return on_frames, on_counts


def measure(title: str, makers: MAKERS, events: Sequence[Array], turns: int) -> None:
    """Print the milliseconds of each contestant; they take turns."""
    made = {name: make() for name, (make, _) in makers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(turns):
        for place, (name, work) in enumerate(made.items()):
            event = events[(7 * turn + 5 * place) % len(events)]
            began = time.thread_time()
            work(event)
            if turn:
                seconds[name].append(time.thread_time() - began)
    print(
        f"\n{title}\n  {'':40}{'least ms':>10}{'median ms':>10}{'read':>8}{'both cores':>12}{'MB moved':>10}{'per byte':>10}"
    )
    plain, read = next(iter(seconds.items()))
    for name, spent in seconds.items():
        make, moved = makers[name]
        loaded = both_cores(lambda make=make: through(make(), events), turns)  # type: ignore[misc]
        print(
            f"  {name:40}{1e3 * min(spent):10.3f}{1e3 * statistics.median(spent):10.3f}{min(read) / min(spent):8.2f}"
            f"{1e3 * loaded:12.3f}{moved * events[0].size / 1e6:10.1f}"
            f"{moved / makers[plain][1] * min(read) / min(spent):10.2f}",
            flush=True,
        )


def through(work: Callable[[Array], object], events: Sequence[Array]) -> Work:
    """Return the work of an event by its number."""
    return lambda number: work(events[number % len(events)])


def main(argv: list[str] | None = None) -> None:
    """Measure everything and print it."""
    turns = 12 * setting(argv, doc=__doc__).turns
    say_where()
    camera = Camera(frames=8)
    frames = [camera.correction.calib(camera.event(number)) for number in range(8)]
    counts = [
        np.random.default_rng(number).poisson(0.01, camera.shape).astype(np.uint8) for number in range(24)
    ]
    on_frames, on_counts = contestants(camera)
    measure(f"calibrated frames {camera.shape}, float32", on_frames, frames, turns)
    measure("photon counts, uint8, 0.01 in a pixel", on_counts, counts, turns)


if __name__ == "__main__":
    main()
