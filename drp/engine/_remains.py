"""Ending what a dead nursery leaves: its workers and theirs, which have become children of drp, a subreaper.

What is ours is known by its pid, by the session of a worker, or by a variable in the environment it was
started with, whose value no other nursery has. Other children of drp are not touched.
"""

import os
import select
import signal
import time
from collections.abc import Collection

from drp.script.nursery_wire import Reaped
from drp.script.process import children, initial_environment, process_state


def kill_remains(workers: Collection[int], variable: str, value: str, limit_s: float) -> tuple[Reaped, ...]:
    """Kill and reap workers, their process groups and their strays; return how each worker ended.

    Blocks until nothing is left or `limit_s` has passed. The nursery must have been waited for: then, and
    not before, all that it had are children of this process.
    """
    for pid in workers:
        _kill_group(pid)
    deadline = time.monotonic() + limit_s
    statuses: dict[int, int] = {}
    while True:
        remains = [pid for pid in children(os.getpid()) if _is_ours(pid, workers, variable, value)]
        if not remains:
            break
        for pid in remains:
            _kill(pid)
        for pid in remains:
            status = _wait(pid, deadline)
            if status is not None:
                statuses[pid] = status
        if time.monotonic() >= deadline:
            break
    return tuple(Reaped(pid, statuses[pid], 0) for pid in workers if pid in statuses)


def _is_ours(pid: int, workers: Collection[int], variable: str, value: str) -> bool:
    if pid in workers:
        return True
    state = process_state(pid)
    return (state is not None and state.session in workers) or initial_environment(pid, variable) == value


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _wait(pid: int, deadline: float) -> int | None:
    """Reap a child that has been killed; None if it is not dead by the deadline."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(pidfd)
    dead, status = os.waitpid(pid, os.WNOHANG)
    return status if dead else None
