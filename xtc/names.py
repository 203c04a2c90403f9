"""Names: the schema of one detector segment and alg, as a record that reads and writes itself.

It knows one Xtc of type Names and nothing of where that lies. What a constructor accepts is what the format
can hold: a record that exists can be encoded, and what `decode` returns has been checked the same way. Real
files hold field names beyond the alphabet that the reference's writer keeps to (`TriggerEventBuffer[0]`), so
reading takes any printable ASCII, and `check_alphabet` is for those who declare new Names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xtc import codes
from xtc.errors import XtcError
from xtc.kinds import DataType, TypeId

if TYPE_CHECKING:
    from typing_extensions import Buffer

FIELD_NAME = re.compile(r"[A-Za-z0-9_.:]+\Z")
DET_NAME = re.compile(r"[A-Za-z0-9_]+\Z")
PRINTABLE = re.compile(r"[!-~]*\Z")
_ENUMS = (DataType.ENUMVAL, DataType.ENUMDICT)
_DATA_TYPES = tuple(DataType)


def to_bytes(text: str) -> bytes:
    """Encode text as the format holds it: UTF-8, bytes that were not UTF-8 on reading given back as they
    were; raise XtcError where there is no UTF-8 for it.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise XtcError("a text has no UTF-8", found=ascii(text[:80])) from None


def _check_text(what: str, text: str) -> None:
    raw = to_bytes(text)
    if len(raw) > codes.MAX_TEXT_BYTES or b"\0" in raw:
        raise XtcError(
            f"the {what} cannot be held", expected="at most 255 bytes, no NUL", found=repr(text[:300])
        )


@dataclass(frozen=True, slots=True)
class Alg:
    """Name and version (major, minor, micro; each 0..255) of what made the data."""

    name: str
    version: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        _check_text("alg name", self.name)
        if len(self.version) != 3 or not all(0 <= part <= codes.MAX_VERSION_PART for part in self.version):
            raise XtcError("a version is three numbers", expected="0..255 each", found=self.version)


_NO_ALG = Alg("")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its whole name (an enum's is `field:EnumType`), data type, rank 0..4 (0: scalar; a CHARSTR
    has rank 1).
    """

    name: str
    dtype: DataType
    rank: int = 0
    alg: Alg = _NO_ALG

    def __post_init__(self) -> None:
        _check_text("field name", self.name)
        if not self.name or not PRINTABLE.match(self.name):
            raise XtcError(
                "a field name is not a name", expected="printable ASCII, not empty", found=repr(self.name)
            )
        if not 0 <= self.rank <= codes.MAX_RANK:
            raise XtcError(
                f"the rank of field {self.name!r} is out of range", expected="0..4", found=self.rank
            )
        if self.dtype == DataType.CHARSTR and self.rank != 1:
            raise XtcError(f"the text field {self.name!r} must have rank 1", expected=1, found=self.rank)

    @property
    def enum_type(self) -> str | None:
        """The enum's type, which ties a value to its dictionary; None for other fields."""
        return self.name.partition(":")[2] if self.dtype in _ENUMS else None

    @property
    def label(self) -> str:
        """The name a reader shows: for an enum value what is before the first colon, else the whole."""
        return self.name.partition(":")[0] if self.dtype == DataType.ENUMVAL else self.name


