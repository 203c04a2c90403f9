"""The files of a run: what they are called, how they are opened, and what they are called when they
are whole.

While a file is written its name ends in `.inprogress`, its mode is 0640, and an flock on it says that
somebody writes. A file that is whole has its plain name and mode 0440 and is never opened again. What a
dead drp left behind is moved aside, never touched. Nothing here knows what is in the files.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drp.core.errors import RecorderError
from drp.sink._writer import FileWriter
from xtc import FileName

WORD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}\Z")
MAX_RUN = 9999
MAX_STREAM = 999
MAX_CHUNK = 999
IN_PROGRESS = ".inprogress"
NO_END = ".noendrun"
MODE_OPEN = 0o640
MODE_WHOLE = 0o440
MODE_FOLDER = 0o770
SMD_STAGING_BYTES = 64 << 10
MAX_ASIDE = 1000
# What file systems without hard links answer, those in user space ENOSYS.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the files of one run and stream are:
    `<root>/<instrument>/<experiment>/xtc/<experiment>-r0001-s000-c000.xtc2`.

    Raises RecorderError for a name that could leave the folder, or a number that has no place in the
    file's name.
    """

    root: Path
    instrument: str
    experiment: str
    run: int
    stream: int = 0

    def __post_init__(self) -> None:
        for what, word in (("instrument", self.instrument), ("experiment", self.experiment)):
            if not WORD.match(word):
                raise RecorderError(
                    f"the {what} {word[:80]!r} cannot be part of a file's name",
                    path=str(self.root),
                    hint="It takes up to 64 letters, digits, '_', '-' and '.'; name one with -P or --expt.",
                )
        for what, number, most in (("run", self.run, MAX_RUN), ("stream", self.stream, MAX_STREAM)):
            if not 0 <= number <= most:
                raise RecorderError(
                    f"the {what} number {number} is outside 0..{most}",
                    path=str(self.root),
                    hint="Name one with --run.",
                )

    @property
    def folder(self) -> Path:
        """The folder of the big files."""
        return self.root / self.instrument / self.experiment / "xtc"

    def name(self, chunk: int) -> str:
        """Return the name of the big file of a chunk, without folder."""
        return str(FileName(self.experiment, self.run, self.stream, chunk))

    def big(self, chunk: int) -> Path:
        """Return the path of the big file of a chunk."""
        return self.folder / self.name(chunk)

    def smd(self) -> Path:
        """Return the path of the smd file, one for all chunks."""
        return self.folder / "smalldata" / str(FileName(self.experiment, self.run, self.stream, 0, smd=True))


@dataclass(frozen=True, slots=True)
class FileReport:
    """A file that was closed. `lost_bytes` and `lost_dgrams`: accepted before, and not in it; `whole`:
    it has its plain name.
    """

    path: Path
    size_bytes: int
    lost_bytes: int
    lost_dgrams: int
    whole: bool


class OutputFile:
    """One open file and its writer, from `.inprogress` to its plain name. The caller closes it, once."""

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        writer_bytes: int | None = None,
        before: FileWriter | None = None,
    ) -> None:
        """Create the file for `path`, with its folders.

        Raises RecorderError where a whole file is there and `overwrite` is not set, where another process
        writes it, and where the system refuses.
        """
        self.path = path
        self.overwrite = overwrite
        self._partial = path.with_name(path.name + IN_PROGRESS)
        try:
            _make_folder(path.parent)
            self._refuse_whole()
            self._fd = _create(self._partial)
        except OSError as error:
            raise RecorderError(
                f"the file cannot be made: {error.strerror}",
                path=str(path),
                errno=error.errno,
                hint="Name another folder with -o, or make room.",
            ) from error
        self.writer = (
            FileWriter(self._fd, before=before)
            if writer_bytes is None
            else FileWriter(self._fd, writer_bytes, before=before)
        )

    def _refuse_whole(self) -> None:
        if self.path.exists() and not self.overwrite:
            raise RecorderError(
                "the file is there and whole, and is not written over",
                path=str(self.path),
                errno=errno.EEXIST,
                hint="Name another folder with -o, or say --overwrite; where no control counts the runs, --run names another.",
            )

    def discard(self) -> None:
        """Close the file and remove it: nothing of a run is in it."""
        try:
            self._partial.unlink(missing_ok=True)
        finally:
            os.close(self._fd)

    def close(self, *, whole: bool) -> FileReport:
        """Write what is left and give the file its name: the plain one where it is `whole`, else
        `<name>.noendrun`.

        What cannot be written is cut off after the last whole dgram and reported, and the file is then
        not whole. Raises RecorderError where even that fails; the file is closed all the same.
        """
        try:
            told = self.writer.finish()
            whole = whole and not told["lost_dgrams"]
            if whole:
                self._refuse_whole()
                os.fchmod(self._fd, MODE_WHOLE)
                self._partial.replace(self.path)
                at = self.path
            else:
                at = _move_aside(self._partial, self.path)
                _log.warning("%s: the run has no end in it", at)
        except OSError as error:
            raise RecorderError(
                f"the file cannot be closed: {error.strerror}", path=str(self._partial), errno=error.errno
            ) from error
        finally:
            os.close(self._fd)
        return FileReport(at, told["bytes"], told["lost_bytes"], told["lost_dgrams"], whole)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each with the mode of ours: mkdir gives it to the last one only."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=MODE_FOLDER, exist_ok=True)


def _create(partial: Path) -> int:
    """Return the descriptor of a new, locked file; a stale one of that name is moved aside first."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(partial, flags, MODE_OPEN)
    except FileExistsError:
        _clear_stale(partial)
        fd = os.open(partial, flags, MODE_OPEN)
    try:
        _lock(fd, partial)
        os.fchmod(fd, MODE_OPEN)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _clear_stale(partial: Path) -> None:
    # It may be anybody's by now: a link is not followed, a FIFO not waited for.
    fd = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "something that is no file has its name", str(partial))
        _lock(fd, partial)
        aside = _move_aside(partial, partial.with_name(partial.name.removesuffix(IN_PROGRESS)))
    finally:
        os.close(fd)
    _log.warning("%s: left behind by a drp that did not end its run; it is now %s", partial, aside.name)


def _lock(fd: int, partial: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecorderError(
            "another process is writing this file",
            path=str(partial),
            errno=errno.EWOULDBLOCK,
            hint="Name another folder with -o; where no control counts the runs, --run names another.",
        ) from None
    except OSError as error:
        _log.warning("%s: this file system has no locks (%s)", partial, error.strerror)


def _move_aside(partial: Path, final: Path) -> Path:
    """Rename without writing over anything: `<name>.noendrun`, then `.noendrun.1` and so on."""
    for aside in _aside_names(final):
        try:
            os.link(partial, aside, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if aside.exists():
                continue
            partial.rename(aside)
            return aside
        partial.unlink()
        return aside
    raise RecorderError(
        "too many files of runs without an end",
        path=str(final),
        hint="Move them away, or name another folder with -o.",
    )


def _aside_names(final: Path) -> Iterator[Path]:
    yield final.with_name(final.name + NO_END)
    for number in range(1, MAX_ASIDE):
        yield final.with_name(f"{final.name}{NO_END}.{number}")
