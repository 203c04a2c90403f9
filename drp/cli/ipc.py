"""The `drp-ipc` command: what drp processes of this user hold, and what dead ones left.

Shared memory of drp is marked for removal as soon as it is made, so the kernel frees it with the last process; what can be left is the
record of a run in the run directory, and `clean` removes those that no living process holds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drp.core.errors import DrpError
from drp.core.units import si
from drp.link.rundir import RunEntry, look, run_directory, sweep

SHM_TABLE = Path("/proc/sysvipc/shm")


@dataclass(frozen=True, slots=True)
class SharedSegment:
    """A row of the kernel's table of SysV segments: sizes in bytes, `attached` processes, `maker` is a pid.

    `used_bytes` is memory; the rest was never touched.
    """

    id: int
    size_bytes: int
    maker: int
    attached: int
    used_bytes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drp-ipc command with `argv` (default: the process's own) and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="drp-ipc", description="Show or clear what drp processes of this user hold."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|clean")
    verbs.add_parser("ls", help="list running drp processes, their shared memory, and what dead ones left")
    verbs.add_parser("clean", help="remove what dead drp processes left, and nothing else")
    verb = parser.parse_args(sys.argv[1:] if argv is None else argv).verb
    try:
        directory = run_directory()
        lines = (
            list_all(look(directory), segments())
            if verb == "ls"
            else [f"removed: {one}" for one in sweep(directory)]
        )
    except (DrpError, OSError) as error:
        print(f"drp-ipc: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines or ["nothing"]))
    return 0


def segments(table: Path = SHM_TABLE) -> list[SharedSegment]:
    """Return the kernel's SysV segments."""
    head, *rows = (line.split() for line in table.read_text().splitlines())
    columns = [head.index(name) for name in ("shmid", "size", "cpid", "nattch", "rss")]
    return [SharedSegment(*(int(row[column]) for column in columns)) for row in rows]


def list_all(entries: Sequence[tuple[RunEntry, bool]], shared: Sequence[SharedSegment]) -> list[str]:
    """Return the lines of `ls`: each drp process, its segments below it; then what dead ones left."""
    lines: list[str] = []
    for entry, alive in entries:
        run = "between runs" if entry.run is None else f"run {entry.run}"
        state = "running" if alive else "dead, drp-ipc clean removes its record"
        lines.append(
            f"pid {entry.pid}  {entry.alias} of {entry.instrument}, partition {entry.partition}, {run}: {state}"
        )
        mine = [one for one in shared if alive and one.maker == entry.pid]
        lines += [
            f"  segment {one.id}  {si(one.size_bytes, 'B')}, {si(one.used_bytes, 'B')} of it used, attached by {one.attached}"
            for one in mine
        ]
    return lines
