"""The `calib` command: its subcommands are listed here, and each is registered by the module that does it.

Exit codes: 0 done; 1 it could not be done, and why is on stderr; 2 the command line cannot be used; 141 nobody reads on.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from calib.cli import carry, dark, reading, serving, sharing, show, writing
from calib.errors import CalibError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PIPE = 141

Register = Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None]

# Each adds its subcommands to the parser, and sets `call` to what is called with the arguments and returns the exit code.
COMMANDS: tuple[Register, ...] = (
    writing.register,
    reading.register,
    carry.register,
    serving.register,
    sharing.register,
    dark.register,
    show.register,
)

_EPILOG = """\
constants are kept where --store says: a file, sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE, or the
http:// address of a service; without it in $DRP_CALIB, else in a file of yours"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `calib` with `argv` (the process's own by default) and return the exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else EXIT_USAGE
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("calib.store").setLevel(logging.INFO)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = arguments.call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_PIPE
    except (CalibError, OSError) as error:
        sys.stdout.flush()
        print(f"calib: {_told(error)}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return code


def _told(error: CalibError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calib",
        description="Make, keep, find, carry, draw and serve calibration constants.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for register in COMMANDS:
        register(commands)
    return parser
