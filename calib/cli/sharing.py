"""`calib key`."""

from __future__ import annotations

import argparse
from pathlib import Path

from calib.broadcast.keys import write_keys


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    key = commands.add_parser(
        "key",
        help="make the key file that drp processes share constants with",
        description="Make the key file that the drp processes of one detector share constants with (drp --calib-supervisor "
        "--calib-key FILE). It is for your eyes only; copy it to every machine, with its mode.",
    )
    key.add_argument("file", type=Path, metavar="FILE", help="the file to make; it must not be there yet")
    key.set_defaults(call=_key)


def _key(arguments: argparse.Namespace) -> int:
    write_keys(arguments.file)
    print(f"{arguments.file}: new keys, readable by you only")
    return 0
