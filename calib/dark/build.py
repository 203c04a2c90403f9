"""A dark run as a whole: its steps laid out by panel and gain range, and the constants that come of them.

Steps may come in any order and from several files, those of other panels too; a panel is known by its serial number. It reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.dark.finish import PanelRange, RangeSums, Thresholds, evaluate
from calib.dark.ranges import coding_of, range_names, ranges_of, top_of
from calib.dark.steps import Step
from calib.detectors import DetectorSetup, correction_type
from calib.errors import CalibError
from calib.fitting import MOST_BAD

LEAST_FRAMES = 20
"""With fewer the rms of a pixel is known to no better than 16 %: 1 / sqrt(2 (n - 1))."""
Key = tuple[str, int]
"""A panel's serial, and which part of the panel: of most detectors a panel has one."""


@dataclass(frozen=True, slots=True)
class DarkConstants:
    """What a dark run gives. `values` by ctype, as they are put: pedestals and pixel_rms float32, pixel_status uint64 with the shape (ranges,
    panels, rows, cols), without the first axis where the detector has one range; NaN, and status 0, where a range was not measured.

    Where the detector's correction adds pixel_offset to the pedestals, that is 0: a dark run measures both together. `serials` are the panels
    in segment order, `ranges` the names of the gain ranges; `results` by (serial, part, range) say what was measured.
    """

    detname: str
    dettype: str
    serials: tuple[str, ...]
    experiment: str
    run: int
    ranges: tuple[str, ...]
    values: dict[str, NDArray[Any]]
    results: Mapping[tuple[str, int, int], PanelRange]

    @property
    def missing(self) -> tuple[str, ...]:
        """The ranges that no panel measured."""
        measured = {number for _, _, number in self.results}
        return tuple(name for number, name in enumerate(self.ranges) if number not in measured)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why these should not be used unseen: panels of too few frames, or with most pixels bad; empty where nothing is the matter."""
        found = []
        for (serial, part, number), one in self.results.items():
            where = f"panel {self.serials.index(serial)}{f'.{part}' if part else ''} {self.ranges[number]}"
            if one.events < LEAST_FRAMES:
                found.append(f"{where} has {one.events} frames, fewer than {LEAST_FRAMES}")
            elif np.count_nonzero(one.status) > MOST_BAD * one.status.size:
                found.append(f"{where} has {np.count_nonzero(one.status)} bad pixels of {one.status.size}")
        return tuple(found)


class DarkBuilder:
    """Takes steps and makes the constants. Raises CalibError where steps are of different detectors or runs."""

    def __init__(self) -> None:
        self._setup: DetectorSetup | None = None
        self._of: tuple[str, str, str, int] | None = None
        self._segments: dict[str, int] = {}
        self._sums: dict[Key, dict[int, RangeSums]] = {}

    def add(self, step: Step) -> None:
        """Take one step. In each panel the plane that most pixels were in is what the step measures; a pixel elsewhere has strayed."""
        setup = step.setup
        who = (setup.name, setup.dettype, step.experiment, step.run)
        if self._of is None:
            self._of, self._setup = who, setup
        elif who != self._of:
            raise CalibError(
                f"a step is of {_told(who)}, the others of {_told(self._of)}",
                hint="Make the constants of one dark run at a time.",
            )
        serials = {panel.serial for panel in setup.panels}
        if len(serials) < len(setup.panels):
            raise CalibError(
                "two panels have the same serial number, or none, so they cannot be told apart",
                where=setup.name,
                hint="Give each panel's detid in the Configure.",
            )
        parts = correction_type(setup).parts
        arrays = _by_part(step.arrays, parts)
        seen = arrays["count"].astype(np.int64) + arrays["low"] + arrays["high"]
        ranges = ranges_of(setup, seen.shape)
        names = len(range_names(setup))
        for at in range(seen.shape[1]):
            panel, part = divmod(at, parts)
            serial = setup.panels[panel].serial
            self._segments[serial] = setup.panels[panel].segment
            sums = self._sums.setdefault((serial, part), {})
            plane = int(np.argmax(seen[:, at].sum(axis=(1, 2))))
            frames = int(step.arrays["frames"][panel])
            for number in np.unique(ranges[plane, at]):
                if number < names:
                    where = ranges[plane, at] == number
                    _add(
                        sums.setdefault(int(number), RangeSums(seen.shape[2:])),
                        where,
                        frames,
                        arrays,
                        plane,
                        at,
                    )

    def build(self, thresholds: Thresholds | None = None) -> DarkConstants:
        """Return the constants of all steps taken; CalibError where there are none."""
        if self._of is None or self._setup is None:
            raise CalibError(
                "there are no dark frames", hint="A dark run has events with the detector's raw data."
            )
        setup = self._setup
        serials = sorted(self._segments, key=self._segments.__getitem__)
        keys = sorted(self._sums, key=lambda key: (self._segments[key[0]], key[1]))
        ranges = range_names(setup)
        shape = next(one.count.shape for sums in self._sums.values() for one in sums.values())
        full = (len(ranges), len(keys), *shape)
        pedestals, rms = (np.full(full, np.nan, np.float32) for _ in range(2))
        status = np.zeros(full, np.uint64)
        results: dict[tuple[str, int, int], PanelRange] = {}
        for at, key in enumerate(keys):
            for number, sums in sorted(self._sums[key].items()):
                found = evaluate(sums, top_of(coding_of(setup)), thresholds)
                pedestals[number, at], rms[number, at], status[number, at] = (
                    found.mean,
                    found.rms,
                    found.status,
                )
                results[*key, number] = found
        values: dict[str, NDArray[Any]] = {"pedestals": pedestals, "pixel_rms": rms, "pixel_status": status}
        if "pixel_offset" in correction_type(setup).used:
            values["pixel_offset"] = np.zeros(full, np.float32)
        if len(ranges) == 1:
            values = {ctype: value[0] for ctype, value in values.items()}
        name, dettype, experiment, run = self._of
        return DarkConstants(name, dettype, tuple(serials), experiment, run, ranges, values, results)


def _by_part(arrays: Mapping[str, NDArray[Any]], parts: int) -> dict[str, NDArray[Any]]:
    """Return views with one entry of the segment axis for each part of a panel; its rows are the panel's, part after part."""
    out = {}
    for name, value in arrays.items():
        if value.ndim >= 3:
            *lead, segments, rows, cols = value.shape
            out[name] = value.reshape(*lead, segments * parts, rows // parts, cols)
    return out


def _add(
    sums: RangeSums,
    where: NDArray[np.bool_],
    frames: int,
    arrays: Mapping[str, NDArray[Any]],
    plane: int,
    at: int,
) -> None:
    sums.seen[where] += frames
    sums.invalid[where] += arrays["invalid"][at][where]
    for name in ("count", "low", "high", "sum", "sumsq"):
        getattr(sums, name)[where] += arrays[name][plane, at][where]


def _told(who: tuple[str, str, str, int]) -> str:
    name, dettype, experiment, run = who
    return f"{name} ({dettype}), {experiment or 'no experiment'} run {run}"