@dataclass(frozen=True, slots=True)
class Names:
    """The schema that ShapesData with src `names_id` (node << 8 | index) follow."""

    names_id: int
    dettype: str
    detname: str
    detid: str
    segment: int
    alg: Alg
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.names_id <= codes.MAX_NAMES_ID:
            raise XtcError(
                "a NamesId is out of range", expected="node 0..4095, index 0..255", found=self.names_id
            )
        if not 0 <= self.segment < 1 << 32:
            raise XtcError("a segment is out of range", expected="0..2^32-1", found=self.segment)
        for what, text in (("detType", self.dettype), ("detName", self.detname), ("detId", self.detid)):
            _check_text(what, text)
        if not PRINTABLE.match(self.detname):
            raise XtcError("a detName is not a name", expected="printable ASCII", found=repr(self.detname))

    @property
    def node(self) -> int:
        """The DAQ node, 0..4095."""
        return self.names_id >> 8

    @property
    def index(self) -> int:
        """The number on its node, 0..255; 252..255 are the DAQ's own."""
        return self.names_id & codes.MAX_NAMES_INDEX

    @property
    def num_arrays(self) -> int:
        """How many fields have a Shape."""
        return sum(1 for field in self.fields if field.rank)

    @property
    def extent(self) -> int:
        """Bytes of the encoded Xtc."""
        return codes.XTC.size + codes.NAME_INFO.size + codes.NAME.size * len(self.fields)

    def encode(self) -> bytes:
        """Return the whole Xtc of type Names."""
        info = codes.NAME_INFO.pack(
            self.num_arrays,
            to_bytes(self.dettype),
            to_bytes(self.detname),
            to_bytes(self.detid),
            to_bytes(self.alg.name),
            codes.pack_version(self.alg.version),
            self.segment,
        )
        header = codes.XTC.pack(self.names_id, 0, TypeId.Names, self.extent)
        return b"".join((header, info, *(_encode_field(field) for field in self.fields)))

    @classmethod
    def decode(cls, buffer: Buffer) -> Names:
        """Read the Xtc of type Names that fills `buffer`; raise XtcError, `offset` from its first byte."""
        view = memoryview(buffer)
        head = codes.XTC.size + codes.NAME_INFO.size
        if len(view) < head or (len(view) - head) % codes.NAME.size:
            raise XtcError(
                "the extent of Names fits no number of fields",
                offset=8,
                expected="1048 + 524 n",
                found=len(view),
            )
        src, _, contains, extent = codes.XTC.unpack_from(view)
        if contains & 0xFFF != TypeId.Names or extent != len(view):
            raise XtcError(
                "not the Xtc of a Names",
                offset=0,
                expected=(TypeId.Names, len(view)),
                found=(contains, extent),
            )
        num_arrays, dettype, detname, detid, alg, version, segment = codes.NAME_INFO.unpack_from(
            view, codes.XTC.size
        )
        place = f"Names {src & 0x0FFFFFFF:#x}"
        try:
            names = cls(
                names_id=src & 0x0FFFFFFF,
                dettype=to_text("detType", dettype, 16),
                detname=to_text("detName", detname, 272),
                detid=to_text("detId", detid, 528),
                segment=segment,
                alg=Alg(to_text("alg name", alg, 784), codes.unpack_version(version)),
                fields=tuple(_decode_field(view, at) for at in range(head, len(view), codes.NAME.size)),
            )
        except XtcError as error:
            raise error.within(place) from None
        if num_arrays != names.num_arrays:
            raise XtcError(
                "numArrays disagrees with the ranks",
                offset=12,
                inside=(place,),
                expected=names.num_arrays,
                found=num_arrays,
            )
        return names


def to_text(what: str, raw: bytes, offset: int) -> str:
    """Decode a fixed-size text up to its NUL; raise XtcError where it has none."""
    head, nul, _ = raw.partition(b"\0")
    if not nul:
        raise XtcError(f"the {what} has no NUL in its {len(raw)} bytes", offset=offset)
    return head.decode("utf-8", "surrogateescape")


def check_alphabet(names: Names) -> None:
    """Raise XtcError where detName or a field name has characters the reference's writer refuses."""
    if not DET_NAME.match(names.detname):
        raise XtcError("a detName has other characters", expected="A-Z a-z 0-9 _", found=repr(names.detname))
    for field in names.fields:
        if not FIELD_NAME.match(field.name):
            raise XtcError(
                "a field name has other characters", expected="A-Z a-z 0-9 _ . :", found=repr(field.name)
            )


def duplicate_id(names: Sequence[Names]) -> int | None:
    """Return the first NamesId that occurs twice, or None."""
    seen: set[int] = set()
    for one in names:
        if one.names_id in seen:
            return one.names_id
        seen.add(one.names_id)
    return None


def _encode_field(field: Field) -> bytes:
    return codes.NAME.pack(
        to_bytes(field.alg.name),
        codes.pack_version(field.alg.version),
        to_bytes(field.name),
        field.dtype,
        field.rank,
    )


def _decode_field(view: memoryview, at: int) -> Field:
    alg, version, name, dtype, rank = codes.NAME.unpack_from(view, at)
    if dtype >= len(_DATA_TYPES):
        raise XtcError("a DataType is out of range", offset=at + 516, expected="0..12", found=dtype)
    try:
        text = to_text("field name", name, 260)
        return Field(
            text,
            _DATA_TYPES[dtype],
            rank,
            Alg(to_text("field alg name", alg, 0), codes.unpack_version(version)),
        )
    except XtcError as error:
        raise error.within("Name", base=at) from None
