"""The run directory: where the drp processes of one user on one machine leave word of themselves.

It is `$XDG_RUNTIME_DIR/drp`, else `drp-UID` in the folder for temporary files; it is ours, of mode 0700 and
not a symlink, or it is not used. Each drp process has one record file there, on which it holds an flock by a
descriptor that no child inherits: a record that can be locked is that of a process that is dead, however it
died.

A record is a journal: an update appends a line of JSON, and the last whole line counts, so a process killed
in the middle of an update leaves the record as it was before, not half of one. `sweep` removes records that
nobody locks, the sockets of those, those whose lock nobody holds (of the child of a living process none), and
nothing else. It might take a record that is made but not locked yet; who makes one
therefore looks whether it is still there once it has the lock.

This module knows nothing of segments, of data, or of what a run is.
"""

import fcntl
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from drp.core.errors import DrpError

RECORD_LIMIT_BYTES = 1024 * 1024
LINE_LIMIT_BYTES = 64 * 1024
_ATTEMPTS = 8
_SWEEP_S = 0.005
_SUFFIX = ".json"
_SOCKET = ".sock"
_SOCKET_PATH_BYTES = 107
_LOCK, _SERVED = ".lock", ".ipc"
_OF_CHILD = re.compile(r"(?:[a-z]+-)?of-([0-9]{1,10})-[A-Za-z0-9-]+\.lock")


class RunDirectoryError(DrpError):
    """A run directory that cannot be made or trusted, or a record that cannot be kept; `path` is which."""

    def __init__(self, what: str, path: Path, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.path = path

    @property
    def where(self) -> str:
        """The directory or file."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class RunEntry:
    """What a drp process says of itself.

    `started` is in seconds since 1970; `run` is the number of the run that has begun and not ended, None if
    there is none; `output_files` are those being written.
    """

    pid: int
    instrument: str
    partition: int | None
    alias: str
    started: float
    run: int | None = None
    output_files: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the entry as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the entry in a line of JSON; ValueError if it is none."""
        content = json.loads(text)
        if not isinstance(content, dict) or content.keys() != _ENTRY_TYPES.keys():
            raise ValueError("not the fields of a run entry")
        wrong = [name for name, kind in _ENTRY_TYPES.items() if not isinstance(content[name], kind)]
        if wrong or not all(isinstance(file, str) for file in content["output_files"]):
            raise ValueError(f"wrong type of {', '.join(wrong) or 'output_files'}")
        return cls(**content | {"output_files": tuple(content["output_files"])})


_NoneType = type(None)
_ENTRY_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "pid": int,
    "instrument": str,
    "partition": (int, _NoneType),
    "alias": str,
    "started": (int, float),
    "run": (int, _NoneType),
    "output_files": list,
}


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What a dead process left, which is removed now; `entry` is None if it could not be read."""

    path: Path
    entry: RunEntry | None

    def __str__(self) -> str:
        entry = self.entry
        if entry is None:
            return f"{self.path.name}: the record of a drp process that was killed cannot be read"
        if entry.run is None:
            return f"{entry.alias} of {entry.instrument} (pid {entry.pid}) was killed between runs"
        files = ", ".join(entry.output_files) or "none"
        return (
            f"run {entry.run} of {entry.alias} of {entry.instrument} has no EndRun: drp (pid {entry.pid}) "
            f"was killed; files, readable up to the last whole datagram: {files}"
        )


def run_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return the run directory, made if it is not there; RunDirectoryError if it is not safe to use.

    A runtime directory that is not ours, as sudo leaves it in the environment, is passed over.
    """
    runtime = (os.environ if environment is None else environment).get("XDG_RUNTIME_DIR", "")
    temporary = Path(tempfile.gettempdir()) / f"drp-{os.geteuid()}"
    path = Path(runtime) / "drp" if runtime and _is_ours(Path(runtime)) else temporary
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        # Something else than a directory: opening it says what.
        pass
    except OSError as error:
        raise RunDirectoryError(f"cannot be made: {error.strerror}", path, hint=_HINT) from error
    with _opened(path):
        return path


_HINT = "Set XDG_RUNTIME_DIR to a directory of your own"


