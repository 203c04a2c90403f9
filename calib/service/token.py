"""The token that allows to write through the service: a file of this user that nobody else can read."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from calib.errors import ServiceError

LEAST_CHARS = 16
MOST_CHARS = 512
_BEARER = "bearer "


def read_token(path: Path) -> str:
    """Return the token in a file; raise ServiceError where another user could read or change it, or it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            kept = os.fstat(descriptor)
            if not stat.S_ISREG(kept.st_mode) or kept.st_uid != os.geteuid() or kept.st_mode & 0o077:
                raise ServiceError(
                    "a token must be a file that this user owns and nobody else can read",
                    where=str(path),
                    hint=f"chmod 600 {path}",
                )
            text = file.read(MOST_CHARS + 1)
    except OSError as error:
        raise ServiceError(f"the token cannot be read: {error.strerror}", where=str(path)) from error
    token = text.decode("ascii", "replace").strip()
    if not LEAST_CHARS <= len(token) <= MOST_CHARS or not all("!" <= one <= "~" for one in token):
        raise ServiceError(
            f"a token is {LEAST_CHARS} to {MOST_CHARS} printable characters without spaces", where=str(path)
        )
    return token


def make_token(path: Path) -> str:
    """Return the token in a file, which is made, for this user only, where there is none. Raises ServiceError."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read_token(path)
    except OSError as error:
        raise ServiceError(f"the token cannot be made: {error.strerror}", where=str(path)) from error
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(secrets.token_urlsafe(32) + "\n")
    return read_token(path)


def allows(token: str | None, header: str) -> bool:
    """Say whether an Authorization header carries the token; the time taken does not tell how much of it is right."""
    if token is None or not header.lower().startswith(_BEARER):
        return False
    return hmac.compare_digest(header[len(_BEARER) :].strip().encode(), token.encode())
