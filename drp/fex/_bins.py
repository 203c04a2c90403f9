"""Which share of each pixel goes into which bin, as tables for the kernel `scatter`.

A pixel goes from `middle - reach` to `middle + reach` of a radial coordinate and is split over the bins in between by length: what pyFAI calls
splitting of the bounding box. Nothing here knows what the coordinate is.

Weights are kept in 16 bits, four for each pixel, for they are read for every event. That rounds each by less than 1e-5 of a pixel. Bins that hold
little in all would notice: their shares, and those of the few pixels in more bins than others, are kept in float32, one by one (the *rest*). The
sum of weights, by which a curve is divided, is that of the weights as they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drp.fex._scatter import LANES, STREAMS, WHOLE, scatter, scatter_rest
from drp.fex.frames import read_only

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Singles = NDArray[np.float32]
THIN = 32.0
"""Bins with fewer pixels than this are kept in float32."""
DENSE = 0.2
"""A layer of four bins is kept for all pixels where more than this part of them reaches it."""
FEW = 200
"""Bins of which sums for each stream still lie in the nearest cache."""
MOST = 60_000
"""Bins there may be; 16 bits have to hold their number."""
BEYOND = 1 + float(np.finfo(np.float32).eps)
"""How far beyond the last corner bins end, so that it is in the last one; pyFAI's factor."""
ALIGNED = 64


@dataclass(frozen=True, slots=True)
class Axis:
    """Bins of equal width: they begin at `low`."""

    low: float
    width: float
    bins: int

    @property
    def high(self) -> float:
        """Where they end."""
        return self.low + self.width * self.bins

    def spans(self, middle: Floats, reach: Floats) -> tuple[Floats, Floats, Indices, Indices]:
        """Return where pixels begin and end, in bins, and their first and last bin. Bins at the ends take what lies beyond them."""
        begin, end = ((middle + sign * reach - self.low) / self.width for sign in (-1, 1))
        first, last = (np.clip(np.floor(one), 0, self.bins - 1).astype(np.intp) for one in (begin, end))
        return begin, end, first, last

    def outside(self, middle: Floats, reach: Floats) -> NDArray[np.bool_]:
        """Say which pixels are in no bin."""
        return (middle + reach < self.low) | (middle - reach >= self.high)

    def weights(self, begin: Floats, end: Floats, bins: Indices) -> Floats:
        """Return the part of each pixel that is in `bins`."""
        length = np.where(end > begin, end - begin, 1)

        def below(edge: Indices) -> Floats:
            part = np.where(end > begin, np.clip((edge - begin) / length, 0, 1), begin < edge)
            return np.where(edge <= 0, 0.0, np.where(edge >= self.bins, 1.0, part))

        share: Floats = below(bins + 1) - below(bins)
        return share


@dataclass(frozen=True, slots=True)
class Tables:
    """Shares of a segment's pixels. Of each layer: first bin (pixels,) and weights (pixels, LANES), uint16; of the rest: pixel, bin, weight."""

    layers: tuple[tuple[NDArray[np.uint16], NDArray[np.uint16]], ...]
    pixels: NDArray[np.int32]
    bins: NDArray[np.uint16]
    weights: Singles


class Sums:
    """What is in the bins of one event, as `Bins.add` leaves it."""

    def __init__(self, bins: int, layers: int) -> None:
        streams = STREAMS if bins <= FEW else 1
        shape = (streams, bins + LANES * layers + LANES, LANES)
        size = 8 * int(np.prod(shape))
        buffer = np.zeros(size + ALIGNED, np.uint8)
        begin = -buffer.ctypes.data % ALIGNED
        self.lanes = buffer[begin : begin + size].view(np.float64).reshape(shape)
        self.rest = np.zeros(bins)

    def clear(self) -> None:
        """Set everything to 0."""
        self.lanes.fill(0)
        self.rest.fill(0)

    def fold(self, out: Floats, *, squared: bool = False) -> Floats:
        """Put what each bin holds into `out` and return it."""
        bins = len(out)
        out.fill(0)
        for stream in self.lanes:
            for lane in range(min(LANES, bins)):
                out[lane:] += stream[: bins - lane, lane]
        out /= WHOLE**2 if squared else WHOLE
        out += self.rest
        return out


