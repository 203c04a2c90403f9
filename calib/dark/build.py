"""A dark run as a whole: its steps laid out by panel and gain range, and the constants that come of them.

Steps may come in any order and from several files, those of other panels too; a panel is known by its serial number. It reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.dark.finish import PanelRange, RangeSums, Thresholds, evaluate
from calib.dark.ranges import RangeNames, ranges_of
from calib.dark.steps import Step
from calib.dark.sums import coding_of, top_of
from calib.detectors import DetectorSetup, correction_type
from calib.errors import CalibError


@dataclass(slots=True)
class _Part:
    """One entry of the segment axis of constants: where it comes in the detector, and its sums by range."""

    place: tuple[int, int]
    sums: dict[int, RangeSums] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DarkConstants:
    """What a dark run gives. `values` by ctype, as they are put: pedestals and pixel_rms float32, pixel_status uint64 with the shape (ranges,
    panels, rows, cols), without the first axis where the detector has one range; NaN (status 0) where a range was not measured.

    `serials` lie along the panel axis. `ranges` are the names of the gain ranges, `results` what each panel gave in those it measured.
    """

    detname: str
    dettype: str
    serials: tuple[str, ...]
    panel_serials: tuple[str, ...]
    experiment: str
    run: int
    ranges: tuple[str, ...]
    values: dict[str, NDArray[Any]]
    results: Mapping[tuple[str, int], PanelRange]

    @property
    def missing(self) -> tuple[str, ...]:
        """The ranges that no panel measured."""
        measured = {at for _, at in self.results}
        return tuple(name for at, name in enumerate(self.ranges) if at not in measured)


class DarkBuilder:
    """Takes steps and makes the constants. Raises CalibError where steps are of different detectors or runs."""

    def __init__(self) -> None:
        self._setup: DetectorSetup | None = None
        self._of: tuple[str, str, str, int] | None = None
        self._parts: dict[str, _Part] = {}
        self._panels: dict[str, int] = {}

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
        kind = correction_type(setup)
        serials = kind.serials(setup)
        arrays = _by_part(step.arrays, kind.parts)
        seen = arrays["count"].astype(np.int64) + arrays["low"] + arrays["high"]
        for panel in setup.panels:
            self._panels[panel.serial] = panel.segment
        for at, serial in enumerate(serials):
            panel, part = divmod(at, kind.parts)
            place = (setup.panels[panel].segment, part)
            entry = self._parts.setdefault(serial, _Part(place))
            plane = int(np.argmax(seen[:, at].sum(axis=(1, 2))))
            ranges = ranges_of(setup, panel, plane, seen.shape[2:])
            frames = int(step.arrays["frames"][panel])
            for number in np.unique(ranges):
                _add(entry, int(number), ranges == number, frames, arrays, plane, at)

    def build(self, thresholds: Thresholds | None = None) -> DarkConstants:
        """Return the constants of all steps taken; CalibError where there are none."""
        if self._of is None or self._setup is None:
            raise CalibError("there are no dark frames", hint="A dark run has events with the detector's raw data.")
        setup, (name, dettype, experiment, run) = self._setup, self._of
        serials = sorted(self._parts, key=lambda one: self._parts[one].place)
        ranges = RangeNames.of(setup)
        shape = next(iter(next(iter(self._parts.values())).sums.values())).count.shape
        full = (len(ranges), len(serials), *shape)
        pedestals, rms = (np.full(full, np.nan, np.float32) for _ in range(2))
        status = np.zeros(full, np.uint64)
        results: dict[tuple[str, int], PanelRange] = {}
        for at, serial in enumerate(serials):
            for number, sums in sorted(self._parts[serial].sums.items()):
                found = evaluate(sums, top_of(coding_of(setup)), thresholds)
                pedestals[number, at], rms[number, at], status[number, at] = found.mean, found.rms, found.status
                results[serial, number] = found
        values: dict[str, NDArray[Any]] = {"pedestals": pedestals, "pixel_rms": rms, "pixel_status": status}
        if "pixel_offset" in correction_type(setup).used:
            values["pixel_offset"] = np.zeros(full, np.float32)
        if len(ranges) == 1:
            values = {ctype: value[0] for ctype, value in values.items()}
        panels = tuple(sorted(self._panels, key=lambda one: self._panels[one]))
        return DarkConstants(
            name, dettype, tuple(serials), panels, experiment, run, ranges, values, results
        )


def _by_part(arrays: Mapping[str, NDArray[Any]], parts: int) -> dict[str, NDArray[Any]]:
    """Return views with one entry of the segment axis for each part of a panel; its rows are the panel's, part after part."""
    out = {}
    for name, value in arrays.items():
        if value.ndim >= 3:
            *lead, segments, rows, cols = value.shape
            out[name] = value.reshape(*lead, segments * parts, rows // parts, cols)
    return out


def _add(
    entry: _Part,
    number: int,
    where: NDArray[np.bool_],
    frames: int,
    arrays: Mapping[str, NDArray[Any]],
    plane: int,
    at: int,
) -> None:
    sums = entry.sums.get(number)
    if sums is None:
        sums = entry.sums[number] = RangeSums((where.shape[0], where.shape[1]))
    sums.seen[where] += frames
    sums.invalid[where] += arrays["invalid"][at][where]
    for name in ("count", "low", "high", "sum", "sumsq"):
        getattr(sums, name)[where] += arrays[name][plane, at][where]


def _told(who: tuple[str, str, str, int]) -> str:
    name, dettype, experiment, run = who
    return f"{name} ({dettype}), {experiment or 'no experiment'} run {run}"
