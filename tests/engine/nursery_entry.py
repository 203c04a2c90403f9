"""The entry point of the workers in these tests: it does what its spec says. Imports nothing of pytest."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What one worker of a test does, and the arguments of that."""

    do: str
    worker: int = 0
    args: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"do": self.do, "worker": self.worker, "args": self.args})

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def main(spec: WorkerSpec) -> int:
    return int(globals()[spec.do](**spec.args) or 0)


def leave(code: int) -> int:
    return code


def hang() -> None:
    print("hanging", flush=True)
    while True:
        signal.pause()


def say(text: str, to: str = "stdout") -> None:
    print(text, file=getattr(sys, to))


def fail() -> None:
    raise ValueError("the script's own fault")


def leave_early() -> None:
    raise SystemExit("enough")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def tell_time() -> None:
    print(time.monotonic_ns())


def describe() -> None:
    """Print what the nursery gave this worker."""
    import numpy

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    proc = Path("/proc/self")
    what = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "group": os.getpgid(0),
        "name": (proc / "comm").read_text().strip(),
        "oom_score_adj": int((proc / "oom_score_adj").read_text()),
        "coredump_filter": int((proc / "coredump_filter").read_text(), 16),
        "has_segments": "/SYSV" in (proc / "maps").read_text(),
        "threads": len(list((proc / "task").iterdir())),
        "descriptors": {fd.name: str(fd.readlink()) for fd in (proc / "fd").iterdir() if fd.exists()},
        "default_signals": [signal.getsignal(number) == signal.SIG_DFL for number in signals],
        "blocked_signals": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "stdin": sys.stdin.read(),
        "line_buffering": sys.stdout.line_buffering,
        "environment": dict(os.environ),
        "random": float(numpy.random.random()),
    }
    print(json.dumps(what))


def write_everywhere() -> None:
    """Write to every descriptor that there is, and to those there might be."""
    for fd in range(3, 64):
        try:
            os.write(fd, b'{"kind": "Ready", "pid": 1}')
        except OSError:
            continue
    print("wrote")


def leave_stray(how: str, then: str) -> None:
    """Start a process that outlives this one unless it is killed, print its pid, and end as told."""
    sleep = ["/bin/sleep", "1000"]
    if how == "same-group":
        pid = subprocess.Popen(sleep).pid
    elif how == "own-session":
        pid = subprocess.Popen(sleep, start_new_session=True).pid
    elif how == "no-environment":
        pid = subprocess.Popen(sleep, start_new_session=True, env={}).pid
    elif how == "forked":
        pid = _forked_session()
    else:
        pid = _daemon(sleep)
    print(pid, flush=True)
    if then == "hang":
        hang()
    if then == "crash":
        crash()


def _daemon(command: list[str]) -> int:
    """Start a process whose parent is gone already when it is known here."""
    out, back = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.write(back, str(daemon.pid).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    return int(os.read(out, 20))


def _forked_session() -> int:
    """Fork a process that leaves this session without exec; it has left once its pid is known here."""
    out, back = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.write(back, b"+")
        while True:
            signal.pause()
    os.read(out, 1)
    return pid
