"""Feed: dgrams out of a stream that comes in pieces of any size. Sans-IO; the bytes may come from a pipe, a
socket or a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xtc._dgram import Dgram, Tail
from xtc.codes import MAX_EXTENT
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import TransitionId
from xtc.records import DGRAM_BYTES, XTC_BYTES, DgramHeader

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_DGRAM_BYTES = 0x4000000


class Feed:
    """Collect pieces, give whole dgrams, each in bytes of its own with the Config in force.

    `max_dgram_bytes` bounds what is held for one dgram (64 MiB, as the reference's tools). After an XtcError
    the feed is over.
    """

    def __init__(
        self, *, config: Config | None = None, path: str | None = None, max_dgram_bytes: int = MAX_DGRAM_BYTES
    ) -> None:
        self._source: Config | Dgram | None = config
        self._path = path
        self._limit = min(max_dgram_bytes, MAX_EXTENT + XTC_BYTES)
        self._held = bytearray()
        self._offset = 0
        self._count = 0

    @property
    def tail(self) -> Tail | None:
        """What is held of a dgram that is not whole yet; at the end of the stream, its cut-off end."""
        return Tail(self._offset, len(self._held), self._need()) if self._held else None

    def feed(self, piece: Buffer) -> list[Dgram]:
        """Take a piece and return the dgrams that are whole with it; raise XtcError where the bytes are not
        XTC2.
        """
        self._held += piece
        out: list[Dgram] = []
        start = 0
        while len(self._held) - start >= DGRAM_BYTES:
            size = self._size_at(start)
            if len(self._held) - start < size:
                break
            raw = bytes(memoryview(self._held)[start : start + size])
            out.append(self._open(raw))
            start += size
            self._offset += size
            self._count += 1
        del self._held[:start]
        return out

    def _open(self, raw: bytes) -> Dgram:
        dgram = Dgram(raw, path=self._path, index=self._count, base=self._offset, config=self._source)
        if dgram.service == TransitionId.Configure:
            self._source = dgram
        return dgram

    def _need(self) -> int:
        return self._size_at(0) if len(self._held) >= DGRAM_BYTES else DGRAM_BYTES

    def _size_at(self, start: int) -> int:
        try:
            size = DgramHeader.decode(self._held, start).extent + XTC_BYTES
        except XtcError as error:
            raise error.within(f"dgram {self._count}", self._offset - start, self._path) from None
        if size > self._limit:
            raise XtcError(
                "a dgram is larger than allowed",
                path=self._path,
                offset=self._offset,
                inside=(f"dgram {self._count}",),
                expected=f"at most {self._limit}",
                found=size,
            )
        return size
