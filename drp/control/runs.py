"""What control must not forget: run numbers, by experiment, and where the partition stood.

A run number is given out once, whatever happens afterwards: it is on disk before anybody hears of it, and two controls that share the folder take
turns by an flock. The state of a partition is one file, replaced as a whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from drp.core.errors import DrpError

MAX_FILE_BYTES = 1 << 20
_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class StoreError(DrpError):
    """A file of control's that cannot be read or written; `path` is which."""

    def __init__(self, what: str, path: Path, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.path = path

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)


class Store:
    """A folder of control's own, made where it is not there."""

    def __init__(self, folder: Path) -> None:
        """StoreError where the folder cannot be made."""
        self.folder = folder
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder cannot be made: {error.strerror}", folder) from error

    def last_run(self, experiment: str) -> int:
        """Return the last run number that was given out, 0 where there is none."""
        path = self._runs(experiment)
        try:
            text = path.read_text()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreError(f"cannot be read: {error.strerror}", path) from error
        return _number(text, path)

    def next_run(self, experiment: str) -> int:
        """Return the next run number of an experiment; nobody gets it again. StoreError where that cannot be promised."""
        path = self._runs(experiment)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            with os.fdopen(fd, "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                run = _number(file.read(), path) + 1
                # A line is added and none is changed: killed in between, no number gets lost.
                file.write(f"\n{run}\n")
                file.flush()
                os.fsync(file.fileno())
            _sync(self.folder)
        except OSError as error:
            raise StoreError(
                f"the next run number cannot be kept: {error.strerror}", path, hint="Nothing was begun"
            ) from error
        return run

    def save(self, name: str, content: dict[str, Any]) -> None:
        """Replace a file of JSON; StoreError."""
        path = self.folder / f"{name}.json"
        path.parent.mkdir(mode=0o755, exist_ok=True)
        new = path.with_suffix(".new")
        try:
            new.write_text(json.dumps(content, indent=1) + "\n")
            new.replace(path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            raise StoreError(f"cannot be written: {error.strerror}", path) from error

    def load(self, name: str) -> dict[str, Any]:
        """Return what was saved, empty where nothing was; StoreError."""
        path = self.folder / f"{name}.json"
        try:
            content = json.loads(path.read_bytes()[:MAX_FILE_BYTES])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"cannot be read: {error}", path, hint="Remove it") from error
        if not isinstance(content, dict):
            raise StoreError("holds no JSON object", path, hint="Remove it")
        return content

    def _runs(self, experiment: str) -> Path:
        if not _EXPERIMENT.fullmatch(experiment):
            raise StoreError(f"{experiment!r} is no name of an experiment", self.folder)
        return self.folder / f"{experiment}.runs"


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _number(text: str, path: Path) -> int:
    try:
        return max(map(int, text.split()), default=0)
    except ValueError:
        raise StoreError(
            "holds no run numbers",
            path,
            hint="Write the last number that was used into it, on a line of its own",
        ) from None
