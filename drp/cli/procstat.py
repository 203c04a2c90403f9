"""The `procstat` command: how the processes are that procmgr started, of one file or of all partitions of this user."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from drp.cli.procmgr import EXIT_USAGE, show
from drp.core.errors import DrpError
from drp.launch.cnf import read_plan
from drp.launch.commands import commands_of
from drp.launch.procmgr import Procmgr
from drp.launch.records import partitions

_CLEAR = "\x1b[H\x1b[2J"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the procstat command with `argv` (default: the process's own) and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="procstat", description="Show the processes that procmgr started.", allow_abbrev=False
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="a .cnf or .toml file (default: all partitions of this user)"
    )
    parser.add_argument(
        "-p", dest="platform", type=int, metavar="N", help="platform, 0-7 (default: the file's)"
    )
    parser.add_argument(
        "-i", dest="every_s", type=float, metavar="S", help="show it again every S seconds, until Ctrl-C"
    )
    given = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if given.every_s is not None and not given.every_s > 0:
        print(f"procstat: -i {given.every_s:g}: is no interval", file=sys.stderr)
        return EXIT_USAGE
    try:
        once(given.file, given.platform)
        while given.every_s is not None:
            time.sleep(given.every_s)
            if sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            once(given.file, given.platform)
            sys.stdout.flush()
    except DrpError as error:
        print(f"procstat: {error}", file=sys.stderr)
        return 1
    return 0


def once(file: str | None, platform: int | None) -> None:
    """Print how it is now. Raises LaunchError for a file that names nothing."""
    if file is not None:
        plan = read_plan(file, platform=platform)
        show(Procmgr(plan.name).status(commands_of(plan, here=True)))
        return
    names = [name for name in partitions() if platform is None or name.partition("_")[0] == f"p{platform}"]
    for name in names:
        print(f"partition {name}")
        show(Procmgr(name).status())
    if not names:
        print("nothing was started by procmgr")
