"""Another user on the same machine, who tries to get at a drp that runs.

An intruder is a forked child that has given up root for the uid of nobody: the kernel answers it as it would answer a stranger. Each attempt
is a call; what is returned are the names of those that succeeded.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

NOBODY = 65534
SHM_RDONLY = 0o10000
IPC_RMID, IPC_STAT = 0, 2
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
FAILED = ctypes.c_void_p(-1).value
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p

Attempt = Callable[[], object]


def succeed(attempts: Mapping[str, Attempt]) -> list[str]:
    """Try all of them as nobody; return the names of those that the system allowed."""
    return list(
        as_nobody(lambda: [name for name, attempt in attempts.items() if allowed(attempt)])  # type: ignore[call-overload]
    )


def as_nobody(call: Callable[[], object]) -> object:
    """Call as nobody, and return what came of it, which must be what JSON can hold."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            # Who changes its uid is not dumpable; the attempts must fail for being another user, not for that.
            LIBC.prctl(4, 1, 0, 0, 0)
            os.write(writing, json.dumps(call()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(told)


def allowed(attempt: Attempt) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def must(result: int) -> int:
    if result in (-1, FAILED):
        raise OSError(ctypes.get_errno(), "refused")
    return result


def on_segment(shm_id: int) -> dict[str, Attempt]:
    """What can be tried on a SysV segment."""
    place = ctypes.create_string_buffer(256)
    return {
        f"read segment {shm_id}": lambda: must(LIBC.shmat(shm_id, None, SHM_RDONLY)),
        f"write segment {shm_id}": lambda: must(LIBC.shmat(shm_id, None, 0)),
        f"stat segment {shm_id}": lambda: must(LIBC.shmctl(shm_id, IPC_STAT, place)),
        f"remove segment {shm_id}": lambda: must(LIBC.shmctl(shm_id, IPC_RMID, None)),
    }


def on_process(pid: int) -> dict[str, Attempt]:
    """What can be tried on a process."""
    zero = ctypes.c_void_p(0)
    return {
        f"signal {pid}": lambda: os.kill(pid, 0),
        f"stop {pid}": lambda: os.kill(pid, signal.SIGURG),
        f"signal by pidfd {pid}": lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGURG),
        f"ptrace {pid}": lambda: must(LIBC.ptrace(PTRACE_ATTACH, pid, zero, zero)),
        f"seize {pid}": lambda: must(LIBC.ptrace(PTRACE_SEIZE, pid, zero, zero)),
        f"memory {pid}": lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR),
        f"environment {pid}": lambda: Path(f"/proc/{pid}/environ").read_bytes(),
        f"maps {pid}": lambda: (
            os.open(f"/proc/{pid}/maps", os.O_RDONLY) and Path(f"/proc/{pid}/maps").read_bytes()
        ),
        f"descriptors {pid}": lambda: os.listdir(f"/proc/{pid}/fd"),
        f"first descriptor {pid}": lambda: os.open(f"/proc/{pid}/fd/1", os.O_WRONLY),
        f"slow down {pid}": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        f"limits {pid}": lambda: Path(f"/proc/{pid}/oom_score_adj").write_text("1000"),
    }


def on_file(path: Path) -> dict[str, Attempt]:
    """What can be tried on a file or folder."""
    if path.is_dir():
        return {
            f"list {path}": lambda: os.listdir(path),
            f"make a file in {path}": lambda: os.open(path / "intruder", os.O_CREAT | os.O_WRONLY),
        }
    return {
        f"read {path}": lambda: os.open(path, os.O_RDONLY),
        f"write {path}": lambda: os.open(path, os.O_WRONLY),
        f"rename {path}": lambda: path.rename(path.with_name("intruder")),
        f"remove {path}": path.unlink,
    }


def on_socket(address: str | tuple[str, int], family: int) -> dict[str, Attempt]:
    """Connecting to a socket that listens, or that has a name."""

    def connect() -> None:
        with socket.socket(family, socket.SOCK_STREAM) as link:
            link.connect(address)

    return {f"connect to {address}": connect}
