"""Whether a constant fits a type of detector, and whether anything could be calibrated with it: what is asked before it is put.

Corrections check the same again when a run begins, but then nobody who put it is there any more. It knows no store and no command.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.detectors.base import Correction
from calib.detectors.commonmode import CommonMode
from calib.detectors.types import CORRECTIONS
from calib.errors import ConstantsMisshapen
from calib.geometry import Geometry
from calib.model import CTYPES, Constant, DetectorId

MOST_BAD = 0.5
"""The part of a panel's pixels in a gain range that may be bad."""
RANGED = ("pedestals", "pixel_gain", "pixel_offset")
"""What corrections read for each gain range; of the other types one plane may stand for all."""
STATUS = ("pixel_status", "status_extra")
_TURNED = "Rows and columns are exchanged: put array.swapaxes(-1, -2)."
MASKS = ("pixel_mask", "users_mask")


@dataclass(frozen=True, slots=True)
class Doubts:
    """`grave`: why a constant should not be put unseen; `slight`: what whoever puts it should know."""

    grave: tuple[str, ...] = ()
    slight: tuple[str, ...] = ()


def is_known(dettype: str) -> bool:
    """Say whether a type of detector has a correction of its own, and so a shape that is known."""
    return dettype in CORRECTIONS


def check_fit(detector: DetectorId, constant: Constant, frame: tuple[int, int] | None = None) -> None:
    """Check shape, number of gain ranges and content against the detector's type; of a type that is not known only the rows and columns, which are
    those of `frame`, a raw frame of a panel, where it is given.

    Raises ConstantsMisshapen, GeometryError or CalibError that say what is expected.
    """
    if constant.ctype == "common_mode" and not isinstance(constant.value, str):
        CommonMode.of(constant.value.reshape(-1).tolist())
    kind = CORRECTIONS.get(detector.dettype)
    if isinstance(constant.value, str):
        if constant.ctype == "geometry":
            _check_geometry(detector, kind, constant.value)
    elif CTYPES[constant.ctype].per_pixel:
        _check_pixels(detector, kind, constant.ctype, constant.value.shape, frame)


def _check_pixels(
    detector: DetectorId,
    kind: type[Correction] | None,
    ctype: str,
    shape: tuple[int, ...],
    frame: tuple[int, int] | None,
) -> None:
    if kind is None:
        if not 2 <= len(shape) <= 4:
            raise ConstantsMisshapen(
                f"the shape of {ctype} is {shape}, which is none of pixels",
                hint="Shapes are (gain ranges, panels, rows, columns), (panels, rows, columns), or of one panel (rows, columns).",
            )
        if frame is not None and shape[-2:] != frame:
            raise ConstantsMisshapen(
                f"the shape of {ctype} is {shape}, but a frame of {detector.name} has {frame[0]} rows and {frame[1]} columns",
                hint=_TURNED if shape[-2:] == frame[::-1] else "Is the array of this detector?",
            )
        return
    fewest, most = kind.ranges
    whole = (len(detector.serials) * kind.parts, *kind.panel_shape)
    if _fits(kind, ctype, shape, whole):
        return
    ranges = f"{fewest}" if fewest == most else f"{fewest} or more" if most is None else f"{fewest} to {most}"
    wanted = f"({ranges}, {', '.join(map(str, whole))})"
    if fewest == 1 or ctype not in RANGED:
        wanted = f"{whole} or {wanted}"
    rows, cols = kind.panel_shape
    turned = shape[-2:] == (cols, rows) and _fits(kind, ctype, (*shape[:-2], rows, cols), whole)
    raise ConstantsMisshapen(
        f"the shape of {ctype} is {shape}; needed is {wanted} for {len(detector.serials)} "
        f"panel{'s'[: len(detector.serials) != 1]} of {detector.dettype}",
        hint=_TURNED
        if turned
        else "Axes are gain ranges, panels, rows, columns. Is the array of this detector, and of all panels that are named?",
    )


def _fits(kind: type[Correction], ctype: str, shape: tuple[int, ...], whole: tuple[int, int, int]) -> bool:
    fewest, most = kind.ranges
    if ctype not in RANGED:
        fewest = 1
    if len(shape) == 4:
        return shape[1:] == whole and shape[0] >= fewest and (most is None or shape[0] <= most)
    return fewest == 1 and (shape == whole or (whole[0] == 1 and shape == whole[1:]))


def _check_geometry(detector: DetectorId, kind: type[Correction] | None, text: str) -> None:
    shape = Geometry.from_text(text).shape
    if kind is None:
        return
    panels = len(detector.serials) * kind.parts
    if shape[0] < panels or shape[1:] != kind.panel_shape:
        raise ConstantsMisshapen(
            f"geometry is of {shape[0]} panels of {shape[1]} x {shape[2]} pixels, but {detector.dettype} with these serial numbers "
            f"has {panels} of {kind.panel_shape[0]} x {kind.panel_shape[1]}",
            hint="Is it the geometry of this detector?",
        )


def doubts_of(constant: Constant) -> Doubts:
    """Return what is doubtful about the values: panels most of whose pixels cannot be used are grave, single pixels slight."""
    value, ctype = constant.value, constant.ctype
    if isinstance(value, str) or not CTYPES[ctype].per_pixel:
        return Doubts()
    if ctype in MASKS:
        return Doubts() if value.any() else Doubts(grave=("it masks every pixel",))
    if ctype in STATUS:
        return Doubts(grave=_mostly(value != 0, "bad"))
    if value.dtype.kind != "f":
        return Doubts()
    kinds = {"NaN": np.isnan(value), "infinite": np.isinf(value)}
    if ctype == "pixel_gain":
        kinds["0, to which their pixels are calibrated"] = value == 0
    counts = {what: np.count_nonzero(where) for what, where in kinds.items()}
    slight = tuple(f"{count} values of {value.size} are {what}" for what, count in counts.items() if count)
    unusable = np.logical_or.reduce(list(kinds.values()))
    return Doubts(_mostly(unusable, "unusable"), slight)


def _mostly(bad: NDArray[np.bool_], what: str) -> tuple[str, ...]:
    """Say in which panels, of which gain ranges, most pixels are bad."""
    panels = bad.shape[-3] if bad.ndim >= 3 else 1
    counts = np.count_nonzero(bad.reshape(-1, panels, bad.shape[-2] * bad.shape[-1]), axis=2)
    pixels = bad.shape[-2] * bad.shape[-1]
    return tuple(
        f"panel {panel}{f', gain range {number},' if len(counts) > 1 else ''} has {counts[number, panel]} {what} pixels of {pixels}"
        for number, panel in np.argwhere(counts > MOST_BAD * pixels)
    )
