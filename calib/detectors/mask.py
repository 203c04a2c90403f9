"""Masks: which pixels of a detector are used, from the constants, the panel's edges and seams, and the user.

The options are psana's, with psana's names and defaults. It works on whole detectors once per run, never per event, and knows nothing of
how a detector codes its pixels.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from calib.errors import CalibError, ConstantsMisshapen

ALL_BITS = (1 << 64) - 1
MOST_PIXELS = 1 << 20
MOST_RANGES = 63
MAX_MERGED_RANGES = 5
"""psana merges the first five gain ranges of a status; the sixth and seventh of epix10ka are made from the others."""

Constants: TypeAlias = Mapping[str, "npt.NDArray[Any] | str"]
Mask: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class MaskOptions:
    """What masks a pixel, under the names that psana's `run.Detector(name, **kwargs)` has for it.

    `status`: bad in pixel_status (any of `status_bits`) or status_extra (`stextra_bits`) in one of the gain ranges `gain_range_inds`
    (default: the first five). `neighbors`: closer than `rad` to such a pixel, in a rhombus ("r"), circle ("c") or square. `edges`,
    `center`: within `edge_rows`/`edge_cols` (or `width`) of the panel's edge, within `center_rows`/`center_cols` (or `wcenter`) of a
    seam between its ASICs. `calib`: 0 in the constant pixel_mask. `umask`: 0 in the user's array, which has as many pixels as the detector.
    Raises CalibError for a value that an option cannot have.
    """

    status: bool = True
    status_bits: int = ALL_BITS
    stextra_bits: int = ALL_BITS
    gain_range_inds: Sequence[int] | None = None
    neighbors: bool = False
    rad: int = 5
    ptrn: str = "r"
    edges: bool = False
    width: int = 0
    edge_rows: int = 1
    edge_cols: int = 1
    center: bool = False
    wcenter: int = 0
    center_rows: int = 1
    center_cols: int = 1
    calib: bool = False
    umask: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("rad", "width", "edge_rows", "edge_cols", "wcenter", "center_rows", "center_cols"):
            _whole(name, getattr(self, name), MOST_PIXELS)
        for name in ("status_bits", "stextra_bits"):
            _whole(name, getattr(self, name), ALL_BITS)
        if not isinstance(self.ptrn, str):
            raise CalibError(f"ptrn={self.ptrn!r:.60} is no pattern", hint='Give "r", "c" or "s".')
        given = self.gain_range_inds
        if given is not None:
            if not isinstance(given, Iterable) or isinstance(given, str):
                raise CalibError(
                    f"gain_range_inds={given!r:.60} is no list of gain ranges", hint="Such as (0, 1, 2)."
                )
            ranges = tuple(_whole("a number of gain_range_inds", one, MOST_RANGES) for one in given)
            object.__setattr__(self, "gain_range_inds", ranges)
        if self.umask is not None:
            object.__setattr__(self, "umask", _numbers(self.umask))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> MaskOptions:
        """Return the options among keyword arguments that may hold others too."""
        return cls(**{one.name: options[one.name] for one in fields(cls) if one.name in options})

    @property
    def default(self) -> bool:
        """Whether every option is at its default."""
        others = [one for one in fields(self) if one.name != "umask"]
        return self.umask is None and all(getattr(self, one.name) == one.default for one in others)


def combine(
    options: MaskOptions, shape: tuple[int, int, int], asics: tuple[int, int], constants: Constants
) -> Mask:
    """Return the mask of a detector, uint8 of `shape` (segments, rows, cols): 1 where a pixel is used, else 0.

    `asics` is the grid of ASICs that a segment is made of, (rows, cols). Raises ConstantsMisshapen and CalibError (user mask).
    """
    mask = np.ones(shape, np.uint8)
    if options.status:
        mask &= _from_status(options, shape, constants)
    if options.neighbors:
        mask = mask_neighbors(mask, options.rad, options.ptrn)
    if options.edges:
        rows, cols = (options.width,) * 2 if options.width > 0 else (options.edge_rows, options.edge_cols)
        _clear_edges(mask, rows, cols)
    if options.center:
        rows, cols = (
            (options.wcenter,) * 2 if options.wcenter > 0 else (options.center_rows, options.center_cols)
        )
        _clear_seams(mask, rows, cols, asics)
    if options.calib and "pixel_mask" in constants:
        mask &= (_as_segments("pixel_mask", constants["pixel_mask"], shape) != 0).all(axis=0)
    if options.umask is not None:
        turned = options.umask.ndim > 1 and options.umask.shape[-1] != shape[-1]
        if options.umask.size != mask.size or turned:
            raise CalibError(
                f"umask has shape {options.umask.shape}, the detector {shape}",
                hint="Give it the shape of raw(evt)",
            )
        mask &= (options.umask != 0).reshape(shape)
    return mask


def _whole(name: str, value: Any, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= most:
        raise CalibError(f"{name}={value!r:.60} is no whole number from 0 to {most}")
    return number


def _numbers(umask: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(umask)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise CalibError(
            f"umask is no array of numbers but {type(umask).__name__}", hint="1 is good, 0 is masked."
        )
    return array


def _from_status(options: MaskOptions, shape: tuple[int, int, int], constants: Constants) -> Mask:
    good = np.ones(shape, np.uint8)
    used = most = 0
    for ctype, bits in (("pixel_status", options.status_bits), ("status_extra", options.stextra_bits)):
        if ctype not in constants:
            continue
        status = _as_segments(ctype, constants[ctype], shape)
        ranges = options.gain_range_inds
        if ranges is None or len(status) == 1:
            ranges = range(min(len(status), MAX_MERGED_RANGES))
        most = max(most, len(status))
        for one in ranges:
            if one < len(status):
                used += 1
                good &= (status[one].astype(np.uint64, copy=False) & np.uint64(bits)) == 0
    if most and not used:
        raise CalibError(
            f"gain_range_inds={options.gain_range_inds} names none of the {most} gain ranges that the status has",
            hint="They count from 0.",
        )
    return good


def _as_segments(ctype: str, value: npt.NDArray[Any] | str, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Return a constant as (ranges, segments, rows, cols); one without ranges has a single one."""
    array = np.asarray(value)
    if shape not in (array.shape, array.shape[1:], (1, *array.shape)):
        raise ConstantsMisshapen(
            f"{ctype} has shape {array.shape}, the detector (segments, rows, cols) {shape}",
            hint="Put constants made for this detector, with its panels' serial numbers",
        )
    return array.reshape(-1, *shape)


