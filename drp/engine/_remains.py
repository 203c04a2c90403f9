"""Ending what a dead nursery leaves: its workers and theirs, which have become children of drp, a subreaper.

What came from the nursery is known by its pid, by the session of a worker, or by the nursery's variable in
the environment it was started with. A process that has neither, but a session that is not drp's, has hidden
where it came from: drp itself starts nothing in another session but nurseries. Children that drp had before
the nursery, and those of another nursery, are not touched.
"""

import os
import select
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass

from drp.script.nursery_wire import NURSERY_VARIABLE, Reaped
from drp.script.process import children, initial_environment, process_state


@dataclass(frozen=True, slots=True)
class Origin:
    """How to know what came from a nursery: its value of the variable, and drp's children from before."""

    cookie: str
    older: frozenset[int]


def kill_remains(workers: Collection[int], origin: Origin, limit_s: float) -> tuple[Reaped, ...]:
    """Kill and reap workers, their process groups and their strays; return how each worker ended.

    Blocks until nothing is left or `limit_s` has passed. The nursery must have been waited for: then, and
    not before, all that it had are children of this process.
    """
    for pid in workers:
        _kill_group(pid)
    deadline = time.monotonic() + limit_s
    statuses: dict[int, int] = {}
    while True:
        remains = [pid for pid in children(os.getpid()) if _is_ours(pid, workers, origin)]
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


def _is_ours(pid: int, workers: Collection[int], origin: Origin) -> bool:
    if pid in workers:
        return True
    state = process_state(pid)
    if state is None or pid in origin.older:
        return False
    cookie = initial_environment(pid, NURSERY_VARIABLE)
    if cookie is not None:
        return cookie == origin.cookie
    return state.session in workers or state.session != os.getsid(0)


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
