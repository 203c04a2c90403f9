"""The LCLS geometry text: read into placements and comments, and written back.

One object a line, 13 fields: PARENT, its IND, OBJECT, its IND, X0 Y0 Z0 of the object's origin in the parent's frame in um, ROT-Z ROT-Y
ROT-X (by design) and TILT-Z TILT-Y TILT-X (by metrology) in degrees. `#` begins a comment line, empty lines are skipped. A text comes
from outside: every line that cannot be read is told, all at once, with what is wrong and what to write instead. This module knows
nothing of what the objects are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from calib.errors import GeometryError

MOST_TEXT_BYTES = 4 << 20
MOST_OBJECTS = 4096
MOST_VALUE = 1e9
"""um or degrees; a kilometre is no detector."""

FIELDS = "PARENT IND OBJECT IND X0 Y0 Z0 ROT-Z ROT-Y ROT-X TILT-Z TILT-Y TILT-X"
_NAMES = FIELDS.split()
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INDEX = re.compile(r"\d{1,6}", re.ASCII)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one object is in its parent's frame: origin in um, rotations by design and tilts by metrology in degrees."""

    parent: str
    parent_index: int
    name: str
    index: int
    x0: float = 0.0
    y0: float = 0.0
    z0: float = 0.0
    rot_z: float = 0.0
    rot_y: float = 0.0
    rot_x: float = 0.0
    tilt_z: float = 0.0
    tilt_y: float = 0.0
    tilt_x: float = 0.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line of a geometry text (from 1; 0 is the text as a whole), and what to do about it."""

    line: int
    what: str
    hint: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.what}. {self.hint}" if self.hint else f"{place}{self.what}"


class GeometryTextError(GeometryError):
    """A geometry text with problems; `problems` has all of them, the message the first three."""

    def __init__(self, problems: Sequence[Problem], *, where: str = "geometry") -> None:
        first = problems[0]
        if len(problems) == 1:
            place = f"{where}:{first.line}" if first.line else where
            super().__init__(first.what, where=place, hint=first.hint)
        else:
            shown = "; ".join(str(problem).rstrip(".") for problem in problems[:_SHOWN])
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            super().__init__(f"{len(problems)} problems: {shown}{more}", where=where)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text says: its objects in order, the line of each, and its comments without the `#`."""

    placements: tuple[Placement, ...]
    lines: tuple[int, ...]
    comments: tuple[str, ...]


def parse(text: str) -> tuple[Parsed, list[Problem]]:
    """Read a geometry text as far as it can be read, and list what is wrong with its lines."""
    if len(text) > MOST_TEXT_BYTES:
        hint = f"At most {MOST_TEXT_BYTES} characters are read: is it a geometry at all?"
        return Parsed((), (), ()), [Problem(0, f"a text of {len(text)} characters", hint)]
    placements: list[Placement] = []
    lines: list[int] = []
    comments: list[str] = []
    problems: list[Problem] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("#"):
            comments.append(line.lstrip("#").strip())
        elif line:
            placement = _parse_line(number, line, problems)
            if placement is not None:
                placements.append(placement)
                lines.append(number)
    if len(placements) > MOST_OBJECTS:
        hint = f"At most {MOST_OBJECTS} are read: is it one detector?"
        problems.append(Problem(0, f"a text of {len(placements)} objects", hint))
    elif not placements and not problems:
        problems.append(Problem(0, "a text without objects", f"Each line has the fields {FIELDS}."))
    return Parsed(tuple(placements), tuple(lines), tuple(comments)), problems


def _parse_line(number: int, line: str, problems: list[Problem]) -> Placement | None:
    """Return the object of one line, or None and a problem."""
    fields = line.split()
    if len(fields) != len(_NAMES):
        problems.append(
            Problem(number, f"{len(fields)} fields where there are {len(_NAMES)}", f"They are {FIELDS}.")
        )
        return None
    for position in (1, 3):
        if not _INDEX.fullmatch(fields[position]):
            owner = _NAMES[position - 1]
            hint = "An index is a whole number from 0 on, such as 0 or 12."
            problems.append(Problem(number, f"the index of {owner} is {fields[position][:40]!r}", hint))
            return None
    for name, field in zip(_NAMES[4:], fields[4:], strict=True):
        if not _NUMBER.fullmatch(field) or not abs(float(field)) <= MOST_VALUE:
            hint = "Write a number of um." if name in ("X0", "Y0", "Z0") else "Write a number of degrees."
            problems.append(Problem(number, f"{name} is {field[:40]!r}", hint))
            return None
    return Placement(fields[0], int(fields[1]), fields[2], int(fields[3]), *map(float, fields[4:]))


def write(placements: Iterable[Placement], comments: Iterable[str] = ()) -> str:
    """Return a geometry text that is read back to exactly these placements and comments, and by psana too.

    Numbers have as many digits as they need. Raises GeometryError where a name or number cannot be in a text.
    """
    rows = [_fields(placement) for placement in placements]
    notes = [f"# {note.strip()}".rstrip() for comment in comments for note in comment.splitlines() or [""]]
    header = "# HDR " + FIELDS
    if header not in notes:
        notes.append(header)
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(_NAMES))]
    body = [
        " ".join(
            field.ljust(width) if at in (0, 2) else field.rjust(width)
            for at, (field, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([*notes, "", *body, ""])


def _fields(placement: Placement) -> list[str]:
    """Return the fields of one line."""
    values = astuple(placement)
    for name in (placement.parent, placement.name):
        if not name or name.startswith("#") or name.split() != [name]:
            raise GeometryError(
                f"an object cannot be called {name!r}", hint="Names have no blanks, such as IP."
            )
    for index in (placement.parent_index, placement.index):
        if not _INDEX.fullmatch(str(index)):
            raise GeometryError(f"{placement.name} has the index {index}", hint="Indexes count from 0.")
    for value in values[4:]:
        if not (math.isfinite(value) and abs(value) <= MOST_VALUE):
            raise GeometryError(
                f"{placement.name} {placement.index} is placed at {value}", hint="Give um and degrees."
            )
    return [str(value) if at < 4 else _number(float(value)) for at, value in enumerate(values)]


def _number(value: float) -> str:
    """Return the shortest text of a number that is read back exactly; whole numbers without a point."""
    return str(int(value)) if value.is_integer() and (value or math.copysign(1, value) > 0) else repr(value)
