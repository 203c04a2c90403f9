"""Reader: the dgrams of one xtc2 file, zero-copy over a memory map.

It opens a file and hands its bytes to `Scan`; what they mean is decided there. The map is private to reading:
nobody may cut the file short while it is open (the kernel answers with SIGBUS); a file that is still being
written only grows, and is read as far as it was at opening.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from xtc._dgram import Dgram, Scan, Tail
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import TransitionId
from xtc.records import DGRAM_BYTES


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading; what is no regular file, such as a pipe that nobody may ever write to, is an
    OSError at once.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - Path.open takes no opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "It is no regular file", str(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


class Reader:
    """Iterate over the dgrams of `path`, as often as asked; `config` is for a chunk that has no Configure of
    its own.

    Arrays and dgrams keep the map alive after `close`. A last dgram that is cut off ends the file and is
    reported by `tail`. Raises OSError where the file cannot be opened or is no regular file, XtcError (from the iteration) where
    its bytes are not XTC2.
    """

    def __init__(self, path: str | Path, *, config: Config | None = None) -> None:
        self.path = str(path)
        with open_regular(path) as file:
            size = file.seek(0, 2)
            self._buffer: mmap.mmap | bytes = (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            )
        self.size = size
        self._config = config

    def __iter__(self) -> Iterator[Dgram]:
        return self.scan()

    def scan(self) -> Scan:
        """Return a new iterator from the first dgram; its `tail` and `config` tell how far it came."""
        return Scan(self._buffer, path=self.path, config=self._config)

    @property
    def view(self) -> memoryview:
        """All bytes of the file, read-only, not copied."""
        return memoryview(self._buffer)

    @property
    def has_configure(self) -> bool:
        """Whether the first dgram is a Configure, as everywhere but in chunks after the first."""
        return self.size >= DGRAM_BYTES and self.view[11] & 0xF == TransitionId.Configure

    @property
    def tail(self) -> Tail | None:
        """The cut-off end of the file, or None; reads every header."""
        scan = self.scan()
        for _ in scan:
            pass
        return scan.tail

    @property
    def config(self) -> Config | None:
        """The Config of the file's first Configure, or the one given; None where there is neither."""
        return next(iter(self)).config if self.has_configure else self._config

    def at(self, offset: int, config: Config | None = None) -> Dgram:
        """Return the dgram that begins at byte `offset`, with `config` or the file's; raises XtcError."""
        if not 0 <= offset < max(self.size, 1):
            raise XtcError(
                "no dgram can begin there", path=self.path, offset=offset, expected=f"below {self.size}"
            )
        return Dgram(self._buffer, offset, path=self.path, config=config or self.config)

    def close(self) -> None:
        """Let go of the map; what still looks at it keeps it."""
        self._buffer = b""
        self.size = 0

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
