"""Attributes and kin of Linux processes: what prctl sets, and what /proc says of children.

Used at both ends of the nursery's socket. It knows nothing of workers, and holds no state.
"""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
NAME_LIMIT_BYTES = 15
ENVIRON_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What /proc/PID/stat says of a process: its one-letter state, its parent, process group and session."""

    state: str
    parent: int
    group: int
    session: int


def _prctl(option: int, argument: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    if libc.prctl(ctypes.c_int(option), value, zero, zero, zero) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def set_parent_death_signal(number: int) -> None:
    """Ask for a signal when the parent thread dies; the caller then checks that it is not dead already."""
    _prctl(PR_SET_PDEATHSIG, number)


def set_name(name: str) -> None:
    """Name this thread as ps and top show it; beyond 15 bytes the name is cut."""
    _prctl(PR_SET_NAME, name.encode()[:NAME_LIMIT_BYTES])


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def process_state(pid: int) -> ProcessState | None:
    """Return the state of a process; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold anything, brackets and blanks too.
    state, parent, group, session = text.rpartition(")")[2].split()[:4]
    return ProcessState(state, int(parent), int(group), int(session))


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process, zombies included.

    None is missed unless another thread of that process reaps one at the same moment.
    """
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        # A thread that ended meanwhile, or a kernel built without that file.
        return _children_by_scan(pid)
    return found


def _children_by_scan(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state = process_state(int(entry.name))
            if state is not None and state.parent == pid:
                found.append(int(entry.name))
    return found


def resident_bytes(pid: int) -> int:
    """Return the memory a process has in use; 0 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def initial_environment(pid: int, name: str) -> str | None:
    """Return a variable of the environment a process was started with; None if unset or not to be read."""
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            text = file.read(ENVIRON_LIMIT_BYTES)
    except OSError:
        return None
    start = name.encode() + b"="
    for item in text.split(b"\0"):
        if item.startswith(start):
            return item[len(start) :].decode(errors="replace")
    return None
