"""The names that users of psana.dgramedit know, over `Editor`.

What differs from the reference, on purpose: the dgram given is not written to; arrays are taken by content
whatever their memory order; a value that does not fit is an XtcError before anything is changed; nested
Parents and Corrupted dgrams stay whole; `removedata` needs no save before it. `bufsize` is the largest dgram
`save` will make.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xtc._dgram import Dgram
from xtc.config import Config
from xtc.edit import Editor
from xtc.errors import XtcError
from xtc.kinds import DataType, TransitionId
from xtc.names import Alg, Field, Names, check_alphabet
from xtc.records import encode_dgram

if TYPE_CHECKING:
    from typing_extensions import Buffer

BUFFER_BYTES = 64_000_000
EPOCH_1990 = 631152000
_SPLIT = 128
_TYPES: dict[object, DataType] = {
    np.uint8: DataType.UINT8,
    np.uint16: DataType.UINT16,
    np.uint32: DataType.UINT32,
    np.uint64: DataType.UINT64,
    np.int8: DataType.INT8,
    np.int16: DataType.INT16,
    np.int32: DataType.INT32,
    np.int64: DataType.INT64,
    np.float32: DataType.FLOAT,
    np.float64: DataType.DOUBLE,
}


@dataclass(frozen=True, slots=True)
class AlgDef:
    """Name and version of an algorithm."""

    name: str
    major: int
    minor: int
    micro: int


@dataclass(frozen=True, slots=True)
class DetectorDef:
    """Name, type and serial number of a detector."""

    name: str
    dettype: str
    detid: str


class Container:
    """The fields of one alg as attributes, to be assigned for each dgram; None means not assigned yet."""

    def __init__(self, names: Names) -> None:
        self.__dict__["_names"] = names
        self._clear()

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.__dict__:
            known = [one.name for one in self._names.fields]
            raise XtcError("a detector has no such field", expected=known, found=name)
        self.__dict__[name] = value

    def _clear(self) -> None:
        for one in self._names.fields:
            self.__dict__[one.name] = None

    if TYPE_CHECKING:
        _names: Names

        def __getattr__(self, name: str) -> Any: ...


@dataclass(slots=True)
class DetectorNames:
    """What `DgramEdit.Detector` returns: the Names, and a Container under the name of its alg."""

    names: Names
    _containers: dict[str, Container] = field(default_factory=dict)

    @property
    def nodeId(self) -> int:
        """The node of its NamesId."""
        return self.names.node

    @property
    def namesId(self) -> int:
        """The index of its NamesId."""
        return self.names.index

    def __getattr__(self, name: str) -> Container:
        if name not in self._containers:
            raise AttributeError(
                f"the detector {self.names.detname} has the alg {', '.join(self._containers)}, not {name}"
            )
        return self._containers[name]


def data_type(kind: object) -> DataType:
    """Return the DataType of a numpy type or dtype, of `str`, or itself; raise XtcError for another."""
    if isinstance(kind, DataType):
        return kind
    if kind is str:
        return DataType.CHARSTR
    try:
        return _TYPES[np.dtype(kind).type]  # type: ignore[call-overload]
    except (KeyError, TypeError):
        raise XtcError(
            "the format has no such type", expected="uint8..int64, float32, float64, str", found=repr(kind)
        ) from None


def next_index(used: set[int]) -> int:
    """Return the next free index of a NamesId above those nearer to 0 than to 255; 1 where none is used."""
    low = [index for index in used if index < _SPLIT]
    return max(low, default=0) + 1


class DgramEdit:
    """An edit of one dgram: of an existing one, or of a new one where `transition_id` is given.

    The first of a file is the Configure; the others get it as `config_dgramedit`. `ts` is the raw 64-bit time
    stamp, -1 the clock (seconds since 1990, microseconds in the low word, as the reference's).
    """

    def __init__(
        self,
        dg: Dgram | Buffer | None = None,
        config_dgramedit: DgramEdit | None = None,
        transition_id: int | None = None,
        ts: int = -1,
        bufsize: int = BUFFER_BYTES,
    ) -> None:
        if (dg is None) == (transition_id is None):
            raise XtcError("a DgramEdit is of a dgram or of a transition id", expected="one of them")
        self._bufsize = bufsize
        if dg is not None:
            dgram = dg if isinstance(dg, Dgram) else Dgram(dg)
        else:
            stamp = _now() if ts == -1 else ts
            dgram = Dgram(encode_dgram(TransitionId(transition_id or 0), stamp))
        if dgram.service != TransitionId.Configure and config_dgramedit is None and dgram.config is None:
            raise XtcError("a dgram other than a Configure needs config_dgramedit", found=dgram.service.name)
        self._editor = Editor(dgram, None if config_dgramedit is None else config_dgramedit.config)
        self._saved: bytes | None = None

    @property
    def config(self) -> Config:
        """The Config in force: for a Configure with what `Detector` added."""
        return self._editor.config

    @property
    def size(self) -> int:
        """Bytes of the edited dgram, that is of what `save` writes."""
        return len(self._bytes())

    def Detector(
        self,
        detdef: DetectorDef,
        algdef: AlgDef,
        datadef_dict: Mapping[str, tuple[object, int]],
        nodeId: int | None = None,
        namesId: int | None = None,
        segment: int | None = None,
    ) -> DetectorNames:
        """Declare a detector in a Configure: field name to (numpy type or str, rank); raise XtcError, with
        nothing changed.

        Without `nodeId` it is that of the Configure's last Names, without `namesId` the next one free,
        without `segment` 0.
        """
        known = list(self._editor.config.names.values())
        node = (known[-1].node if known else 0) if nodeId is None else nodeId
        index = next_index({one.index for one in known}) if namesId is None else namesId
        if not 0 <= index <= 255 or not 0 <= node <= 4095:
            raise XtcError(
                "a NamesId is out of range", expected="node 0..4095, index 0..255", found=(node, index)
            )
        names = Names(
            names_id=node << 8 | index,
            dettype=detdef.dettype,
            detname=detdef.name,
            detid=detdef.detid,
            segment=segment or 0,
            alg=Alg(algdef.name, (algdef.major, algdef.minor, algdef.micro)),
            fields=tuple(Field(name, data_type(kind), rank) for name, (kind, rank) in datadef_dict.items()),
        )
        check_alphabet(names)
        self._editor.add_names(names)
        self._saved = None
        return DetectorNames(names, {algdef.name: Container(names)})

    def adddata(self, datadict: Container) -> None:
        """Append the values assigned to a detector's alg, and clear them; raise XtcError, with nothing
        changed.
        """
        names = datadict._names
        values = {one.name: datadict.__dict__[one.name] for one in names.fields}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise XtcError(
                f"{names.detname}.{names.alg.name}: fields have no value", found=", ".join(missing)
            )
        self._editor.add(names, values)
        datadict._clear()
        self._saved = None

    def removedata(self, det_name: str, alg_name: str) -> None:
        """Leave the data of a detector's alg, all segments, out of this dgram."""
        self._editor.drop(det_name, alg_name)
        self._saved = None

    def updatetimestamp(self, timestamp_val: int) -> None:
        """Set the raw 64-bit time stamp."""
        self._editor.timestamp = timestamp_val
        self._saved = None

    def updateservice(self, transitionId: int) -> None:
        """Set the service; the other bits of env stay."""
        self._editor.service = TransitionId(transitionId)
        self._saved = None

    def updatedamage(self, damage: int) -> None:
        """Set the whole damage word of the top Xtc."""
        self._editor.damage = damage
        self._saved = None

    def save(self, outbuf: Buffer | None = None, offset: int = 0) -> bytes:
        """Write the dgram to `outbuf` from `offset`, where one is given, and return it; raise XtcError where
        it has no room.
        """
        raw = self._bytes()
        if outbuf is not None:
            room = memoryview(outbuf).cast("B")
            if offset < 0 or len(room) - offset < len(raw):
                raise XtcError(
                    "the buffer has no room for the dgram", expected=len(raw), found=len(room) - offset
                )
            room[offset : offset + len(raw)] = raw
        return raw

    def get_dgram(self, view: Buffer | None = None) -> Dgram:
        """Return the edited dgram, or that at the start of `view`, to be read."""
        raw = self._bytes() if view is None else view
        return Dgram(
            raw, config=None if self._editor.service == TransitionId.Configure else self._editor.config
        )

    def _bytes(self) -> bytes:
        if self._saved is None:
            raw = self._editor.encode()
            if len(raw) > self._bufsize:
                raise XtcError("the dgram is larger than bufsize", expected=self._bufsize, found=len(raw))
            self._saved = raw
        return self._saved


def _now() -> int:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return seconds - EPOCH_1990 << 32 | nanoseconds // 1000
