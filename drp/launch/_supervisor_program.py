"""Start processes and stay with them to learn how each ends. It is run by its path, as a process of its own that outlives who started it.

It imports nothing of drp. It reads one JSON object from stdin, {"folder", "cwd", "processes": [{"id", "argv", "env", "log"}]}, answers on stdout
with [{"id", "pid"} or {"id", "error"}], writes `<id>.exit` into the folder for each that ends, and ends with the last of them. The processes write to
their logs themselves, so they do not need it: where it is killed they go on, and only how they end is not known.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Do what the module says."""
    order: dict[str, Any] = json.load(sys.stdin)
    disposed(signal.SIG_DFL)  # a shell's background job ignores SIGINT, and so would what it starts
    names: dict[int, str] = {}
    answers = []
    for one in order["processes"]:
        try:
            pid = start(one, order["cwd"])
        except OSError as error:
            answers.append({"id": one["id"], "error": error.strerror or str(error)})
        else:
            names[pid] = one["id"]
            answers.append({"id": one["id"], "pid": pid})
    disposed(signal.SIG_IGN)
    print(json.dumps(answers), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    while names:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if found is not None:
            tell(
                Path(order["folder"]),
                names.pop(found.si_pid, ""),
                found.si_pid,
                found.si_status,
                found.si_code,
            )
            os.waitpid(found.si_pid, 0)


def disposed(how: signal.Handlers) -> None:
    """Have what a terminal sends ignored, or not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, how)


def start(one: dict[str, Any], cwd: str) -> int:
    """Start one process and return its pid; OSError where that cannot be."""
    with Path(one["log"]).open("ab") as log:
        process = subprocess.Popen(
            one["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | one["env"],
            cwd=cwd,
            start_new_session=True,
        )
    process.returncode = 0  # main waits for it
    return process.pid


def tell(folder: Path, name: str, pid: int, status: int, code: int) -> None:
    """Write how a process ended, whole or not at all."""
    if not name:
        return
    ended = {"pid": pid, "code": status if code == os.CLD_EXITED else -status, "at": time.time()}
    partial = folder / f".{name}.{pid}"
    try:
        partial.write_text(json.dumps(ended))
        partial.replace(folder / f"{name}.exit")
    except OSError:
        return  # the folder is gone, or full: nobody can be told


if __name__ == "__main__":
    main()
