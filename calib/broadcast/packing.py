"""A set of constants in one buffer: arrays and texts by key, with a header that says where each lies and what it hashes to.

    offset  bytes  what
         0      8  magic b"CALIBSET"
         8      4  layout, uint32 little-endian: 1
        12      4  bytes of the header, uint32 little-endian
        16     32  SHA-256 of the header
        48     16  zero
        64      n  the header, JSON: {"size", "about", "entries": [[key, dtype, shape, offset, bytes, digest], ...]}
         .      .  values, each at its offset, a multiple of 64

All values are little-endian and C-contiguous; a text has the dtype "text" and is UTF-8. Since the header holds the digest of
every value, its own digest is that of the whole set. Nothing read here is trusted: every number is checked before it is used. The
module knows neither shared memory nor sockets: who calls has the buffer.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calib.errors import BroadcastError

if TYPE_CHECKING:
    from typing_extensions import Buffer

Array = npt.NDArray[Any]
Value = Array | str

ALIGN = 64
MAGIC = b"CALIBSET"
LAYOUT = 1
TEXT = "text"
MAX_HEADER_BYTES = 16 << 20
MAX_ENTRIES = 4096
MAX_KEY = 512
MAX_DIMENSIONS = 8
MAX_BYTES = 1 << 40
_FIXED = struct.Struct("<8sII32s16x")
_KINDS = "buif"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one value lies: `offset` and `size_bytes` in the buffer; `digest` is the SHA-256 (hex) of dtype, shape and bytes."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    digest: str

    def as_json(self) -> list[Any]:
        """Return the row of the header."""
        return [self.key, self.dtype, list(self.shape), self.offset, self.size_bytes, self.digest]

    @classmethod
    def from_json(cls, row: Any) -> Entry:
        """Read a row of a header; BroadcastError where it is none, or describes what cannot be."""
        try:
            key, dtype, shape, offset, size, digest = row
            whole = all(type(one) is int and 0 <= one <= MAX_BYTES for one in (*shape, offset, size))
            texts = all(isinstance(one, str) for one in (key, dtype, digest))
        except (TypeError, ValueError) as error:
            raise BroadcastError("an entry of a set of constants cannot be read") from error
        if not whole or not texts or len(key) > MAX_KEY or len(digest) != 64 or len(shape) > MAX_DIMENSIONS:
            raise BroadcastError(
                "an entry of a set of constants is not what it must be", where=str(key)[:MAX_KEY]
            )
        entry = cls(key, dtype, tuple(shape), offset, size, digest)
        item_bytes = 1 if dtype == TEXT else _dtype(dtype, key).itemsize
        if math.prod(entry.shape) * item_bytes != size or (dtype == TEXT and len(shape) != 1):
            raise BroadcastError(f"{size} bytes are not those of shape {entry.shape} and {dtype}", where=key)
        return entry


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A set as read from a buffer. Arrays of `values` are read-only views of it and keep it alive; texts are their own."""

    about: Mapping[str, Any]
    entries: tuple[Entry, ...]
    values: dict[str, Value]
    digest: str
    size_bytes: int


