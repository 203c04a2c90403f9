"""Editor: a dgram changed by keeping, dropping and appending, made into bytes when asked.

The source dgram is never touched: an editor is its header and a list of edits, so a refused edit changes
nothing. Nested Parents are kept with the extents of what is left in them; one that is emptied is kept empty.
What is not entered by any reader (a Corrupted Parent, or all of a Corrupted dgram) is kept as it is, byte for
byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from xtc._dgram import Dgram, Xtc
from xtc.config import Config, read_names
from xtc.errors import XtcError
from xtc.kinds import Damage, TransitionId, TypeId
from xtc.names import Names, duplicate_id
from xtc.records import DGRAM_BYTES, XTC_BYTES, DgramHeader, XtcHeader, encode_dgram
from xtc.values import encode_shapes_data


class Editor:
    """A dgram to be changed. `timestamp`, `env`, `service`, `damage` and `src` are those of the result and
    may be assigned.

    `config` is what added data follows; it is the dgram's own where none is given, and grows by `add_names`
    in a Configure.
    """

    def __init__(self, dgram: Dgram, config: Config | None = None) -> None:
        self.timestamp = dgram.timestamp
        self.env = dgram.env
        self.service = TransitionId(dgram.service)
        self.damage = int(dgram.damage)
        self.src = dgram.src
        self.contains = dgram.contains
        self._dgram = dgram
        self._config = config
        self._own: Config | None = None
        self._dropped: list[Callable[[Names], bool]] = []
        self._dropped_ids: set[int] = set()
        self._new_names: list[Names] = []
        self._added: list[bytes] = []

    @classmethod
    def new(
        cls,
        service: TransitionId,
        timestamp: int,
        *,
        env: int = 0,
        src: int = 0,
        config: Config | None = None,
    ) -> Editor:
        """Return an editor of an empty dgram. A Configure made so has no Names yet."""
        empty = Dgram(encode_dgram(service, timestamp, env=env, src=src))
        return cls(empty, config)

    @property
    def config(self) -> Config:
        """The Config of the result: the Names of the dgram with those added, or the one given. Raises
        XtcError without any.
        """
        if self.service == TransitionId.Configure:
            if self._own is None:
                self._own = Config.of([*read_names(self._dgram), *self._new_names])
            return self._own
        config = self._config or self._dgram.config
        if config is None:
            raise XtcError(
                "there is no Configure that says what a dgram may hold", hint="Give the editor a Config."
            )
        return config

    def drop_ids(self, names_ids: Iterable[int]) -> None:
        """Leave out every ShapesData that follows one of `names_ids`."""
        self._dropped_ids.update(names_ids)

    def drop(self, detname: str, alg: str | None = None, segment: int | None = None) -> None:
        """Leave out the ShapesData of a detector (of one alg, of one segment); that there are none is no
        error.
        """
        self._dropped.append(
            lambda names: (
                names.detname == detname
                and (alg is None or names.alg.name == alg)
                and (segment is None or names.segment == segment)
            )
        )

    def add_names(self, names: Names) -> None:
        """Append a Names to a Configure; raise XtcError where its NamesId is taken or the dgram is no
        Configure.
        """
        if self.service != TransitionId.Configure:
            raise XtcError("Names belong in a Configure", expected="Configure", found=self.service.name)
        if duplicate_id([*self.config.names.values(), names]) is not None:
            raise XtcError("a NamesId occurs twice in one Configure", found=hex(names.names_id))
        self._new_names.append(names)
        self._added.append(names.encode())
        self._own = None

    def add(self, names: Names, values: Mapping[str, object] | Sequence[object], *, damage: int = 0) -> None:
        """Append a ShapesData; raise XtcError where the values do not fit, or the Config has other Names
        under that id.
        """
        if self.config.names.get(names.names_id) != names:
            raise XtcError(
                "the Config does not hold these Names",
                found=f"{names.names_id:#x} {names.detname}.{names.alg.name}",
            )
        self._added.append(encode_shapes_data(names, values, damage=damage))

    def encode(self) -> bytes:
        """Return the edited dgram; the editor may go on being used."""
        word = self.env & ~(0xF << 24) | int(self.service) << 24
        body = b"".join((*self._kept(), *self._added))
        header = DgramHeader(
            self.timestamp, word, self.src, self.damage, self.contains, XTC_BYTES + len(body)
        )
        return header.encode() + body

    def _kept(self) -> list[bytes | memoryview]:
        view = self._dgram.view
        if not (self._dropped or self._dropped_ids) or self._dgram.damage & Damage.Corrupted:
            return [view[DGRAM_BYTES:]]
        dropped = self._dropped_ids | self._matching()
        xtcs = self._dgram.xtcs()
        below: dict[int, list[int]] = {}
        for index, xtc in enumerate(xtcs):
            if xtc.type != TypeId.ShapesData or xtc.src & 0x0FFFFFFF not in dropped:
                below.setdefault(xtc.parent, []).append(index)
        return [part for index in below.get(-1, ()) for part in _keep(xtcs, below, view, index)]

    def _matching(self) -> set[int]:
        config = self._config or self._dgram.config
        if config is None or not self._dropped:
            return set()
        return {key for key, names in config.names.items() if any(match(names) for match in self._dropped)}


def _keep(
    xtcs: list[Xtc], below: dict[int, list[int]], view: memoryview, index: int
) -> list[bytes | memoryview]:
    """Return the parts of one kept Xtc; nesting is bounded by the walker."""
    xtc = xtcs[index]
    if xtc.type != TypeId.Parent or xtc.damage & Damage.Corrupted:
        return [view[xtc.offset : xtc.offset + xtc.extent]]
    inner = [part for child in below.get(index, ()) for part in _keep(xtcs, below, view, child)]
    header = XtcHeader.decode(view, xtc.offset)
    return [replace(header, extent=XTC_BYTES + sum(len(part) for part in inner)).encode(), *inner]
