"""What a detector is to a correction: its panels and their configuration, and what the bits of its pixels are. Records, and no formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One segment of the data acquisition: its number, its panel's serial number, its configuration by dotted names."""

    segment: int
    serial: str
    config: Mapping[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class DetectorSetup:
    """A detector as a Configure declares it; `alg` and `version` are those of its data, `panels` are in segment order.

    `panel_shape` is (rows, cols) of a calibrated segment, (0, 0) where only the constants tell it.
    """

    name: str
    dettype: str
    alg: str
    version: tuple[int, int, int]
    panels: tuple[Panel, ...]
    panel_shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Coding:
    """What the bits of a raw pixel are: data, and a code of the gain range; `planes` gives the table of each code, -1 where it is invalid."""

    data_mask: int
    data_shift: int = 0
    range_mask: int = 0
    range_shift: int = 0
    planes: tuple[int, ...] = (0,)

    @property
    def n_planes(self) -> int:
        """How many tables there are for a segment."""
        return max(self.planes) + 1
