"""The keys that a supervisor and its followers share: two CURVE key pairs in one file of mode 0600, the same file on every machine.

The supervisor proves itself with the one pair, every follower with the other; whoever has not the file can neither ask nor
listen. The module opens no socket.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path

from calib.errors import BroadcastError

KEY_CHARACTERS = 40
MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Keys:
    """Z85 texts of 40 characters, as zmq takes them."""

    server_public: str
    server_secret: str = field(repr=False)
    client_public: str
    client_secret: str = field(repr=False)


def make_keys() -> Keys:
    """Return new keys."""
    import zmq  # noqa: PLC0415 - reading a file needs none

    pairs = [one.decode() for _ in range(2) for one in zmq.curve_keypair()]
    return Keys(*pairs)


def write_keys(path: str | Path) -> Keys:
    """Make new keys and write them to a file that is not there yet, for this user only; BroadcastError where that fails."""
    keys = make_keys()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BroadcastError(f"the key file cannot be made: {error.strerror}", where=str(path)) from error
    with os.fdopen(fd, "w") as file:
        json.dump(asdict(keys), file, indent=1)
        file.write("\n")
    return keys


def read_keys(path: str | Path) -> Keys:
    """Return the keys in a file; BroadcastError where it cannot be read, others can reach it, or it holds no keys."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = "Make one with `calib key FILE` and copy it to every machine"
        raise BroadcastError(
            f"the key file cannot be read: {error.strerror}", where=str(path), hint=hint
        ) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise BroadcastError("the key file must be a plain file of your own", where=str(path))
        if status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise BroadcastError(
                f"others can reach the keys: mode {mode}, expected 0600",
                where=str(path),
                hint=f"chmod 600 {path}",
            )
        text = os.read(fd, MAX_FILE_BYTES + 1)
    finally:
        os.close(fd)
    return _parse(text, str(path))


def _parse(text: bytes, where: str) -> Keys:
    names = tuple(Keys.__dataclass_fields__)
    try:
        content = json.loads(text) if len(text) <= MAX_FILE_BYTES else None
    except ValueError:
        content = None
    good = isinstance(content, dict) and all(
        isinstance(content.get(name), str) and len(content[name]) == KEY_CHARACTERS for name in names
    )
    if not isinstance(content, dict) or not good:
        raise BroadcastError("the file holds no keys", where=where, hint="Make another with `calib key FILE`")
    return Keys(**{name: content[name] for name in names})
