"""Config: what a Configure says of every dgram until the next one. It reads Names through a dgram and holds
no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xtc._walk import Layout
from xtc.errors import XtcError
from xtc.kinds import TypeId
from xtc.names import Names, duplicate_id

if TYPE_CHECKING:
    from xtc._dgram import Column, Dgram


class Config:
    """The Names of a Configure by NamesId, in file order, with the layout of each.

    Raises XtcError where a Names is malformed or a NamesId occurs twice.
    """

    __slots__ = ("layouts", "names")

    def __init__(self, dgram: Dgram) -> None:
        self._fill(read_names(dgram), dgram.path, dgram.offset)

    @classmethod
    def of(cls, names: Iterable[Names]) -> Config:
        """Return a Config of `names` that no dgram holds."""
        config = cls.__new__(cls)
        config._fill(list(names), None, None)
        return config

    def _fill(self, names: list[Names], path: str | None, offset: int | None) -> None:
        twice = duplicate_id(names)
        if twice is not None:
            raise XtcError(
                "a NamesId occurs twice in one Configure", path=path, offset=offset, found=hex(twice)
            )
        self.names: dict[int, Names] = {one.names_id: one for one in names}
        self.layouts: dict[int, Layout] = {one.names_id: Layout(one) for one in names}

    def find(self, detname: str, alg: str, segment: int | None = None) -> Names:
        """Return the Names of a detector's alg (of its lowest segment where none is given); raise XtcError if
        there is none.
        """
        found = [one for one in self.names.values() if (one.detname, one.alg.name) == (detname, alg)]
        if segment is not None:
            found = [one for one in found if one.segment == segment]
        if not found:
            known = sorted({f"{one.detname}.{one.alg.name}[{one.segment}]" for one in self.names.values()})
            wanted = f"{detname}.{alg}" if segment is None else f"{detname}.{alg}[{segment}]"
            raise XtcError("no such Names in the Configure", expected=", ".join(known[:40]), found=wanted)
        return min(found, key=lambda one: one.segment)

    def column(self, detname: str, alg: str, field: str, segment: int | None = None) -> Column:
        """Return what reads one field from dgram after dgram; raise XtcError where there is no such."""
        from xtc._dgram import Column  # noqa: PLC0415 - that module needs this one

        names = self.find(detname, alg, segment)
        return Column(names, self.layouts[names.names_id], field)


def read_names(dgram: Dgram) -> list[Names]:
    """Return the Names of a dgram in file order; raise XtcError with the place in the file."""
    view = dgram.view
    out = []
    for xtc in dgram.xtcs():
        if xtc.type == TypeId.Names:
            try:
                out.append(Names.decode(view[xtc.offset : xtc.offset + xtc.extent]))
            except XtcError as error:
                place = f"{dgram.service.name} dgram"
                raise error.within(place, dgram.offset + xtc.offset, dgram.path) from None
    return out
