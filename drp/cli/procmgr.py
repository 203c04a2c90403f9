"""The `procmgr` command: start, stop and look at the processes that a .cnf or TOML file names."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from drp.core.errors import DrpError
from drp.launch.cnf import read_plan
from drp.launch.commands import Command, commands_of
from drp.launch.keepers import KEEPERS, default_keeper, keeper_named
from drp.launch.plan import Plan
from drp.launch.procmgr import Line, Procmgr
from drp.launch.toml import plan_to_toml

DEFAULT_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0
EXIT_USAGE = 2
_DESCRIPTION = """Start, stop and look at the processes that a file names: a .cnf of LCLS, in the dialect of procmgr or of daqmgr, or TOML of
the same content (procmgr convert makes it). A .cnf is a Python program, and is run to learn what it names."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the procmgr command with `argv` (default: the process's own) and return its exit code."""
    given = parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="procmgr: %(message)s", level=logging.WARNING)
    try:
        plan = read_plan(given.file, platform=given.platform)
        for note in plan.notes:
            say(note)
        return int(given.run(plan, given))
    except DrpError as error:
        print(f"procmgr: {error}", file=sys.stderr)
        return EXIT_USAGE if given.verb == "convert" else 1
    except OSError as error:
        print(f"procmgr: {error}", file=sys.stderr)
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return what was given; ids may stand after options too."""
    parser = build_parser()
    given, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(given, "ids")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        given.ids = [*given.ids, *rest]
    return given


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="procmgr", description=_DESCRIPTION, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="start|stop|restart|status|convert")
    start = verbs.add_parser("start", help="start what does not run, and wait until it stands")
    stop = verbs.add_parser("stop", help="end what runs; control last")
    restart = verbs.add_parser("restart", help="stop, then start")
    status = verbs.add_parser("status", help="say what runs, and how the others ended")
    convert = verbs.add_parser("convert", help="write the same as TOML")
    runs = {start: run_start, stop: run_stop, restart: run_restart, status: run_status, convert: run_convert}
    for verb, run in runs.items():
        verb.set_defaults(run=run)
        verb.add_argument("file", metavar="FILE", help="a .cnf file, or a .toml file")
        verb.add_argument(
            "-p", dest="platform", type=int, metavar="N", help="platform, 0-7 (default: the file's)"
        )
    for verb in (start, stop, restart, status):
        verb.add_argument("ids", nargs="*", metavar="ID", help="these processes only (default: all)")
    for verb in (start, restart):
        verb.add_argument(
            "-o", dest="logs", type=Path, metavar="DIR", help=f"logs go below it (default: {default_logs()})"
        )
        verb.add_argument(
            "--timeout",
            type=float,
            default=DEFAULT_LIMIT_S,
            metavar="S",
            help="longest for a process to stand (default: %(default)g)",
        )
        verb.add_argument(
            "--keeper",
            choices=sorted(KEEPERS),
            help="who keeps the processes (default: procServ where it is installed)",
        )
    for verb in (start, restart, status):
        verb.add_argument(
            "--here", action="store_true", help="take processes of other machines as if they were of this one"
        )
    for verb in (stop, restart):
        verb.add_argument(
            "--stop-timeout",
            type=float,
            default=STOP_LIMIT_S,
            metavar="S",
            help="longest for a process to end before it is asked again (default: %(default)g)",
        )
    convert.add_argument(
        "out", nargs="?", type=Path, metavar="OUT", help="the file to write (default: stdout)"
    )
    return parser


def run_start(plan: Plan, given: argparse.Namespace) -> int:
    """Start, and say how each process is."""
    commands = commands_of(plan, given.ids, here=given.here)
    for one in commands:
        for note in one.notes:
            say(f"{one.id}: {note}")
    keeper = keeper_named(given.keeper) if given.keeper else default_keeper()
    logs = given.logs or default_logs()
    lines = Procmgr(plan.name).start(
        commands,
        keeper=keeper,
        log_root=logs.absolute(),
        file=str(Path(plan.path).resolve()),
        limit_s=given.timeout,
    )
    show(lines)
    return 0 if all(line.good for line in lines) else 1


def run_stop(plan: Plan, given: argparse.Namespace) -> int:
    """Stop what the file names, or all of its partition, and say how each process ended."""
    plan.select(given.ids)
    lines = Procmgr(plan.name).stop(given.ids or None, limit_s=given.stop_timeout)
    show(lines)
    return 0 if all(line.good for line in lines) else 1


def run_restart(plan: Plan, given: argparse.Namespace) -> int:
    """Stop, then start."""
    commands_of(plan, given.ids, here=given.here)  # what cannot be started is not stopped either
    stopped = run_stop(plan, given)
    return run_start(plan, given) or stopped


def run_status(plan: Plan, given: argparse.Namespace) -> int:
    """Say how each process is; 0 where all run."""
    commands: list[Command] = commands_of(plan, given.ids, here=True)
    lines = Procmgr(plan.name).status(commands)
    if given.ids:
        lines = [line for line in lines if line.id in given.ids]
    show(lines)
    return 0 if all(line.state in ("running", "skipped") for line in lines) else 1


def run_convert(plan: Plan, given: argparse.Namespace) -> int:
    """Write the plan as TOML."""
    text = plan_to_toml(plan)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return 0


def show(lines: Iterable[Line]) -> None:
    """Print a table of processes."""
    print("\n".join(table(list(lines), time.time())))


def table(lines: Sequence[Line], now: float) -> list[str]:
    """Return the table as text: id, pid, state, exit code, uptime, log, and what else is to say below."""
    rows = [("ID", "PID", "STATE", "EXIT", "UPTIME", "LOG")]
    texts = [""]
    for one in lines:
        up = (
            _span(now - one.started)
            if one.started is not None and one.state in ("running", "starting")
            else ""
        )
        code = "" if one.code is None else (f"signal {-one.code}" if one.code < 0 else str(one.code))
        first, _, rest = one.text.partition("\n")
        inline = one.log or first
        texts.append(one.text if one.log else rest)
        rows.append((one.id, "" if one.pid is None else str(one.pid), one.state, code, up, inline))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    out = []
    for row, text in zip(rows, texts, strict=True):
        head = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        out.append(f"{head}  {row[5]}".rstrip())
        out += [f"    {line}" for line in text.splitlines()]
    return out


def _span(seconds: float) -> str:
    minutes, whole = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02}:{minutes:02}" if days else f"{hours}:{minutes:02}:{whole:02}"


def default_logs() -> Path:
    """Return where logs go unless told: a folder of this user."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "drp" / "logs"


def say(text: str) -> None:
    """Tell the user something on stderr."""
    print(f"procmgr: {text}", file=sys.stderr)
