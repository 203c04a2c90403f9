"""ms from raw to a sparse frame, one core: a simulated epixHR of 2.2 Mpixel, and a quarter of it; PeakFinder8, which it holds, alone beside it.

Frames are calibrated a segment at a time. The size of a sparse frame is that of its arrays, as they are recorded; raw's is that of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from bench._common import Table, say_where, setting, turns
from bench.fex._frames import Camera, Work, both_cores, typical
from drp.fex import PeakFinder8, SparseBragg

SIZES = {"2.2M": 20, "0.55M": 5}
MODES = {"exact": None, "fast": 64}
"""Pixels that are looked at of each radius; None: all."""
OPTIONS: dict[str, Any] = {"min_snr": 5.0, "adc_thresh": 20.0}


def sparse(camera: Camera, per_bin: int | None) -> Work:
    """Return what calibrates an event and makes it sparse."""
    bragg = SparseBragg(camera.radius_px, per_bin=per_bin, **OPTIONS)
    return lambda number: bragg.find(camera.correction.segments(camera.event(number)))


def peaks(camera: Camera, per_bin: int | None) -> Work:
    """Return what calibrates an event and finds its peaks."""
    finder = PeakFinder8(camera.radius_px, per_bin=per_bin, **OPTIONS)
    return lambda number: finder.find(camera.correction.segments(camera.event(number)))


def size_bytes(camera: Camera) -> float:
    """Return the mean size of what is kept of an event."""
    bragg = SparseBragg(camera.radius_px, **OPTIONS)
    sizes = []
    for number in range(camera.frames):
        found = bragg.find(camera.correction.segments(camera.event(number)))
        arrays = found.index, found.intensity, found.background_avg, found.background_std
        sizes.append(sum(one.nbytes for one in arrays))
    return float(np.mean(sizes))


def measure(table: Table, size: str, events: int) -> None:
    """Measure one size of the detector."""
    camera = Camera(segments=SIZES[size])
    for mode, per_bin in MODES.items():
        make = partial(sparse, camera, per_bin)
        table.add(f"{size}, {mode}: sparse frame", "ms", 1e3 * typical(events, make()))
        table.add(f"{size}, {mode}: PeakFinder8 alone", "ms", 1e3 * typical(events, peaks(camera, per_bin)))
        table.add(f"{size}, {mode}: sparse frame, each of both cores", "ms", 1e3 * both_cores(make, events))
    table.add(f"{size}: one read of raw, pedestal and gain", "ms", 1e3 * typical(events, camera.floor()))
    table.add(f"{size}: raw / sparse frame", "x bytes", camera.floor_bytes / 5 / size_bytes(camera))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    table = Table("raw to sparse Bragg frame")
    turns(settings, *(partial(measure, table, size, settings.events(40, 10)) for size in SIZES))
    rows = [f"{size}, {mode}" for size in SIZES for mode in MODES]
    targets = {"2.2M, fast: sparse frame": "4", "0.55M, fast: sparse frame": "2.4"}
    table.print([(f"{row}: sparse frame", f"{row}: PeakFinder8 alone") for row in rows], targets)


if __name__ == "__main__":
    main()
