"""Frames of a simulated epixHR with their true constants, the floor below any algorithm that calibrates them, and both cores at once.

The frames are the simulator's own: a water ring of 0.5 photons per pixel at its crest on 0.02 everywhere, 40 Bragg peaks, electronics' noise, pixels of
bright spots in low gain. There are as many of them as the cache does not hold together, and they are gone through in turn.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from calib.detectors import Correction, DetectorSetup, Panel, correction_type
from drp.source.simconstants import constants_of
from drp.source.simoptions import SimOptions
from drp.source.truth import SimTruth

FRAMES = 12
LIMIT_S = 120.0
Array = npt.NDArray[Any]
Work = Callable[[int], object]
"""One event's work, from the number of the event."""


@dataclass(frozen=True)
class Camera:
    """A simulated epixHR of `segments` segments of 144 x 768 pixels, its correction and its frames."""

    segments: int = 20
    frames: int = FRAMES
    photons: float = 0.02
    ring: float = 0.5
    peaks: int = 40

    @cached_property
    def truth(self) -> SimTruth:
        """What is really in the frames."""
        peaks = max(1, self.peaks * self.segments // 20)
        return SimTruth(SimOptions(segments=self.segments, photons=self.photons, ring=self.ring, peaks=peaks))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(segments, rows, cols)."""
        return self.truth.shape

    @property
    def energy_kev(self) -> float:
        """Energy of a photon."""
        return self.truth.options.energy_kev

    @cached_property
    def correction(self) -> Correction:
        """The correction with the true constants; made anew it would be equal."""
        camera = self.truth.camera
        config = {field.label: value for field, value in camera.config}
        panels = tuple(Panel(at, camera.detid(at), config) for at in range(self.segments))
        setup = DetectorSetup("epixhr", camera.dettype, "raw", camera.raw_alg.version, panels, (0, 0))
        kind = correction_type(setup)
        constants = {one.ctype: one.value for one in constants_of(self.truth) if one.ctype != "geometry"}
        made: Correction = kind(setup, constants, kind.derive(setup, constants))
        return made

    @cached_property
    def raw(self) -> list[list[Array]]:
        """The raw segments of each frame, read-only uint16 (rows, cols)."""
        events = []
        for number in range(self.frames):
            frame = self.truth.raw(number)
            frame.flags.writeable = False
            events.append(list(frame))
        return events

    def event(self, number: int) -> list[Array]:
        """Return the raw segments of an event; events begin again after the last."""
        return self.raw[number % self.frames]

    @property
    def radius_px(self) -> npt.NDArray[np.float32]:
        """How far each pixel is from the beam, in pixels."""
        x, y = self.truth.positions_um
        return np.hypot(x, y) / np.float32(self.truth.camera.pixel_um)

    @property
    def floor_bytes(self) -> int:
        """Bytes of an event that whatever calibrates it must read: raw, pedestal and gain of each pixel."""
        return int(np.prod(self.shape)) * (2 + 4 + 4)

    def floor(self) -> Work:
        """Return what reads raw, pedestal and gain of each pixel of an event once, and does nothing else."""
        tables = self.correction.tables_in_use["tables"].reshape(
            self.segments, -1, 2 * int(np.prod(self.shape[1:]))
        )

        def work(number: int) -> None:
            for at, one in enumerate(self.event(number)):
                read_once(one.reshape(-1), tables[at, 0])

        return work


@numba.njit(cache=True, nogil=True)
def read_once(raw: Any, table: Any) -> Any:
    """Read both, with as little as makes the compiler keep the reads."""
    bits = np.uint16(0)
    words = table.view(np.uint32)
    some = np.uint32(0)
    for i in range(np.uintp(len(raw))):
        bits |= raw[i]
    for i in range(np.uintp(len(words))):
        some |= words[i]
    return some | bits


def typical(events: int, work: Work) -> float:
    """Return the median of the seconds that an event takes this thread; what other programs take of the core is not counted."""
    work(0)
    seconds = []
    for number in range(events):
        began = time.thread_time()
        work(number)
        seconds.append(time.thread_time() - began)
    return statistics.median(seconds)


def both_cores(make: Callable[[], Work], events: int) -> float:
    """Return the median seconds of an event while two processes, each on its own core, do nothing but such events.

    `make` is called in each process, after the fork. It is the thread's own time, so a core that waits for memory counts and one that is given
    to another program does not.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    context = mp.get_context("fork")
    together = context.Barrier(len(cores))
    results = context.SimpleQueue()
    processes = [
        context.Process(target=_loaded, args=(core, make, events, together, results)) for core in cores
    ]
    for one in processes:
        one.start()
    for one in processes:
        one.join(LIMIT_S)
        if one.exitcode != 0:
            for other in processes:
                other.kill()
            raise SystemExit(f"bench: a process of both cores ended with {one.exitcode}")
    return statistics.mean(results.get() for _ in processes)


def _loaded(core: int, make: Callable[[], Work], events: int, together: Any, results: Any) -> None:
    os.sched_setaffinity(0, {core})
    work = make()
    work(0)
    together.wait(LIMIT_S)
    seconds = typical(events, work)
    together.wait(LIMIT_S)
    results.put(seconds)