class Bins:
    """The tables of all pixels; `middle`, `reach` and `used` are (segments, pixels)."""

    def __init__(self, axis: Axis, middle: Floats, reach: Floats, used: NDArray[np.bool_]) -> None:
        self.axis = axis
        used = used & ~axis.outside(middle, reach)
        whole, depths = np.zeros(axis.bins), np.zeros(axis.bins + 1, np.int64)
        for one in zip(middle, reach, used, strict=True):
            piece = _Piece(axis, *one)
            depths += np.bincount(piece.depth, minlength=len(depths))
            for lane in range(piece.lanes):
                _, bins, weights = piece.shares(lane)
                whole += np.bincount(bins, weights, axis.bins)
        self.layers = _layers(depths)
        self._tables = [
            _Piece(axis, *one).tables(self.layers, whole < THIN)
            for one in zip(middle, reach, used, strict=True)
        ]

    def sums(self) -> Sums:
        """Return sums of zero."""
        return Sums(self.axis.bins, self.layers)

    def add(self, segment: int, values: Singles | Floats, sums: Sums, *, squared: bool = False) -> None:
        """Add the pixels of a segment, read-only float32 or float64 (pixels,), times their shares or the squares of these."""
        tables = self._tables[segment]
        for first, weights in tables.layers:
            scatter(values, first, weights, squared, sums.lanes)
        if len(tables.pixels):
            scatter_rest(values, tables.pixels, tables.bins, tables.weights, squared, sums.rest)


class _Piece:
    """One segment while its tables are made."""

    def __init__(self, axis: Axis, middle: Floats, reach: Floats, used: NDArray[np.bool_]) -> None:
        self._axis, self._used = axis, used
        self._begin, self._end, self._first, last = axis.spans(middle, reach)
        self.depth = np.where(used, last - self._first + 1, 0)
        self.lanes = int(self.depth.max(initial=0))

    def shares(self, lane: int) -> tuple[Indices, Indices, Floats]:
        """Return the pixels that reach the bin which is so many after their first, that bin, and their share of it."""
        pixels = np.flatnonzero(self.depth > lane)
        bins = self._first[pixels] + lane
        return pixels, bins, self._axis.weights(self._begin[pixels], self._end[pixels], bins)

    def tables(self, layers: int, thin: NDArray[np.bool_]) -> Tables:
        """Return the tables: `layers` times LANES shares in 16 bits, but those of `thin` bins, and the others as rest."""
        packed = np.zeros((layers, len(self._first), LANES), np.uint16)
        pixels_of, bins_of, singles = [], [], []
        for lane in range(self.lanes):
            pixels, bins, weights = self.shares(lane)
            single = (weights > 0) & (thin[bins] | (lane >= layers * LANES))
            pixels_of.append(pixels[single].astype(np.int32))
            bins_of.append(bins[single].astype(np.uint16))
            singles.append(weights[single].astype(np.float32))
            if lane < layers * LANES:
                packed[lane // LANES, pixels, lane % LANES] = np.rint(np.where(single, 0, weights) * WHOLE)
        first = np.where(self._used, self._first, 0)
        return Tables(
            tuple(
                (read_only((first + layer * LANES).astype(np.uint16)), read_only(one))
                for layer, one in enumerate(packed)
            ),
            read_only(np.concatenate([np.empty(0, np.int32), *pixels_of])),
            read_only(np.concatenate([np.empty(0, np.uint16), *bins_of])),
            read_only(np.concatenate([np.empty(0, np.float32), *singles])),
        )


def _layers(depths: Indices) -> int:
    """Return how many layers of LANES bins are kept for all pixels, from how many pixels are in 0, 1, 2 ... bins."""
    layers = 1
    while depths[layers * LANES + 1 :].sum() > DENSE * depths.sum():
        layers += 1
    return layers
