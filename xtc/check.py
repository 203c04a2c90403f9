"""Check files: list everything that is wrong with their bytes, one small record each, and go on as far as
extents allow.

It judges the format only: an odd order of transitions or a strange value is no business of it. Time stamps
are, since event building takes them to rise within a run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from xtc._dgram import Dgram, ShapesData
from xtc.chunk import find_config
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import DataType, TransitionId, TypeId
from xtc.names import Names
from xtc.reader import Reader
from xtc.records import DGRAM_BYTES, XTC_BYTES, DgramHeader, encode_dgram, time_text

_SERVICES = len(TransitionId)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: file, byte offset, a short kind to sort by, the sentence, and what enclosed it
    (innermost first).
    """

    path: str
    offset: int
    kind: str
    what: str
    inside: tuple[str, ...] = ()

    def __str__(self) -> str:
        inside = f" (in {', in '.join(self.inside)})" if self.inside else ""
        return f"{self.path}: {self.offset:#x}: {self.kind}: {self.what}{inside}"


def check_file(path: str | Path, config: Config | None = None) -> Iterator[Problem]:
    """Yield every problem of a file; a chunk without Configure is checked by the one beside it that announces
    it.
    """
    name = str(path)
    with Reader(path) as reader:
        if config is None and not reader.has_configure:
            found = find_config(path)
            config = found[0] if found else None
        offset, index, before = 0, 0, 0
        while offset < reader.size:
            step, problems = _check_header(reader, name, offset, index)
            yield from problems
            if step is None:
                return
            if not problems:
                dgram = Dgram(
                    reader.view[offset : offset + step], path=name, base=offset, index=index, config=config
                )
                yield from _check_place(dgram, before)
                config = yield from check_dgram(dgram, config)
                before = dgram.timestamp
            offset, index = offset + step, index + 1


def check_dgram(dgram: Dgram, config: Config | None) -> Generator[Problem, None, Config | None]:
    """Yield every problem of one dgram whose header is sound; return the Config for what follows it."""
    name, place = dgram.path or "", f"{dgram.service.name} dgram {dgram.index}"
    try:
        xtcs = dgram.xtcs()
    except XtcError as error:
        yield _problem("extent", error, dgram)
        return config
    names: list[Names] = []
    for xtc in xtcs:
        if xtc.type != TypeId.Names:
            continue
        at = dgram.offset + xtc.offset
        if dgram.service != TransitionId.Configure:
            yield Problem(name, at, "names", "Names outside a Configure", (place,))
            continue
        try:
            names.append(Names.decode(dgram.view[xtc.offset : xtc.offset + xtc.extent]))
        except XtcError as error:
            yield _problem("names", error.within(place, at), dgram)
    if dgram.service == TransitionId.Configure:
        unique = {one.names_id: one for one in names}
        if len(unique) < len(names):
            yield Problem(name, dgram.offset, "names", "a NamesId occurs twice in one Configure", (place,))
        config = Config.of(unique.values())
    for xtc in xtcs:
        if xtc.type == TypeId.ShapesData:
            raw = dgram.view[xtc.offset : xtc.offset + xtc.extent]
            base = dgram.offset + xtc.offset - DGRAM_BYTES
            yield from _check_shapes(raw, config, Problem(name, base, "", "", (place,)))
    return config


def _check_place(dgram: Dgram, before: int) -> Iterator[Problem]:
    """Yield what is odd about a dgram among others: the type of its top Xtc, which no reader looks at, and a
    time before that of the dgram before it (`before`). A Configure and a BeginRun start afresh.
    """
    name, place = dgram.path or "", (f"{dgram.service.name} dgram {dgram.index}",)
    kind = dgram.contains & 0xFFF
    if kind != TypeId.Parent:
        what = f"the top Xtc is no Parent; found type {kind}"
        yield Problem(name, dgram.offset + 18, "type", what, place)
    fresh = dgram.service in (TransitionId.Configure, TransitionId.BeginRun)
    if dgram.timestamp < before and not fresh:
        what = f"the time goes back from {time_text(before)} to {time_text(dgram.timestamp)}"
        yield Problem(name, dgram.offset, "time", what, place)


def _check_header(reader: Reader, name: str, offset: int, index: int) -> tuple[int | None, list[Problem]]:
    """Return the bytes from dgram `index` to the next (None: there is no telling) and the problems."""
    have = reader.size - offset
    if have < DGRAM_BYTES:
        return None, [_cut_off(name, offset, have, DGRAM_BYTES, index)]
    try:
        header = DgramHeader.decode(reader.view, offset)
        header.encode()
    except XtcError as error:
        what = f"{error.what}{_found(error)}; {_whole(index, offset)}"
        return None, [Problem(name, offset + 12, "extent", what)]
    need = header.extent + XTC_BYTES
    if need > have:
        return None, [_cut_off(name, offset, have, need, index)]
    number = header.env >> 24 & 0xF
    if number >= _SERVICES:
        return need, [Problem(name, offset + 8, "service", f"the service of a dgram is unknown: {number}")]
    return need, []


def _cut_off(name: str, offset: int, have: int, need: int, index: int) -> Problem:
    what = f"the last dgram is cut off: {have} of {need} bytes; {_whole(index, offset)}"
    return Problem(name, offset, "tail", what)


def _whole(count: int, end: int) -> str:
    return f"the dgrams before it, {count}, are whole and end at {end:#x}"


def _check_shapes(raw: memoryview, config: Config | None, where: Problem) -> Iterator[Problem]:
    """Yield the problems of one ShapesData, alone in a dgram of its own so that others cannot hide it."""
    alone = Dgram(
        encode_dgram(TransitionId.L1Accept, 0, [raw]), path=where.path, base=where.offset, config=config
    )
    try:
        (shapes,) = alone.shapes_data()
        names, values = shapes.names, shapes.values()
    except XtcError as error:
        outer = (*error.inside[:-1], *where.inside)
        yield Problem(where.path, error.offset or 0, "data", error.what + _found(error), outer)
        return
    for field, value in zip(names.fields, values, strict=True):
        if field.dtype == DataType.CHARSTR:
            yield from _check_text(field.name, value, shapes, names, where)


def _check_text(
    field: str, value: str, shapes: ShapesData, names: Names, where: Problem
) -> Iterator[Problem]:
    place = (f"ShapesData {shapes.names_id:#x} {names.detname}.{names.alg.name}", *where.inside)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        yield Problem(where.path, where.offset + DGRAM_BYTES, "text", f"field {field!r} is not UTF-8", place)


def _problem(kind: str, error: XtcError, dgram: Dgram) -> Problem:
    return Problem(
        error.path or dgram.path or "", error.offset or 0, kind, error.what + _found(error), error.inside
    )


def _found(error: XtcError) -> str:
    return "" if error.found is None else f"; found {error.found}"
