"""The `xtc` command: ls, dump, check, cut, from-json. It parses arguments and prints; the work is in the modules
it calls.

Exit codes: 0 all well; 1 the bytes are at fault; 2 usage, or a file that cannot be read or written; 141
nobody reads on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from xtc.check import check_file
from xtc.config import Config
from xtc.cut import cut_file
from xtc.dump import dump_json, dump_text, list_lines
from xtc.errors import XtcError
from xtc.from_json import json_to_dgram
from xtc.reader import Reader

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run `xtc` with `argv` (the process's own by default) and return the exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else EXIT_USAGE
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_PIPE
    except XtcError as error:
        sys.stdout.flush()
        print(f"xtc: {error}", file=sys.stderr)
        return EXIT_FAULT
    except (OSError, UnicodeDecodeError) as error:
        print(f"xtc: {error}", file=sys.stderr)
        return EXIT_USAGE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xtc", description="Look at, check and make XTC2 files.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("ls", help="list the dgrams of a file, one line each")
    listing.add_argument("file", type=Path, metavar="FILE")
    listing.set_defaults(run=_list)
    dump = commands.add_parser("dump", help="show every value of a file")
    dump.add_argument("--json", action="store_true", help="as one JSON object")
    dump.add_argument(
        "--config", type=Path, metavar="FILE", help="take the Configure of this file (for a later chunk)"
    )
    dump.add_argument("file", type=Path, metavar="FILE")
    dump.set_defaults(run=_dump)
    check = commands.add_parser("check", help="list all problems of files; exit 1 if there are any")
    check.add_argument(
        "--config", type=Path, metavar="FILE", help="take the Configure of this file (for later chunks)"
    )
    check.add_argument("files", type=Path, nargs="+", metavar="FILE")
    check.set_defaults(run=_check)
    cut = commands.add_parser(
        "cut", help="copy the whole dgrams of a damaged file, up to the first that is not"
    )
    cut.add_argument("source", type=Path, metavar="IN")
    cut.add_argument("target", type=Path, metavar="OUT", help="a file that is not there yet")
    cut.set_defaults(run=_cut)
    make = commands.add_parser("from-json", help="make an XTC2 file from typed JSON, as json2xtc does")
    make.add_argument("source", type=Path, metavar="IN")
    make.add_argument("target", type=Path, metavar="OUT")
    make.set_defaults(run=_from_json)
    return parser


def _list(args: argparse.Namespace) -> int:
    for line in list_lines(args.file):
        print(line)
    return 0


def _dump(args: argparse.Namespace) -> int:
    config = _given_config(args.config)
    if args.json:
        for piece in dump_json(args.file, config):
            sys.stdout.write(piece)
        return 0
    for line in dump_text(args.file, config):
        print(line)
    return 0


def _check(args: argparse.Namespace) -> int:
    config = _given_config(args.config)
    count = 0
    unreadable = False
    for path in args.files:
        try:
            for problem in check_file(path, config):
                print(problem)
                count += 1
        except BrokenPipeError:
            raise
        except OSError as error:
            print(f"xtc: {error}", file=sys.stderr)
            unreadable = True
    if unreadable:
        return EXIT_USAGE
    return EXIT_FAULT if count else 0


def _cut(args: argparse.Namespace) -> int:
    part = cut_file(args.source, args.target)
    print(f"{args.target}: {part.dgrams} dgrams, {part.size_bytes} bytes")
    if part.fault is not None:
        left = args.source.stat().st_size - part.size_bytes
        print(f"left out {left} bytes from byte {part.size_bytes:#x} on: {part.fault}")
    return 0


def _from_json(args: argparse.Namespace) -> int:
    raw = json_to_dgram(args.source.read_text(encoding="utf-8"))
    args.target.write_bytes(raw)
    return 0


def _given_config(path: Path | None) -> Config | None:
    if path is None:
        return None
    config = Reader(path).config
    if config is None:
        raise XtcError("there is no Configure at the start of the file", path=str(path))
    return config
