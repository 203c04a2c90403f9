"""The walker of `xtc._walk` again in plain Python, recursive and without cleverness, for tests to compare
with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

(SHORT, SMALL, LARGE, DEEP, MANY, NO_DATA, SHAPES, FIELD) = range(-1, -9, -1)
MAX_DEPTH = 8
Child = tuple[int, int, int, int, int, int]
ShapesAt = tuple[int, int, int, int, int, int, int, int]
Visit = Callable[[int, int, int, int, int, int], None]


class Fault(Exception):
    """A code of `WalkError` and the offset of what is wrong."""

    def __init__(self, code: int, where: int) -> None:
        super().__init__(code, where)
        self.code = code
        self.where = where


def top(raw: bytes) -> tuple[int, int]:
    """Return end and damage of the top Xtc."""
    if len(raw) < 24:
        raise Fault(SHORT, 0)
    damage, _, extent = struct.unpack_from("<HHI", raw, 16)
    if extent < 12:
        raise Fault(SMALL, 12)
    if extent > 0x7FFFFFF0:
        raise Fault(LARGE, 12)
    if extent + 12 > len(raw):
        raise Fault(SHORT, 0)
    return 12 + extent, damage


def walk(raw: bytes, visit: Visit) -> None:
    """Call visit(child, depth) for every Xtc below the top in byte order, checking one header at a time."""
    end, damage = top(raw)
    if not damage & 8:
        _below(raw, 24, end, 0, visit)


def _below(raw: bytes, start: int, end: int, depth: int, visit: Visit) -> None:
    while start < end:
        if end - start < 12:
            raise Fault(LARGE, start)
        src, damage, contains, extent = struct.unpack_from("<IHHI", raw, start)
        if extent < 12:
            raise Fault(SMALL, start)
        if extent > end - start:
            raise Fault(LARGE, start)
        kind = contains & 0xFFF
        visit(src, damage, kind, start, extent, depth)
        if kind == 0 and not damage & 8:
            if depth == MAX_DEPTH:
                raise Fault(DEEP, start)
            _below(raw, start + 12, start + extent, depth + 1, visit)
        start += extent


def children(raw: bytes) -> list[Child]:
    """As `xtc._walk.children`."""
    out: list[Child] = []
    enclosing: list[int] = []

    def visit(src: int, damage: int, kind: int, start: int, extent: int, depth: int) -> None:
        del enclosing[depth:]
        out.append((src, damage, kind, start, extent, enclosing[-1] if enclosing else -1))
        if kind == 0 and not damage & 8:
            enclosing.append(len(out) - 1)

    walk(raw, visit)
    return out


def shapes(raw: bytes) -> list[ShapesAt]:
    """As `xtc._walk.shapes`."""
    out: list[ShapesAt] = []

    def visit(src: int, damage: int, kind: int, start: int, extent: int, depth: int) -> None:
        if kind == 1:
            out.append((src & 0x0FFFFFFF, damage, start, extent, *_parts(raw, start, extent)))

    walk(raw, visit)
    return out


def _parts(raw: bytes, start: int, extent: int) -> tuple[int, int, int, int]:
    found: dict[int, tuple[int, int]] = {}
    cursor, end = start + 12, start + extent
    while cursor < end:
        if end - cursor < 12:
            raise Fault(LARGE, cursor)
        _, _, contains, size = struct.unpack_from("<IHHI", raw, cursor)
        if size < 12:
            raise Fault(SMALL, cursor)
        if size > end - cursor:
            raise Fault(LARGE, cursor)
        kind = contains & 0xFFF
        if kind in (2, 3) and kind in found:
            raise Fault(NO_DATA if kind == 3 else SHAPES, cursor)
        found[kind] = (cursor + 12, size - 12)
        cursor += size
    if 3 not in found:
        raise Fault(NO_DATA, start)
    return (*found.get(2, (0, 0)), *found[3])


def field_places(
    raw: bytes, at: ShapesAt, fields: list[tuple[int, int]]
) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return (offset, bytes, dims) of (DataType, rank) fields; a Fault's place is the field's number."""
    sizes = (1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1, 4, 4)
    out = []
    cursor, array = 0, 0
    for number, (dtype, rank) in enumerate(fields):
        total = sizes[dtype]
        dims: tuple[int, ...] = ()
        if rank:
            if (array + 1) * 20 > at[5]:
                raise Fault(SHAPES, number)
            dims = struct.unpack_from(f"<{rank}I", raw, at[4] + 20 * array)
            array += 1
            for dim in dims:
                total *= dim or 1
                if total > 1 << 62:
                    raise Fault(FIELD, number)
            total = 0 if 0 in dims else total
        if cursor + total > at[7]:
            raise Fault(FIELD, number)
        out.append((at[6] + cursor, total, dims))
        cursor += total
    return out
