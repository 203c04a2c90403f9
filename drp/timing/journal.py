"""The journal: every trigger of a run, in a file, before it is sent. It is the partition's own count, against which all ledgers close.

    <folder>/<instrument>-<experiment>-r0001.triggers

64 bytes of HEADER, then the records of `drp.core.wire.TRIGGER`, 64 bytes each, transitions and events as they went;
`number` counts them from 1. For numpy: `np.fromfile(path, wire.TRIGGER, offset=64)`. Each batch is written before it is
sent, so a kill loses nothing; it is not synced to the disk. An existing file is never touched. Where the disk is full the
records wait in memory, and no pulse fires until they are written.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core import wire
from drp.core.errors import DrpError

MAGIC = b"DRPTRIG1"
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("record_bytes", "<u4"),
        ("run", "<u4"),
        ("platform", "<u4"),
        ("began", "<u8"),  # time stamp of its beginning
        ("experiment", "S32"),
    ]
)
VERSION = 1
MODE_OPEN, MODE_WHOLE = 0o640, 0o440

log = logging.getLogger("drp.timing")


class JournalError(DrpError):
    """A journal that cannot be made or read; `path` says which."""

    def __init__(self, what: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.path = path

    @property
    def where(self) -> str:
        """The file."""
        return self.path


class Journal:
    """The journal of one run, being written. JournalError: there is one of this run already, or the folder cannot be written in."""

    def __init__(
        self, folder: Path, instrument: str, experiment: str, run: int, *, platform: int = 0, began: int = 0
    ) -> None:
        self.path = folder / f"{instrument}-{experiment}-r{run:04d}.triggers"
        self.count = 0
        self._left = b""
        self._error: OSError | None = None
        header = np.zeros(1, HEADER)
        header[0] = (MAGIC, VERSION, wire.TRIGGER.itemsize, run, platform, began, experiment.encode())
        if "/" in instrument + experiment:
            raise JournalError("a name with a slash is no file's", path=str(self.path))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self.path, flags, MODE_OPEN)
        except FileExistsError:
            raise JournalError(
                "this run has its journal already, and nothing is overwritten",
                path=str(self.path),
                hint="Take another run number, or another folder with -o",
            ) from None
        except OSError as error:
            raise JournalError(
                f"the journal cannot be made: {error.strerror}", path=str(self.path)
            ) from error
        self._put(header.tobytes())

    @property
    def blocked(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._left)

    def write(self, records: npt.NDArray[Any]) -> None:
        """Append triggers."""
        mine = records.copy()
        mine["number"] = np.arange(self.count + 1, self.count + 1 + len(mine))
        self.count += len(mine)
        self._put(mine.tobytes())

    def retry(self) -> None:
        """Try again to write what waits."""
        if self._left:
            self._put(b"")

    def close(self) -> None:
        """End the journal; what could not be written by now is told, and lost."""
        self.retry()
        if self._left:
            log.error("%s ends %d bytes too early: %s", self.path, len(self._left), self._error)
        os.fchmod(self._fd, MODE_WHOLE)
        os.close(self._fd)

    def _put(self, data: bytes) -> None:
        self._left += data
        try:
            while self._left:
                self._left = self._left[os.write(self._fd, self._left) :]
        except OSError as error:
            if self._error is None:
                log.error("%s cannot be written, no pulse fires until it can: %s", self.path, error.strerror)
            self._error = error
            return
        if self._error is not None:
            log.warning("%s can be written again", self.path)
            self._error = None


def read_journal(path: str | Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return header (1,) and records (n,) of a journal; one cut off by a kill ends with its last whole record. JournalError: it is none."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise JournalError(f"it cannot be read: {error.strerror}", path=str(path)) from error
    if len(raw) < HEADER.itemsize:
        raise JournalError("it is shorter than a header", path=str(path))
    header = np.frombuffer(raw, HEADER, 1)
    if header["magic"][0] != MAGIC or header["version"][0] != VERSION:
        raise JournalError("it is no journal of triggers, or of another version", path=str(path))
    size = wire.TRIGGER.itemsize
    return header, np.frombuffer(raw, wire.TRIGGER, (len(raw) - HEADER.itemsize) // size, HEADER.itemsize)