def mask_neighbors(mask: Mask, rad: int = 9, ptrn: str = "r") -> Mask:
    """Return a mask in which all pixels nearer than `rad` to a masked one of their segment are masked too."""
    out = mask.copy()
    rows, cols = mask.shape[-2:]
    for down in range(-min(rad, rows - 1), min(rad, rows - 1) + 1):
        for right in range(-min(rad, cols - 1), min(rad, cols - 1) + 1):
            if ptrn == "r" and abs(down) + abs(right) > rad:
                continue
            if ptrn == "c" and down * down + right * right > rad * rad:
                continue
            to_rows, from_rows = _shifted(down, rows)
            to_cols, from_cols = _shifted(right, cols)
            out[..., to_rows, to_cols] &= mask[..., from_rows, from_cols] != 0
    return out


def _shifted(by: int, size: int) -> tuple[slice, slice]:
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))


def _clear_edges(mask: Mask, rows: int, cols: int) -> None:
    if rows > 0:
        mask[..., :rows, :] = 0
        mask[..., -rows:, :] = 0
    if cols > 0:
        mask[..., :, :cols] = 0
        mask[..., :, -cols:] = 0


def _clear_seams(mask: Mask, rows: int, cols: int, asics: tuple[int, int]) -> None:
    for seam in range(1, asics[0]):
        at = seam * mask.shape[-2] // asics[0]
        mask[..., at - rows : at + rows, :] = 0
    for seam in range(1, asics[1]):
        at = seam * mask.shape[-1] // asics[1]
        mask[..., :, at - cols : at + cols] = 0