def _is_ours(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return path.is_absolute() and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open the run directory and check it; its name may become another's, the descriptor does not."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise RunDirectoryError(
            f"cannot be opened as a directory: {error.strerror}", path, hint=f"Remove it. {_HINT}"
        ) from error
    try:
        status = os.fstat(fd)
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid():
            raise RunDirectoryError(
                f"belongs to uid {status.st_uid}, expected {os.geteuid()}", path, hint=f"Remove it. {_HINT}"
            )
        if mode & 0o077:
            raise RunDirectoryError(
                f"has mode {mode:04o}, expected 0700: others can reach into it",
                path,
                hint=f"chmod 700 {path}",
            )
        yield fd
    finally:
        os.close(fd)


class RunRecord:
    """The record of this process, there as long as the `with` block lasts."""

    def __init__(self, directory: Path, entry: RunEntry) -> None:
        """Take the run directory and what the record says at first."""
        self._directory = directory
        self._entry = entry
        self._name = ""
        self._fd = -1

    @property
    def path(self) -> Path:
        """The record's file."""
        return self._directory / self._name

    def socket_path(self, name: str) -> Path:
        """Return where this process may have a socket; a long name is cut, for the path of a socket is short.

        It stands beside the record and bears its name, by which a sweep knows whose it is: remove it before the record.
        """
        stem = self._name.removesuffix(_SUFFIX)
        room = _SOCKET_PATH_BYTES - len(os.fsencode(self._directory)) - len(f"/.{stem}{_SOCKET}")
        return self._directory / f"{name[: max(8, room)]}.{stem}{_SOCKET}"

    def __enter__(self) -> Self:
        with _opened(self._directory) as directory_fd:
            for _ in range(_ATTEMPTS):
                self._name = f"{self._entry.pid}-{secrets.token_hex(4)}{_SUFFIX}"
                self._fd = self._create(directory_fd)
                if self._fd >= 0:
                    break
            else:
                raise RunDirectoryError(
                    f"the record was swept {_ATTEMPTS} times before it was locked", self.path
                )
        try:
            self.update()
        except RunDirectoryError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        # The directory may be gone, as a session's is when its user logs out; what stays is swept at the next start.
        with suppress(RunDirectoryError, OSError), _opened(self._directory) as directory_fd:
            if _stands(directory_fd, self._name, self._fd):
                os.unlink(self._name, dir_fd=directory_fd)
        os.close(self._fd)
        self._fd = -1

    def update(self, **changes: Any) -> None:
        """Change fields of the entry and write it; RunDirectoryError if that cannot be written."""
        entry = replace(self._entry, **changes)
        # The newline before it ends what an update that failed may have left.
        line = f"\n{entry.to_json()}\n".encode()
        if len(line) > LINE_LIMIT_BYTES:
            raise RunDirectoryError(
                f"an entry of {len(line)} bytes is over the limit of {LINE_LIMIT_BYTES}", self.path
            )
        try:
            if os.fstat(self._fd).st_size + len(line) > RECORD_LIMIT_BYTES:
                os.ftruncate(self._fd, 0)
            written = os.write(self._fd, line)
        except OSError as error:
            raise RunDirectoryError(f"cannot be written: {error.strerror}", self.path) from error
        if written != len(line):
            raise RunDirectoryError("cannot be written: no space left", self.path)
        self._entry = entry

    def _create(self, directory_fd: int) -> int:
        """Create and lock the file; -1 if a sweep was quicker."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._name, flags, 0o600, dir_fd=directory_fd)
        except OSError as error:
            raise RunDirectoryError(f"cannot be made: {error.strerror}", self.path) from error
        if _locked(fd) and _stands(directory_fd, self._name, fd):
            return fd
        os.close(fd)
        return -1


def sweep(directory: Path) -> list[Abandoned]:
    """Remove the records that no living process locks, and return what they said; touch nothing else."""
    abandoned: list[Abandoned] = []
    with _opened(directory) as directory_fd:
        for name in sorted(os.listdir(directory_fd)):
            if name.endswith(_SUFFIX):
                abandoned += _sweep_one(directory_fd, directory / name)
        for name in os.listdir(directory_fd):
            if name.endswith(_SOCKET):
                _sweep_socket(directory_fd, name)
            elif name.endswith(_LOCK) and not _may_be_served_yet(name):
                _sweep_served(directory_fd, name)
    return abandoned


def name_for_child() -> str:
    """Return a name under which a child of this process may serve a socket; nobody else's, and swept when both are dead.

    Others of its sockets may have names that end in this one after a word and "-".
    """
    return f"of-{os.getpid()}-{secrets.token_hex(3)}"


def remove_served(path: Path) -> None:
    """Remove the sockets of a child whose own name this path has, which nobody serves any more, and their locks."""
    for suffix in (_SERVED, _LOCK):
        for one in path.parent.glob(f"*{path.stem}{suffix}"):
            one.unlink(missing_ok=True)


def look(directory: Path) -> list[tuple[RunEntry, bool]]:
    """Return what the records in the run directory say, and whether the process of each lives; change nothing."""
    found: list[tuple[RunEntry, bool]] = []
    with _opened(directory) as directory_fd:
        for name in sorted(os.listdir(directory_fd)):
            if not name.endswith(_SUFFIX):
                continue
            try:
                fd = os.open(
                    name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd
                )
            except OSError:
                continue
            try:
                entry = _last_entry(os.pread(fd, RECORD_LIMIT_BYTES, 0)) if _is_record(fd) else None
                if entry is not None:
                    found.append((entry, not _locked(fd)))
            finally:
                os.close(fd)
    return found


def _sweep_one(directory_fd: int, path: Path) -> Sequence[Abandoned]:
    try:
        fd = os.open(path.name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    except OSError:
        # Gone meanwhile, a symlink or a directory: not a record of ours.
        return ()
    try:
        if not _is_record(fd) or not _locked(fd) or not _stands(directory_fd, path.name, fd):
            return ()
        text = os.pread(fd, RECORD_LIMIT_BYTES, 0)
        os.unlink(path.name, dir_fd=directory_fd)
    finally:
        os.close(fd)
    # An empty one was made and never written: its process had not begun.
    return (Abandoned(path, _last_entry(text)),) if text else ()


def _may_be_served_yet(lock: str) -> bool:
    """Say whether the name is one that a living process gave a child, which serves it in its own time."""
    found = _OF_CHILD.fullmatch(lock)
    return found is not None and Path("/proc", found[1]).exists()


def lock_of_name(path: Path) -> int:
    """Return the lock, held, of the socket of this path; -1 where another process holds it."""
    for _ in range(_ATTEMPTS):
        fd = os.open(path.with_suffix(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        held = _locked(fd)
        with _opened(path.parent) as directory_fd:
            if held and _stands(directory_fd, path.with_suffix(_LOCK).name, fd):
                return fd
        os.close(fd)
        if not held:
            # Perhaps by a sweep, which is over in a moment.
            time.sleep(_SWEEP_S)
    return -1


def remove_name(path: Path) -> None:
    """Remove the socket of this path and its lock, which this process holds."""
    for suffix in (_SERVED, _LOCK):
        with suppress(OSError):
            path.with_suffix(suffix).unlink()


def _sweep_served(directory_fd: int, lock: str) -> None:
    """Remove a socket and its lock, unless somebody serves it still."""
    with suppress(OSError):
        fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
        try:
            if _is_record(fd) and _locked(fd) and _stands(directory_fd, lock, fd):
                with suppress(FileNotFoundError):
                    os.unlink(lock.removesuffix(_LOCK) + _SERVED, dir_fd=directory_fd)
                os.unlink(lock, dir_fd=directory_fd)
        finally:
            os.close(fd)


def _sweep_socket(directory_fd: int, name: str) -> None:
    """Remove a socket whose record is gone; a record is there before its socket, and is removed after it."""
    stem = name.removesuffix(_SOCKET).rpartition(".")[2]
    try:
        os.stat(f"{stem}{_SUFFIX}", dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=directory_fd)


def _is_record(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _last_entry(text: bytes) -> RunEntry | None:
    for line in reversed(text.split(b"\n")):
        try:
            return RunEntry.from_json(line.decode())
        except (ValueError, RecursionError):
            continue
    return None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands(directory_fd: int, name: str, fd: int) -> bool:
    """Say whether the name in the directory is still that of the open file."""
    try:
        named = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))
