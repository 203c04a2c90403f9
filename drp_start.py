"""The beginning of every command: signals are heeded first, and then comes what takes long to import.

The console scripts point here, outside of all packages, because importing anything of `drp` imports half of it: a Ctrl-C in that time would
print Python's traceback. Until a command runs, SIGINT, SIGTERM and SIGHUP end the process at once, since there is nothing to clean up;
then SIGINT is a KeyboardInterrupt, and for `drp`, which has workers to end, the others too.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType

EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def drp() -> int:
    """Run the `drp` command."""
    return start("drp", "drp.cli.drp", SIGNALS)


def control() -> int:
    """Run the `control` command."""
    return start("control", "drp.cli.control", SIGNALS)


def daqstate() -> int:
    """Run the `daqstate` command."""
    return start("daqstate", "drp.cli.daqstate")


def drp_ipc() -> int:
    """Run the `drp-ipc` command."""
    return start("drp-ipc", "drp.cli.ipc")


def drp_sparse() -> int:
    """Run the `drp-sparse` command."""
    return start("drp-sparse", "drp.cli.sparse")


def configdb() -> int:
    """Run the `configdb` command."""
    return start("configdb", "drp.cli.configdb")


def procmgr() -> int:
    """Run the `procmgr` command."""
    return start("procmgr", "drp.cli.procmgr")


def procstat() -> int:
    """Run the `procstat` command."""
    return start("procstat", "drp.cli.procstat")


def timing() -> int:
    """Run the `timing` command."""
    return start("timing", "drp.cli.timing", SIGNALS)


def meb() -> int:
    """Run the `meb` command."""
    return start("meb", "drp.cli.meb", SIGNALS)


def xtc() -> int:
    """Run the `xtc` command."""
    return start("xtc", "xtc.cli")


def calib() -> int:
    """Run the `calib` command."""
    return start("calib", "calib.cli")


def teb() -> int:
    """Run the `teb` command."""
    return start("teb", "drp.cli.teb", SIGNALS)


def start(name: str, module: str, interrupts: tuple[signal.Signals, ...] = (signal.SIGINT,)) -> int:
    """Import `module`, run its `main()` as the command `name`, and return the exit code; `interrupts` become KeyboardInterrupts in it."""
    fill_closed_files()

    def leave(_number: int, _frame: FrameType | None) -> None:
        say(f"{name}: interrupted")
        os._exit(EXIT_INTERRUPTED)

    heeded = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]  # nohup's is left alone
    for one in heeded:
        signal.signal(one, leave)
    main = import_module(module).main
    try:
        for one in heeded:
            signal.signal(one, signal.default_int_handler if one in interrupts else signal.SIG_DFL)
        code = main()
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        return EXIT_INTERRUPTED
    return int(code)


def fill_closed_files() -> None:
    """Have stdin, stdout and stderr be something: the next file opened would take the place of one that was closed."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.dup(fd)
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - it stays open
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - it stays open


def say(text: str) -> None:
    """Write a line to stderr, past what Python may be in the middle of."""
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        return
