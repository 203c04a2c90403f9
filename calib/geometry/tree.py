"""The tree of a geometry: which object stands on which, down to the panels, and the way from a panel's frame to the top's.

Panels are numbered as psana numbers them: going down from the top, children in the order of their lines, whatever their indexes say.
Coordinates are computed by the same operations in the same order as psana's, so that they are equal to the last bit: a wide pixel
lies just between two bins of the image, and one bit decides which it falls in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from calib.errors import GeometryError
from calib.geometry.segments import Segment, is_segment_class, segment_class
from calib.geometry.text import Placement, Problem

F64 = npt.NDArray[np.float64]
Coords = tuple[F64, F64, F64]
_Key = tuple[str, int]

MOST_PIXELS = 1 << 26
MOST_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Leaf:
    """One panel: its class, and the placements from its own up to the one that stands on the top."""

    segment: Segment
    chain: tuple[Placement, ...]


def build(placements: Sequence[Placement], lines: Sequence[int]) -> tuple[tuple[Leaf, ...], list[Problem]]:
    """Return the panels of a detector in psana's order, or none and what is wrong; `lines` are where the placements come from."""
    problems: list[Problem] = []
    named: dict[_Key, list[int]] = defaultdict(list)
    children: dict[_Key, list[int]] = defaultdict(list)
    seen: dict[tuple[str, int, str, int], int] = {}
    for at, one in enumerate(placements):
        named[one.name, one.index].append(at)
        children[one.parent, one.parent_index].append(at)
        first = seen.setdefault((one.parent, one.parent_index, one.name, one.index), at)
        if first != at:
            hint = "Give each object of a parent its own index."
            problems.append(
                Problem(lines[at], f"{_called(one)} is there already, in line {lines[first]}", hint)
            )
    for key, many in named.items():
        if len(many) > 1 and key in children:
            places = " and ".join(str(lines[at]) for at in many)
            what = f"{key[0]} {key[1]} is a parent, and is placed more than once (lines {places})"
            problems.append(Problem(lines[many[1]], what, "Give it another index in one of them."))
    tops = [key for key in children if key not in named]
    if len(tops) > 1:
        listed = ", ".join(f"{name} {index}" for name, index in tops)
        hint = "Place all but one of them, or correct their names."
        problems.append(Problem(lines[children[tops[1]][0]], f"parents that no line places: {listed}", hint))
    elif not tops:
        problems.append(
            Problem(lines[0], "every object stands on another, in a circle", "One parent is not placed: IP.")
        )
    if problems:
        return (), problems
    return _panels(tops[0], placements, lines, children, problems), problems


def _panels(
    top: _Key,
    placements: Sequence[Placement],
    lines: Sequence[int],
    children: dict[_Key, list[int]],
    problems: list[Problem],
) -> tuple[Leaf, ...]:
    """Go down from the top and collect the panels."""
    leaves: list[Leaf] = []
    reached = 0
    todo: list[tuple[int, tuple[Placement, ...]]] = [(at, ()) for at in reversed(children[top])]
    while todo:
        at, above = todo.pop()
        one = placements[at]
        chain = (one, *above)
        reached += 1
        below = children.get((one.name, one.index), [])
        if len(chain) > MOST_DEPTH:
            problems.append(
                Problem(lines[at], f"{_called(one)} stands on {MOST_DEPTH} others", "Make it simpler.")
            )
        elif not below:
            try:
                leaves.append(Leaf(segment_class(one.name), chain))
            except GeometryError as error:
                problems.append(Problem(lines[at], error.what, error.hint))
        elif is_segment_class(one.name):
            hint = "A panel carries nothing: correct the PARENT of those, or this OBJECT."
            problems.append(Problem(lines[at], f"objects stand on the panel {_called(one)}", hint))
        else:
            todo.extend((child, chain) for child in reversed(below))
    if reached < len(placements) and not problems:
        problems.append(
            Problem(0, "some objects stand on one another, in a circle", "Correct their parents.")
        )
    if leaves and not problems:
        _same_shape(leaves, problems)
    return () if problems else tuple(leaves)


def _same_shape(leaves: Sequence[Leaf], problems: list[Problem]) -> None:
    """Complain about panels that do not fit in one array, or fill too large a one."""
    first = leaves[0].segment
    for leaf in leaves:
        if leaf.segment.shape != first.shape:
            what = f"panels {first.name} of {first.shape} and {leaf.segment.name} of {leaf.segment.shape} are mixed"
            problems.append(Problem(0, what, "Make a geometry of each."))
            return
    pixels = len(leaves) * first.shape[0] * first.shape[1]
    if pixels > MOST_PIXELS:
        problems.append(Problem(0, f"a detector of {pixels} pixels", f"At most {MOST_PIXELS} are computed."))


def _called(one: Placement) -> str:
    return f"{one.name} {one.index}"


def to_top(leaf: Leaf, coords: Coords, do_tilt: bool) -> Coords:
    """Take coordinates in um from a panel's frame to the top's, rotated about z, then y, then x, then moved, once for each level."""
    for placement in leaf.chain:
        coords = _to_parent(placement, coords, do_tilt)
    return coords


def _to_parent(one: Placement, coords: Coords, do_tilt: bool) -> Coords:
    x, y, z = coords
    tilts = (one.tilt_z, one.tilt_y, one.tilt_x) if do_tilt else (0.0, 0.0, 0.0)
    x, y = _rotated(x, y, one.rot_z + tilts[0])
    z, x = _rotated(z, x, one.rot_y + tilts[1])
    y, z = _rotated(y, z, one.rot_x + tilts[2])
    return x + one.x0, y + one.y0, z + one.z0


def _rotated(a: F64, b: F64, angle_deg: float) -> tuple[F64, F64]:
    """Turn the plane of two axes by an angle, the first towards the second."""
    if angle_deg == 0:
        return a, b
    angle = radians(angle_deg)
    c, s = cos(angle), sin(angle)
    return a * c - b * s, b * c + a * s
