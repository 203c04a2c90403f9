"""A region of interest: rows and columns of every segment of an area detector."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_TEXT = re.compile(r"(\d+):(\d+),(\d+):(\d+)")
_PART = 3 / 8  # what the region in the middle leaves out at each side, so that it is a quarter of each axis


class Roi:
    """The pixels [first, beyond the last) of rows and of columns; without text those of the middle, a quarter of each axis.

    It is a type for argparse: `add_argument("--roi", type=Roi, default=Roi())`. Raises ArgumentTypeError for a text that is none.
    """

    def __init__(self, text: str | None = None) -> None:
        self._slices: tuple[slice, slice] | None = None
        if text is None:
            return
        found = _TEXT.fullmatch(text)
        top, bottom, left, right = (int(number) for number in found.groups()) if found else (0, 0, 0, 0)
        if top >= bottom or left >= right:
            raise ArgumentTypeError(f"{text!r} is no region such as 40:140,50:150 (first:beyond the last)")
        self._slices = slice(top, bottom), slice(left, right)

    def slices(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Return the slices of rows and of columns in segments of `shape` (rows, columns); raise ValueError where they do not fit.

        A shape of (0, 0) is one that is not known yet, and fits.
        """
        if self._slices is None:
            top, left = (int(size * _PART) for size in shape)
            return slice(top, shape[0] - top), slice(left, shape[1] - left)
        if any(shape) and any(one.stop > size for one, size in zip(self._slices, shape, strict=True)):
            raise ValueError(f"--roi {self} does not fit segments of {shape[0]} rows and {shape[1]} columns")
        return self._slices

    def __str__(self) -> str:
        if self._slices is None:
            return "the middle"
        return ",".join(f"{one.start}:{one.stop}" for one in self._slices)
