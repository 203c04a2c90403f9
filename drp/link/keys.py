"""The keys of a partition: two CURVE key pairs in a folder of mode 0700, the same folder on every machine.

Whoever serves a socket proves itself with the one pair, whoever connects with the other: without the folder nobody gets in, and nobody is
taken in by a false server. The module opens no socket.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from drp.core.errors import DrpError

SERVER_FILE, CLIENT_FILE = "server.key", "client.key"
KEY_CHARACTERS = 40
MAX_FILE_BYTES = 4096
_HINT = "Make keys with `control keys DIR`, and copy the folder to every machine"


class LinkError(DrpError):
    """A socket that cannot be made, or keys that cannot be used; `address` says which."""

    def __init__(self, what: str, *, address: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.address = address

    @property
    def where(self) -> str:
        """The address, folder or file."""
        return self.address


@dataclass(frozen=True, slots=True)
class Keys:
    """Z85 texts of 40 characters, as zmq takes them."""

    server_public: str
    server_secret: str = field(repr=False)
    client_public: str
    client_secret: str = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the keys in a folder; LinkError where others can reach them, or they are none."""
        _check_folder(Path(folder))
        return cls(*_read(Path(folder) / SERVER_FILE), *_read(Path(folder) / CLIENT_FILE))

    @classmethod
    def make(cls, folder: str | Path) -> Self:
        """Make new keys in a folder, made where it is not there; LinkError where there are some, or that cannot be."""
        import zmq  # noqa: PLC0415 - reading keys needs none

        folder = Path(folder)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LinkError(f"the folder cannot be made: {error.strerror}", address=str(folder)) from error
        _check_folder(folder)
        for name in (SERVER_FILE, CLIENT_FILE):
            public, secret = (one.decode() for one in zmq.curve_keypair())
            _write(folder / name, json.dumps({"public": public, "secret": secret}) + "\n")
        return cls.load(folder)


def _check_folder(folder: Path) -> None:
    try:
        status = folder.stat()
    except OSError as error:
        raise LinkError(f"no keys: {error.strerror}", address=str(folder), hint=_HINT) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()):
        raise LinkError("keys lie in a folder of your own", address=str(folder), hint=_HINT)
    _check_mode(folder, status, 0o700)


def _check_mode(path: Path, status: os.stat_result, expected: int) -> None:
    if status.st_mode & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise LinkError(
            f"others can reach the keys: mode {mode}, expected {expected:04o}",
            address=str(path),
            hint=f"chmod {expected:o} {path}",
        )


def _write(path: Path, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
    except FileExistsError:
        raise LinkError(
            "there are keys already, and they are kept",
            address=str(path),
            hint="Use them, or take another folder",
        ) from None
    except OSError as error:
        raise LinkError(f"the key cannot be written: {error.strerror}", address=str(path)) from error


def _read(path: Path) -> tuple[str, str]:
    """Return the public and the secret key in a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise LinkError(f"the key cannot be read: {error.strerror}", address=str(path), hint=_HINT) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise LinkError("a key must be a plain file of your own", address=str(path))
        _check_mode(path, status, 0o600)
        text = os.read(fd, MAX_FILE_BYTES)
    finally:
        os.close(fd)
    try:
        content = json.loads(text)
        public, secret = content["public"], content["secret"]
        good = all(isinstance(one, str) and len(one) == KEY_CHARACTERS for one in (public, secret))
    except (ValueError, LookupError, TypeError, RecursionError):
        good = False
    if not good:
        raise LinkError("the file holds no key", address=str(path), hint=_HINT)
    return public, secret
