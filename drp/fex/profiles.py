"""Profiles: what the pixels of a region come to along an axis of it: rows or columns of a rectangle, radius or angle of a sector.

Rectangles are added up row by row, sectors by a table of the bin of each pixel. Sums are float64. Pixels that are not finite are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from drp.fex._regions import checked_shape, checked_slices, spans_of, used_pixels
from drp.fex.errors import FexError
from drp.fex.frames import Array, Frame, Shape, segments_of
from drp.fex.roi import Roi
from drp.fex.statistics import in_any_order

Floats = npt.NDArray[np.float64]
Limits = tuple[float, float]
LANES = 8
CACHE_BYTES = 1 << 14
"""Lanes that together are larger do not stay in the fastest cache, and there are fewer of them."""
MOST_BINS = 65_535
_at = np.uintp
_f32 = np.float32


@dataclass(frozen=True, slots=True)
class Curve:
    """A profile: `sum`, `mean` (NaN where there is no pixel) float64 and `n` int64 of each bin, (bins,); valid until the next call."""

    sum: Floats
    mean: Floats
    n: npt.NDArray[np.int64]


class Profile:
    """One profile of every event; one of the class methods makes it. `centers` float64 (bins,) says where its bins are.

    One instance for each thread.
    """

    def __init__(
        self, shape: Shape, used: npt.NDArray[np.bool_], bins: Array, centers: Array, add: Any
    ) -> None:
        """Prepare for frames of `shape`, of which the pixels `used` belong to `bins`, uint16 of that shape, or (rows, cols) for every segment.

        `add` is the kernel that adds a segment up.
        """
        self.shape = shape
        self.centers = np.asarray(centers, np.float64)
        self._spans = spans_of(used)
        self._add: Callable[..., None] = add
        self._bins = list(bins) if bins.ndim == 3 else [bins] * shape[0]
        count = len(self.centers)
        self._n = np.bincount(np.broadcast_to(bins, shape)[used], minlength=count)
        self._lanes = np.zeros((lanes_for(count, 8), count))
        self._curve = Curve(np.zeros(count), np.zeros(count), self._n.copy())
        self._used = used
        self.of(np.zeros(shape, np.float32))

    @classmethod
    def along_columns(
        cls, shape: Shape, region: Roi | tuple[slice, slice] | None = None, mask: npt.ArrayLike | None = None
    ) -> Profile:
        """Return the profile with a bin for each column of a rectangle, its rows and all segments added up.

        `shape` is (segments, rows, cols), `mask` 1 where a pixel is used. Raises FexError where the region does not fit or is masked.
        """
        return cls._along(1, shape, region, mask, add_columns)

    @classmethod
    def along_rows(
        cls, shape: Shape, region: Roi | tuple[slice, slice] | None = None, mask: npt.ArrayLike | None = None
    ) -> Profile:
        """Return the profile with a bin for each row of a rectangle, its columns and all segments added up; as `along_columns`."""
        return cls._along(0, shape, region, mask, add_rows)

    @classmethod
    def _along(cls, axis: int, shape: Shape, region: Any, mask: Any, add: Any) -> Profile:
        shape = checked_shape(shape)
        region = (slice(None), slice(None)) if region is None else region
        if not isinstance(region, Roi | tuple):
            raise FexError(
                "a profile along rows or columns is of a rectangle",
                "Give a Roi, or slices of rows and columns",
            )
        used = used_pixels(shape, region, mask)
        of_axis = checked_slices(shape, region)[axis]
        numbers = np.clip(np.arange(shape[1 + axis]) - of_axis.start, 0, of_axis.stop - of_axis.start - 1)
        bins = np.ascontiguousarray(
            np.broadcast_to(numbers if axis else numbers[:, None], shape[1:]), np.uint16
        )
        return cls(shape, used, bins, np.arange(of_axis.start, of_axis.stop), add)

    @classmethod
    def radial(
        cls,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        bins: int,
        radius: Limits | None = None,
        azimuth: Limits = (-180.0, 180.0),
        mask: npt.ArrayLike | None = None,
    ) -> Profile:
        """Return the profile over the radius, `bins` of equal width, of the pixels of a sector.

        `x`, `y` (segments, rows, cols) are where the pixels are, the beam at 0; `radius` and `azimuth` the sector, in their unit and in degrees, as
        in `sector`. Raises FexError where nothing is in it.
        """
        r = np.hypot(np.asarray(x, np.float64), np.asarray(y, np.float64))
        low, high = (0.0, np.nextafter(float(r.max()), np.inf)) if radius is None else radius
        return cls._sector(r, (low, high), sector(x, y, (low, high), azimuth), bins, mask)

    @classmethod
    def azimuthal(
        cls,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        bins: int,
        radius: Limits,
        azimuth: Limits = (-180.0, 180.0),
        mask: npt.ArrayLike | None = None,
    ) -> Profile:
        """Return the profile over the angle, `bins` of equal width in degrees, of the pixels of a sector; as `radial`."""
        low, high = azimuth
        return cls._sector(_turned(x, y, low), (low, high), sector(x, y, radius, azimuth), bins, mask)

    @classmethod
    def _sector(cls, at: Floats, limits: Limits, inside: Array, bins: int, mask: Any) -> Profile:
        if not 1 <= bins <= MOST_BINS:
            raise FexError(f"a profile of {bins} bins", f"Take 1 to {MOST_BINS}")
        shape = checked_shape(at.shape)
        low, high = limits
        width = (high - low) / bins
        numbers = np.clip((at - low) / width, 0, bins - 1).astype(np.uint16)
        return cls(
            shape,
            used_pixels(shape, inside, mask),
            numbers,
            low + width * (np.arange(bins) + 0.5),
            add_binned,
        )

    def of(self, frame: Frame) -> Curve:
        """Return the profile of a float32 frame."""
        self._lanes[...] = 0
        for segment, bins, spans in zip(segments_of(frame, self.shape), self._bins, self._spans, strict=True):
            self._add(segment, bins, spans, self._lanes)
        curve = self._curve
        self._lanes.sum(axis=0, out=curve.sum)
        curve.n[...] = self._n
        if not np.isfinite(curve.sum).all():
            self._leave_out(frame, curve)
        curve.mean.fill(np.nan)
        np.divide(curve.sum, curve.n, out=curve.mean, where=curve.n > 0)
        return curve

    def _leave_out(self, frame: Frame, curve: Curve) -> None:
        """Add up again, without the pixels that are not finite."""
        curve.sum[...] = 0
        curve.n[...] = 0
        for number, segment in enumerate(segments_of(frame, self.shape)):
            good = self._used[number] & np.isfinite(segment)
            bins = self._bins[number][good]
            curve.sum[...] += np.bincount(bins, segment[good], len(curve.sum))
            curve.n[...] += np.bincount(bins, minlength=len(curve.n))


def sector(
    x: npt.ArrayLike, y: npt.ArrayLike, radius: Limits, azimuth: Limits = (-180.0, 180.0)
) -> npt.NDArray[np.uint8]:
    """Return the region between two radii (in the unit of `x` and `y`) and two angles in degrees, uint8 of their shape, 1 inside.

    The angle is that from x towards y; the sector goes from the first angle up to the second, both any number but at most 360 apart; a pixel at the
    second limit is outside. Raises FexError for limits that mean nothing.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise FexError(f"x has shape {x.shape}, y {y.shape}")
    if not 0 <= radius[0] < radius[1] or not 0 < azimuth[1] - azimuth[0] <= 360:
        raise FexError(
            f"radius {radius[0]:g} to {radius[1]:g}, azimuth {azimuth[0]:g} to {azimuth[1]:g} is no sector",
            "Give each as (least, largest), angles at most 360 degrees apart",
        )
    r, turned = np.hypot(x, y), _turned(x, y, azimuth[0])
    inside: npt.NDArray[np.bool_] = (r >= radius[0]) & (r < radius[1]) & (turned < azimuth[1])
    return inside.astype(np.uint8)


