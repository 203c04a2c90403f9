"""What a freshly forked child does between fork and the worker's first line.

The child has one thread and a copy of the nursery's memory. It leaves the nursery's session, signals and
descriptors behind, tells the nursery that it stands, runs the entry point, and ends in os._exit: nothing of
the nursery's own loop may ever run in it. This module knows nothing of rings or of what the entry point
does.
"""

import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from drp.script.nursery_wire import WORKER_PID_VARIABLE, Fork
from drp.script.process import set_name, set_parent_death_signal

EXIT_ESCAPED = 70
EXIT_NOT_SET_UP = 71
OOM_SCORE_ADJ = 800
# A core file without shared memory: the pebble would be in it.
COREDUMP_FILTER = 0x31
STANDS = b"+"
_READY_FD = 3
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a worker runs: `main(spec_from_json(text)) -> exit code`."""

    spec_from_json: Callable[[str], Any]
    main: Callable[[Any], int]


def load_entry(name: str) -> Entry:
    """Import `module:function` and the `WorkerSpec` that stands beside the function."""
    module_name, _, function = name.partition(":")
    module = importlib.import_module(module_name)
    return Entry(module.WorkerSpec.from_json, getattr(module, function))


def run_worker(
    entry: Entry, request: Fork, *, parent: int, stdout_fd: int, stderr_fd: int, ready_fd: int
) -> NoReturn:
    """Set the child up, say so on `ready_fd`, run the entry point, and exit with its code.

    On `ready_fd` goes `STANDS`, or the text of the error; then it is closed. An exception that leaves the
    entry point is printed to stderr, and the code is 70.
    """
    code = EXIT_NOT_SET_UP
    try:
        if _stand(request.name, parent, stdout_fd, stderr_fd, ready_fd):
            code = EXIT_ESCAPED
            code = entry.main(entry.spec_from_json(request.spec))
    except BaseException:  # noqa: BLE001  the last frame of a process that runs a user's script
        traceback.print_exc()
    finally:
        _end_pools()
        _flush()
        os._exit(code)


def _stand(name: str, parent: int, stdout_fd: int, stderr_fd: int, ready_fd: int) -> bool:
    """Set the child up and report it; False, with the reason reported, where the system refuses something."""
    report_fd = ready_fd
    try:
        _leave_nursery(parent)
        _take_descriptors(stdout_fd, stderr_fd, ready_fd)
        report_fd = _READY_FD
        _take_signals()
        _take_streams()
        _take_identity(name)
    except OSError as error:
        os.write(report_fd, str(error).encode())
        return False
    os.write(report_fd, STANDS)
    os.close(report_fd)
    return True


def _leave_nursery(parent: int) -> None:
    os.setsid()
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_NOT_SET_UP)
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ))
    Path("/proc/self/coredump_filter").write_text(hex(COREDUMP_FILTER))


def _take_descriptors(stdout_fd: int, stderr_fd: int, ready_fd: int) -> None:
    """Make 0 to 3 ours and close the rest: the nursery's socket must be out of reach of a user's script."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    os.dup2(ready_fd, _READY_FD, inheritable=False)
    os.closerange(_READY_FD + 1, os.sysconf("SC_OPEN_MAX"))


def _take_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faulthandler.enable(file=2, all_threads=True)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)


def _take_streams() -> None:
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _line_buffered(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _line_buffered(2)  # type: ignore[misc]


def _line_buffered(fd: int) -> Any:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _take_identity(name: str) -> None:
    set_name(name)
    os.environ[WORKER_PID_VARIABLE] = str(os.getpid())
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        # The standard library's generator reseeds itself after a fork; numpy's global one would be the same
        # in all.
        numpy.random.seed()


def _end_pools() -> None:
    """Let go of the pools, semaphores and folders of the script's multiprocessing: os._exit runs no exit handler, and they would stay."""
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    try:
        util._run_finalizers(0)  # pools and semaphores first, as at an exit
        util._run_finalizers()
    except Exception:  # noqa: BLE001  the script's own, in a process that ends
        traceback.print_exc()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # The script closed or replaced it, or drp no longer reads: nothing left to say it to.
            continue
