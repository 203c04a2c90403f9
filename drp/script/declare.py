"""What a script declares: new data of a detector (Names), trigger words and reduced arrays, as frozen records with a JSON form.

It checks what a declaration may hold and knows nothing of events or links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from drp.script._added import AddedData
from drp.script.errors import DeclarationError, ScriptError, near_misses
from xtc import Alg, DataType, Field, XtcError
from xtc.names import DET_NAME

Role = Literal["trigger", "reduce"] | None
DATA_TYPES = {
    np.dtype(name): dtype
    for name, dtype in (
        ("u1", DataType.UINT8),
        ("u2", DataType.UINT16),
        ("u4", DataType.UINT32),
        ("u8", DataType.UINT64),
        ("i1", DataType.INT8),
        ("i2", DataType.INT16),
        ("i4", DataType.INT32),
        ("i8", DataType.INT64),
        ("f4", DataType.FLOAT),
        ("f8", DataType.DOUBLE),
    )
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """Names that a script declared. `fields`: (name, DataType, rank). `node_id` and `names_id` None: drp assigns them."""

    det: str
    dettype: str
    detid: str
    segment: int
    alg: str
    version: tuple[int, int, int]
    fields: tuple[tuple[str, DataType, int], ...]
    node_id: int | None = None
    names_id: int | None = None
    role: Role = None

    def __post_init__(self) -> None:
        try:
            Alg(self.alg, self.version)
            for name, dtype, rank in self.fields:
                Field(name, dtype, rank)
        except XtcError as error:
            raise DeclarationError(f"{self}: {error}") from None
        if not self.alg.isidentifier():
            raise DeclarationError(
                "an alg's name becomes an attribute", expected="a Python name", found=repr(self.alg)
            )
        if not self.det or not DET_NAME.match(self.det):
            raise DeclarationError("not a detector name", expected="A-Z a-z 0-9 _", found=repr(self.det))
        if not self.fields:
            raise DeclarationError(f"{self} has no fields")
        if not 0 <= self.segment < 1 << 32:
            raise DeclarationError(f"{self}: not a segment", found=self.segment)
        for what, number, most in (("node_id", self.node_id, 4095), ("names_id", self.names_id, 255)):
            if number is not None and not 0 <= number <= most:
                raise DeclarationError(f"{self}: {what} is out of range", expected=f"0..{most}", found=number)

    @property
    def key(self) -> tuple[str, int, str]:
        """What must be unique in a Configure."""
        return (self.det, self.segment, self.alg)

    def __str__(self) -> str:
        return f"{self.det}.{self.alg}"

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands in a transition's answer."""
        return {
            "det": self.det,
            "dettype": self.dettype,
            "detid": self.detid,
            "segment": self.segment,
            "alg": self.alg,
            "version": list(self.version),
            "node_id": self.node_id,
            "names_id": self.names_id,
            "fields": [[name, dtype.name, rank] for name, dtype, rank in self.fields],
            "role": self.role,
        }


def data_type(name: str, given: object) -> DataType:
    """Return the DataType for a numpy scalar type, dtype, its name, or str; raise DeclarationError."""
    if given is str or given in ("str", "text"):
        return DataType.CHARSTR
    try:
        return DATA_TYPES[np.dtype(given)]  # type: ignore[call-overload]
    except (TypeError, KeyError):
        raise DeclarationError(
            f"field {name!r}: xtc2 cannot hold this type",
            expected="uint8 .. uint64, int8 .. int64, float32, float64 or str",
            found=repr(given),
        ) from None


def parse_fields(data_def: Mapping[str, tuple[Any, int]]) -> tuple[tuple[str, DataType, int], ...]:
    """Return the fields of a `{name: (type, rank)}`; raise DeclarationError."""
    out = []
    for name, entry in data_def.items():
        try:
            given, rank = entry
        except (TypeError, ValueError):
            raise DeclarationError(f"field {name!r}", expected="(type, rank)", found=repr(entry)) from None
        dtype = data_type(name, given)
        if dtype is DataType.CHARSTR and rank != 1:
            raise DeclarationError(f"field {name!r}: text has rank 1", found=rank)
        if not isinstance(rank, int) or not 0 <= rank <= 4:
            raise DeclarationError(f"field {name!r}: a rank is 0..4", found=repr(rank))
        out.append((name, dtype, rank))
    return tuple(out)


def parse_words(words: Mapping[str, Any]) -> tuple[tuple[str, DataType, int], ...]:
    """Return the fields of trigger words, `{name: type}` or `{name: (type, 0)}`; raise DeclarationError."""
    fields = parse_fields({name: one if isinstance(one, tuple) else (one, 0) for name, one in words.items()})
    for name, dtype, rank in fields:
        if rank or dtype is DataType.CHARSTR:
            raise DeclarationError(
                f"trigger word {name!r} is one number",
                expected="a numpy type, or (type, 0)",
                found=repr(words[name]),
            )
    return fields


class AddedDetector:
    """What `add_detector` returns: its one attribute, named as the alg, holds the fields to assign."""

    def __init__(self, declaration: Declaration, data: AddedData) -> None:
        self.__dict__[declaration.alg] = data

    def __getattr__(self, name: str) -> AddedData:
        raise AttributeError(f"this detector's data have no alg {name!r}. {near_misses(name, self.__dict__)}")

    def __setattr__(self, name: str, value: object) -> None:
        alg = next(iter(self.__dict__))
        raise ScriptError(
            f"cannot assign {name!r} here",
            hint=f"Fields are assigned one level down, as in .{alg}.{name} = ...",
        )

    def __repr__(self) -> str:
        return f"<added data: {', '.join(self.__dict__)}>"


class Declarations:
    """All that a script declared on one Configure, numbered from 0 in the order of declaration (the `names_index`).

    Declaring the same again gives the same number and stands in the next answer again: a later run of the same Configure, and
    a replacement that sees only that run, answer alike.
    """

    def __init__(self) -> None:
        self.all: list[Declaration] = []
        self._fresh: list[Declaration] = []

    def declare(self, declaration: Declaration) -> int:
        """Return the names_index; raise DeclarationError where the same (detector, segment, alg) was declared otherwise."""
        if declaration in self._fresh:
            raise DeclarationError(f"{declaration} is declared twice")
        for index, known in enumerate(self.all):
            if known == declaration:
                self._fresh.append(declaration)
                return index
            if known.key == declaration.key:
                raise DeclarationError(
                    f"{declaration} of segment {declaration.segment} was declared with other fields"
                )
        self.all.append(declaration)
        self._fresh.append(declaration)
        return len(self.all) - 1

    def take_fresh(self) -> list[dict[str, Any]]:
        """Return the JSON of what was declared since the last answer."""
        fresh = [one.to_json() for one in self._fresh]
        self._fresh.clear()
        return fresh
