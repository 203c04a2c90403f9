"""Payloads fetched from a service, kept on this disk for the next time: a private folder, one file each, checked whenever it is read.

A payload's id never comes to mean another payload, so nothing here goes stale. A cache that cannot be used is as good as an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LOG = logging.getLogger("calib.client")
MAX_BYTES = 8 << 30
_DIGEST_BYTES = 32


def default_folder() -> Path:
    """Return the user's folder for this cache: below $XDG_CACHE_HOME."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "drp" / "calib"


class PayloadCache:
    """Keep payloads by key, the least recently used going first beyond `max_bytes`."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._usable = _own(folder)

    def get(self, key: str, size: int | None) -> NDArray[np.uint8] | None:
        """Return a payload, of `size` bytes where that is known, or None where it is not here, or not whole."""
        if not self._usable:
            return None
        path = self._path(key)
        try:
            with path.open("rb") as file:
                held = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
                if held < 0 or (size is not None and held != size):
                    raise ValueError("its size is another")
                digest = file.read(_DIGEST_BYTES)
                data = np.empty(held, np.uint8)
                if file.readinto(data.data) != held or hashlib.sha256(data.data).digest() != digest:
                    raise ValueError("its bytes have changed")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            LOG.warning("cache of constants: %s is not used: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return data

    def put(self, key: str, data: NDArray[np.uint8]) -> None:
        """Keep a payload; a disk that is full, or no folder, is told in the log and no error."""
        if not self._usable or data.nbytes + _DIGEST_BYTES > self._max_bytes:
            return
        try:
            self._make_room(data.nbytes + _DIGEST_BYTES)
            descriptor, draft = tempfile.mkstemp(prefix=".draft-", dir=self._folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(data.data).digest())
                    file.write(data.data)
                Path(draft).rename(self._path(key))
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
        except OSError as error:
            LOG.warning("cache of constants: %s: %s", self._folder, error)

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _make_room(self, wanted: int) -> None:
        kept = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                kept.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total + wanted <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def _own(folder: Path) -> bool:
    """Make the folder where there is none, and say whether it is this user's alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = folder.lstat()
    except OSError as error:
        LOG.warning("cache of constants: %s: %s; constants are fetched each time", folder, error)
        return False
    if stat.S_ISDIR(kept.st_mode) and kept.st_uid == os.geteuid() and not kept.st_mode & 0o077:
        return True
    LOG.warning("cache of constants: %s is not this user's alone, so it is not used; chmod 700 it", folder)
    return False
