"""What procmgr knows of the processes it started: a file for each in the run directory, below `procmgr/<partition>`.

A record says who the process is, who keeps it, and where its log lies. It outlives the process, so that `status` can tell how it ended, until the
process is stopped or started again.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from drp.launch.identity import Identity
from drp.launch.plan import LaunchError
from drp.link.rundir import run_directory

LOCK_LIMIT_S = 60.0
LOCK_EVERY_S = 0.05
MAX_RECORD_BYTES = 1 << 20
_RECORD, _EXIT = ".process", ".exit"


@dataclass(frozen=True, slots=True)
class Record:
    """One process that was started. `started` is in seconds since 1970; `interrupts`: it is stopped with SIGINT."""

    id: str
    kind: str
    argv: tuple[str, ...]
    keeper: str
    process: Identity
    kept_by: Identity
    log: str
    file: str
    started: float
    interrupts: bool
    says_ready: bool

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the record in JSON; ValueError, TypeError or KeyError where it is none."""
        content = json.loads(text)
        for name in ("process", "kept_by"):
            content[name] = Identity(**content[name])
        return cls(**content | {"argv": tuple(content["argv"])})


class Folder:
    """The records of one partition; `name` is what the partition is called."""

    def __init__(self, name: str) -> None:
        """Make the folder where it is not there. Raises RunDirectoryError where there is no run directory to be trusted."""
        self.path = run_directory() / "procmgr" / name
        for folder in (self.path.parent, self.path):
            folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that starts and stops; LaunchError where another goes on doing that."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_LIMIT_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LaunchError(
                            f"another procmgr has been at work for over {LOCK_LIMIT_S:g} s",
                            place=str(self.path),
                        ) from None
                    time.sleep(LOCK_EVERY_S)
            yield
        finally:
            os.close(fd)

    def records(self) -> dict[str, Record]:
        """Return all records by id; what cannot be read is none."""
        out = {}
        for path in sorted(self.path.glob(f"*{_RECORD}")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                if path.stat().st_size <= MAX_RECORD_BYTES:
                    record = Record.from_json(path.read_text())
                    out[record.id] = record
        return dict(sorted(out.items(), key=lambda pair: pair[1].started))

    def write(self, record: Record) -> None:
        """Keep a record, in the place of one of the same id."""
        partial = self.path / f".{record.id}.{secrets.token_hex(4)}"
        partial.write_text(record.to_json())
        partial.replace(self.path / f"{record.id}{_RECORD}")

    def remove(self, process_id: str) -> None:
        """Remove everything that bears an id."""
        for suffix in (_RECORD, _EXIT, ".sock", ".pid"):
            (self.path / f"{process_id}{suffix}").unlink(missing_ok=True)

    def exit_file(self, process_id: str) -> Path:
        """Return where a supervisor of ours writes how a process ended."""
        return self.path / f"{process_id}{_EXIT}"

    def exit_code(self, record: Record) -> int | None:
        """Return what a supervisor of ours wrote, negative for a signal; None where it wrote nothing of this process."""
        try:
            content: dict[str, Any] = json.loads(self.exit_file(record.id).read_text())
            return int(content["code"]) if content["pid"] == record.process.pid else None
        except (OSError, ValueError, TypeError, KeyError):
            return None


def partitions() -> list[str]:
    """Return the names of the partitions of this user that have records."""
    folder = run_directory() / "procmgr"
    return sorted(
        path.parent.name for path in {one.parent / "x": one for one in folder.glob(f"*/*{_RECORD}")}
    )