class Plan:
    """How a set will lie in a buffer of `size_bytes`, with its `digest`, before there is such a buffer."""

    def __init__(self, items: Mapping[str, Value], about: Mapping[str, Any]) -> None:
        self._values = {key: _plain(key, value) for key, value in items.items()}
        if len(self._values) > MAX_ENTRIES:
            raise BroadcastError(f"{len(self._values)} values in a set of constants, at most {MAX_ENTRIES}")
        self.about = dict(about)
        digests = {key: content_digest(value) for key, value in self._values.items()}
        # Offsets are part of the header whose length they depend on: the first guess leaves room for the longest ones.
        start = _aligned(_FIXED.size + len(self._header(self._entries(MAX_BYTES // 2, digests), MAX_BYTES)))
        self.entries = tuple(self._entries(start, digests))
        last = self.entries[-1] if self.entries else None
        self.size_bytes = start if last is None else _aligned(last.offset + last.size_bytes)
        self._text = self._header(self.entries, self.size_bytes)
        if len(self._text) > MAX_HEADER_BYTES:
            raise BroadcastError(f"the header of a set of constants is longer than {MAX_HEADER_BYTES} bytes")
        self.digest = hashlib.sha256(self._text).hexdigest()

    def write(self, buffer: Buffer) -> None:
        """Write the set into a writable buffer of at least `size_bytes`."""
        with memoryview(buffer) as view:
            if view.nbytes < self.size_bytes or view.readonly:
                raise BroadcastError(
                    f"a set of {self.size_bytes} bytes does not go into a buffer of {view.nbytes}"
                )
            _FIXED.pack_into(view, 0, MAGIC, LAYOUT, len(self._text), bytes.fromhex(self.digest))
            view[_FIXED.size : _FIXED.size + len(self._text)] = self._text
            for entry in self.entries:
                value = self._values[entry.key]
                to = np.frombuffer(view, value.dtype, value.size, entry.offset)
                to[:] = value.reshape(-1)

    def _entries(self, start: int, digests: Mapping[str, str]) -> list[Entry]:
        out = []
        for key, value in self._values.items():
            is_text = value.dtype.kind == "S"
            dtype = TEXT if is_text else value.dtype.str
            out.append(Entry(key, dtype, value.shape, start, value.nbytes, digests[key]))
            start = _aligned(start + value.nbytes)
        return out

    def _header(self, entries: Iterable[Entry], size_bytes: int) -> bytes:
        rows = [entry.as_json() for entry in entries]
        content = {"size": size_bytes, "about": self.about, "entries": rows}
        return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


def pack(items: Mapping[str, Value], about: Mapping[str, Any] | None = None) -> Plan:
    """Plan a set of arrays (bool, integer or float) and texts by key; `about` is what else is to be known, as JSON holds it.

    Raises BroadcastError for what a set cannot hold.
    """
    return Plan(items, about or {})


def unpack(buffer: Buffer, *, digest: str | None = None, verify: bool = False) -> Packed:
    """Return the set in a buffer; `digest`: the one it must have; `verify`: hash the values too (about 1 s for 1 GB).

    Raises BroadcastError where the buffer holds no set, another set, or one that leads out of it.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    text, found = _read_header(view)
    if digest is not None and found != digest:
        raise BroadcastError(f"the set has digest {found[:12]}, expected {digest[:12]}")
    about, entries, size = _read_entries(text)
    values: dict[str, Value] = {}
    start = _FIXED.size + len(text)
    for entry in entries:
        if (
            entry.offset % ALIGN
            or entry.offset < start
            or entry.offset + entry.size_bytes > min(size, view.nbytes)
        ):
            raise BroadcastError(
                f"lies at {entry.offset}, {entry.size_bytes} bytes, outside of the set", where=entry.key
            )
        values[entry.key] = _value(view, entry, verify=verify)
    return Packed(about, entries, values, found, size)


def content_digest(value: Array) -> str:
    """Return the SHA-256 (hex) of an array's dtype, shape and bytes; it lets go of the interpreter's lock."""
    digest = hashlib.sha256(f"{value.dtype.str} {value.shape}".encode())
    if value.size:
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plain(key: str, value: Value) -> Array:
    """Return what is written: the array as C-contiguous and little-endian, a text as bytes."""
    if not key or len(key) > MAX_KEY:
        raise BroadcastError(f"a key of {len(key)} characters", where=key[:80])
    if isinstance(value, str):
        return np.frombuffer(value.encode(), "S1")
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS or array.ndim > MAX_DIMENSIONS:
        raise BroadcastError(f"{array.dtype} of {array.ndim} dimensions cannot be broadcast", where=key)
    out: Array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    return out


def _read_header(view: memoryview) -> tuple[bytes, str]:
    if view.nbytes < _FIXED.size:
        raise BroadcastError(f"{view.nbytes} bytes are no set of constants")
    magic, layout, size, digest = _FIXED.unpack_from(view)
    if magic != MAGIC or layout != LAYOUT:
        raise BroadcastError("this is no set of constants, or one of another version of calib")
    if size > MAX_HEADER_BYTES or _FIXED.size + size > view.nbytes:
        raise BroadcastError(f"the header of {size} bytes leads out of the {view.nbytes} bytes there are")
    text = bytes(view[_FIXED.size : _FIXED.size + size])
    if hashlib.sha256(text).digest() != digest:
        raise BroadcastError("the header of the set does not have its digest")
    return text, digest.hex()


def _read_entries(text: bytes) -> tuple[dict[str, Any], tuple[Entry, ...], int]:
    try:
        content = json.loads(text)
        about, rows, size = content["about"], content["entries"], content["size"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BroadcastError("the header of the set cannot be read") from error
    if (
        not isinstance(about, dict)
        or not isinstance(rows, list)
        or len(rows) > MAX_ENTRIES
        or type(size) is not int
    ):
        raise BroadcastError("the header of the set is not what it must be")
    entries = tuple(Entry.from_json(row) for row in rows)
    if len({entry.key for entry in entries}) != len(entries):
        raise BroadcastError("the set has two values of one name")
    return about, entries, size


def _value(view: memoryview, entry: Entry, *, verify: bool) -> Value:
    dtype = np.dtype("S1") if entry.dtype == TEXT else _dtype(entry.dtype, entry.key)
    array: Array = np.frombuffer(view, dtype, math.prod(entry.shape), entry.offset).reshape(entry.shape)
    if verify and content_digest(array) != entry.digest:
        raise BroadcastError("the value does not have its digest", where=entry.key)
    if entry.dtype != TEXT:
        return array
    try:
        return array.tobytes().decode()
    except UnicodeDecodeError as error:
        raise BroadcastError("the text is not UTF-8", where=entry.key) from error


def _dtype(text: str, key: str) -> np.dtype[Any]:
    """Return a plain number's dtype; anything else that numpy would make of the text is refused."""
    if not (len(text) == 3 and text[0] in "<|" and text[1] in _KINDS and text[2] in "1248"):
        raise BroadcastError(f"{text!r} is no dtype of a constant", where=key)
    try:
        return np.dtype(text)
    except TypeError as error:
        raise BroadcastError(f"{text!r} is no dtype of a constant", where=key) from error


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
