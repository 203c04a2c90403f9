"""What the kernel says of running processes: CPU time, memory, descriptors, threads, segments. Read from /proc, nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """One process at one time: sizes in bytes, `private_bytes` what it alone has written."""

    rss_bytes: int
    pss_bytes: int
    private_bytes: int
    descriptors: int
    threads: int


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it, as far as they live."""
    found = [pid]
    for thread in _entries(Path(f"/proc/{pid}/task")):
        for child in _read(Path(f"/proc/{pid}/task/{thread}/children")).split():
            found += tree(int(child))
    return found


def name(pid: int) -> str:
    """Return the name a process has given itself, empty where it is gone."""
    return _read(Path(f"/proc/{pid}/comm")).strip()


def cpu_s(pid: int) -> float:
    """Return the CPU time a process has used, user and system, with its threads; 0 where it is gone."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def look(pid: int) -> Look | None:
    """Look at a process; None where it is gone."""
    sizes = {}
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()[1:]:
        key, _, value = line.partition(":")
        sizes[key] = int(value.split()[0]) * 1024
    if "Rss" not in sizes:
        return None
    descriptors, threads = (len(_entries(Path(f"/proc/{pid}/{one}"))) for one in ("fd", "task"))
    return Look(sizes["Rss"], sizes["Pss"], sizes["Private_Dirty"], descriptors, threads)


def segments(creator: int) -> int:
    """Return how many SysV shared memory segments a process has made that still exist."""
    lines = _read(Path("/proc/sysvipc/shm")).splitlines()[1:]
    return sum(int(line.split()[4]) == creator for line in lines)


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    """Look every 10 ms until `condition` is true; TimeoutError names `what` was waited for."""
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.01)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _entries(path: Path) -> list[str]:
    try:
        return [one.name for one in path.iterdir()]
    except OSError:
        return []