def _turned(x: npt.ArrayLike, y: npt.ArrayLike, first: float) -> Floats:
    """Return the angle of each pixel in degrees, between `first` and 360 more."""
    angle = np.degrees(np.arctan2(np.asarray(y, np.float64), np.asarray(x, np.float64)))
    turned: Floats = first + np.mod(angle - first, 360.0)
    return turned


def lanes_for(bins: int, itemsize: int) -> int:
    """Return how many lanes of sums there are to be: neighbours that fall in one bin then do not wait for each other. A power of two."""
    lanes = LANES
    while lanes > 2 and lanes * bins * itemsize > CACHE_BYTES:
        lanes //= 2
    return lanes


def warm_up() -> None:
    """Compile the kernels for what workers pass."""
    one = np.ones((1, 1, 1))
    Profile.along_columns((1, 1, 1))
    Profile.along_rows((1, 1, 1))
    Profile.radial(one, one, 1)


@numba.njit(cache=True, nogil=True)
def add_columns(pixels: Any, bins: Any, spans: Any, lanes: Any) -> None:
    """Add each pixel to the bin of its column; bins of a row rise by one."""
    for k in range(spans.shape[0]):
        row, begin, end = spans[k, 0], spans[k, 1], spans[k, 2]
        first = _at(bins[row, begin]) - _at(begin)
        for i in range(_at(begin), _at(end)):
            lanes[0, first + i] += np.float64(pixels[row, i])


@numba.njit(cache=True, nogil=True)
def add_rows(pixels: Any, bins: Any, spans: Any, lanes: Any) -> None:
    """Add each span to the bin of its row."""
    for k in range(spans.shape[0]):
        row, begin, end = spans[k, 0], spans[k, 1], spans[k, 2]
        lanes[0, bins[row, begin]] += _span_sum(pixels, row, begin, end)


@in_any_order
def _span_sum(pixels: Any, row: Any, begin: Any, end: Any) -> Any:
    total = _f32(0)
    for i in range(_at(begin), _at(end)):
        total += pixels[row, i]
    return np.float64(total)


@numba.njit(cache=True, nogil=True)
def add_binned(pixels: Any, bins: Any, spans: Any, lanes: Any) -> None:
    """Add each pixel to its bin. Neighbours often share one: they go to lanes of their own, so that no addition waits for the one before."""
    which = _at(lanes.shape[0] - 1)
    for k in range(spans.shape[0]):
        row, begin, end = spans[k, 0], _at(spans[k, 1]), _at(spans[k, 2])
        eights = begin + (end - begin) // _at(LANES) * _at(LANES)
        for i in range(begin, eights, _at(LANES)):
            for lane in range(_at(LANES)):
                lanes[lane & which, bins[row, i + lane]] += np.float64(pixels[row, i + lane])
        for i in range(eights, end):
            lanes[0, bins[row, i]] += np.float64(pixels[row, i])
