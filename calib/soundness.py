"""How much of a detector can be calibrated with the constants that a run found, what is wrong with the other pixels, and what calib gives for them.

It looks at the tables that kernels read, so that only gain ranges count that the configuration uses. It knows no source of constants and no event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.dark.ranges import range_names, ranges_of
from calib.detectors import DetectorSetup, correction_type
from calib.detectors.arrays import Array
from calib.detectors.epixuhr import EpixUhr, fit
from calib.detectors.mask import Constants
from calib.fitting import MOST_BAD, RANGED

MOST_TOLD = 4
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Soundness:
    """`usable` of `pixels` are not masked and have one of their `ranges` that gives numbers; `faults` say what is wrong, empty where nothing is."""

    pixels: int
    usable: int
    ranges: int
    faults: tuple[str, ...]

    def __str__(self) -> str:
        """What is wrong, in one clause; "" where nothing is."""
        if not self.faults:
            return ""
        where = " in some gain range" if self.ranges > 1 else ""
        return f"{'; '.join(self.faults)}; {self.usable:,} of {self.pixels:,} pixels can be used{where}"


def soundness(setup: DetectorSetup, constants: Constants, derived: Mapping[str, Array]) -> Soundness:
    """Return how much of a detector can be calibrated with the tables `derived` (`tables`, `mask`) of its `constants`."""
    mask: Flags = derived["mask"] != 0
    tables = derived["tables"]
    sound: Flags = np.isfinite(tables).all(axis=-1) & (tables[..., 1] != 0)
    usable = int(np.count_nonzero(sound.any(axis=1) & mask))
    faults = [*_unmasked(setup, constants), *_masked(setup, mask)]
    if not (sound | ~mask[:, None]).all():
        faults += _in_ranges(setup, constants, mask, sound)
    return Soundness(mask.size, usable, sound.shape[1], tuple(faults))


def _unmasked(setup: DetectorSetup, constants: Constants) -> Iterator[str]:
    if "pixel_status" in correction_type(setup).used and "pixel_status" not in constants:
        yield "there is no pixel_status, so no bad pixel is masked"


def _masked(setup: DetectorSetup, mask: Flags) -> Iterator[str]:
    """Say which panels have most of their pixels masked."""
    panels = mask.reshape(len(setup.panels), -1)
    counts = np.count_nonzero(~panels, axis=1)
    mostly = np.flatnonzero(counts > MOST_BAD * panels.shape[1])
    for at in mostly[:MOST_TOLD]:
        panel = setup.panels[at]
        yield (
            f"{counts[at]:,} of {panels.shape[1]:,} pixels of segment {panel.segment} are masked (calib gives 0)"
        )
    if len(mostly) > MOST_TOLD:
        yield f"other segments with most pixels masked: {len(mostly) - MOST_TOLD}"


def _in_ranges(setup: DetectorSetup, constants: Constants, mask: Flags, sound: Flags) -> list[str]:
    """Say which constants, in which of the ranges that the detector is in, are no numbers."""
    ranges = ranges_of(setup, (sound.shape[1], *mask.shape))
    names = range_names(setup)
    faults = []
    for ctype in RANGED:
        value = constants.get(ctype)
        if ctype not in correction_type(setup).used or value is None or isinstance(value, str):
            continue
        planes = value.reshape(-1, *mask.shape)
        numbers = fit(ranges, len(planes)) if issubclass(correction_type(setup), EpixUhr) else ranges
        for number in range(min(len(planes), len(names))):
            here: Flags = (numbers == number).any(axis=0) & mask
            of_range = f" {names[number]}" if len(names) > 1 else ""
            for what, where, gives in _kinds(ctype, planes[number]):
                count = np.count_nonzero(where & here)
                if count:
                    total = np.count_nonzero(here)
                    faults.append(
                        f"{ctype}{of_range} is {what} in {count:,} of {total:,} pixels (calib gives {gives})"
                    )
    nowhere = int(np.count_nonzero((ranges >= len(names)).any(axis=0) & mask))
    if nowhere:
        faults.append(f"{nowhere:,} pixels are configured to no gain range (calib gives 0)")
    return faults or [f"{np.count_nonzero(~sound.any(axis=1) & mask):,} pixels have constants out of range"]


def _kinds(ctype: str, values: Array) -> Iterator[tuple[str, Flags, str]]:
    """Yield what a constant may be that is no use, where it is, and what calib makes of it."""
    yield "NaN", np.isnan(values), "NaN"
    if ctype == "pixel_gain":
        yield "infinite", np.isinf(values), "0"
        yield "0", values == 0, "0"
    else:
        yield "infinite", np.isinf(values), "infinities"
