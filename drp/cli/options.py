"""The options of the `drp` command, in one place: from a command line to a DrpConfig.

The letters are those of LCLS's drp. Those that steer hardware or services which this drp does not have are
known too, so that a line copied from a .cnf file fails with a reason. Every usage error is a ConfigError;
the command prints it and exits with 2. It looks at the number of cores, at the paths
it is given, and at the variable DRP_CALIB.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from drp.cli.paths import check_paths
from drp.core.config import (
    DEFAULT_SPARES,
    MAX_WORKERS,
    DrpConfig,
    parse_alias,
    parse_keys,
    parse_room,
    parse_size,
    parse_supervisor,
)
from drp.core.errors import ConfigError, SourceError
from drp.engine.script_text import calibrates
from drp.script.constants_source import check_constants, constants_of_simulator

DEFAULT_EVENTS = 1000
CALIB_VARIABLE = "DRP_CALIB"
LOG_DOMAINS = (
    "run",
    "worker",
    "source",
    "sink",
    "script",
    "offline",
    "constants",
    "trigger",
    "link",
    "control",
    "meb",
    "monitor",
)
"""The parts of drp that log: loggers are called `drp.<part>`, or below that."""

_DESCRIPTION = """\
Reduce datagrams with your own Python script and record them as xtc2, without losing count of an event.
Without --source it simulates 1000 events of a detector, so that a script can be tried at once."""

_EPILOG = """\
examples:
  drp -p "myroi.py --roi 40:140,50:150"
      run the script on 1000 simulated events; nothing is recorded
  drp -p "myroi.py --roi 40:140,50:150" --source run7.xtc2 -W 4 -o out --report run7.json
      reduce a recorded file with four workers, record it under out/, and write the account of it

exit status:
  0  the ledger closes and drp damaged nothing
  1  it ran, but something was damaged, lost or failed: the summary says what
  2  the command line cannot be used

letters of LCLS's drp that need what is not here: -d -l (PGP card), -Q (cube)"""

_ABSENT = {
    "-d": ("needs PGP card hardware, which this drp does not read", "Take --source instead."),
    "-l": ("selects lanes of PGP card hardware, which this drp does not read", "Leave it out."),
    "-Q": ("cube workers are not in this version", "Leave it out, or sum with ds.reduce in the script."),
}

_NO_WORKERS = "the script runs in this one process"
_LIVE_ONLY = {
    "workers": ("-W", _NO_WORKERS),
    "spares": ("--spares", _NO_WORKERS),
    "worker_memory_bytes": ("--worker-memory", _NO_WORKERS),
    "rate_hz": ("--rate", "files are read as fast as the script goes"),
    "loop": ("--loop", "files are read once"),
    "prometheus_dir": ("-M", "there is nothing to watch"),
    "event_timeout_s": ("--event-timeout", "the script may take its time"),
    "first_event_timeout_s": ("--first-event-timeout", "the script may take its time"),
    "stop_timeout_s": ("--stop-timeout", "a signal ends it"),
}


def drp_version() -> str:
    """Return the version that is installed."""
    try:
        return version("drp")
    except PackageNotFoundError:
        return "(not installed)"


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose usage errors are ConfigErrors."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, hint="See drp --help.")


class _Absent(argparse.Action):
    def __call__(self, _parser: Any, _namespace: Any, _values: Any, option: str | None = None) -> NoReturn:
        what, hint = _ABSENT[option or self.option_strings[0]]
        raise ConfigError(what, option=option or "", hint=hint)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_rest: Any) -> NoReturn:
        print(f"drp {drp_version()}")
        parser.exit(0)


_POLICIES = ("continue", "stop")
_LEVELS = ("error", "warning", "info", "debug")
_KEYS_HELP = (
    "keys of LCLS's drp: drp=python pythonScript= pebbleBufSize= pebbleBufCount= trBufSize= chunkSize= xtcfile= l1aOffset=; "
    "batching=yes|no and directIO=yes|no are taken and have no effect"
)

# (flags, field, how it is read, metavar, help). Read as: int, float, str or Path one value of it; bool a
# switch; list one value, which may come again; a tuple one of its words.
_Row = tuple[str, str, Any, str, str]
_GROUPS: dict[str, tuple[_Row, ...]] = {
    "script and workers": (
        (
            "-p",
            "p",
            list,
            "SCRIPT",
            "the script and its arguments as one word; or the platform, 0-7. May be given twice",
        ),
        (
            "-W --workers",
            "workers",
            int,
            "N",
            "worker processes (default: cores - 1, from 1 to 256 with the spares)",
        ),
        ("--spares", "spares", int, "N", "workers that stand by for one that dies (default: 1)"),
        ("-k", "keys", list, "K=V[,K=V]", _KEYS_HELP),
        (
            "--check-views",
            "check_views",
            bool,
            "",
            "rehearsal: spoil each view of raw data when the script has moved on",
        ),
        (
            "--check-jit",
            "check_jit",
            bool,
            "",
            "rehearsal: fail events that wait for numba to compile a kernel",
        ),
        ("--offline", "offline", bool, "", "run the script on recorded files, in this process"),
    ),
    "source": (
        ("--source", "sources", list, "S", "sim, sim:TYPE or xtc2 files (default: sim, 1000 events)"),
        ("-n --events", "events", int, "N", "stop after N events"),
        ("--rate", "rate_hz", float, "HZ", "events per second (default: flat out)"),
        (
            "--loop",
            "loop",
            bool,
            "",
            "begin the files again at their end, with times and pulse ids that go on rising",
        ),
    ),
    "recording": (
        ("-o --output", "out_dir", Path, "DIR", "record under DIR (default: do not record)"),
        ("--expt", "expt", str, "NAME", "experiment (default: the source's, else expt)"),
        ("--run", "run", int, "N", "run number (default: the source's, else 1)"),
        ("--overwrite", "overwrite", bool, "", "replace the files of a run that is there already"),
        ("--chunk-size", "chunk_bytes", str, "SIZE", "begin a new file beyond this (default: 500 GB)"),
        (
            "--fex-room",
            "fex_room",
            str,
            "ROOM",
            "room for results beside the largest event (default: 25%%, at least 64k)",
        ),
    ),
    "who this drp is": (
        ("-P", "instrument", str, "NAME[:STATION]", "instrument (default: drp)"),
        ("-u", "alias", str, "DET_SEGMENT", "alias, such as epixhr_0 (default: from the source)"),
        ("-D", "det_type", str, "TYPE", "detector type (default: from the source)"),
        ("-S", "det_id", str, "SERIAL", "serial number (default: from the source)"),
    ),
    "what is kept": (
        (
            "--keep-if",
            "keep_if",
            str,
            "CONDITION",
            'record only events whose trigger words fulfil it, as in "npeaks > 15 and hit == 1" (default: all)',
        ),
        (
            "--trigger",
            "trigger",
            str,
            "SCRIPT",
            "a trigger script and its arguments as one word: it decides, in a process of its own",
        ),
        (
            "--prescale",
            "prescale",
            int,
            "N",
            "of all events every Nth is recorded in any case, and where only that keeps it with its raw data (default: none)",
        ),
    ),
    "partition": (
        (
            "-C",
            "control",
            "optional",
            "HOST",
            "be a member of a partition, told what to do by its control (default: the one on this machine)",
        ),
        ("--group", "group", int, "N", "readout group (default: the platform)"),
        (
            "--monitor",
            "monitor",
            str,
            "ALIAS",
            "without control: copy events for the meb of this name on this machine, which runs with --alone and the same -P and -p",
        ),
        ("--keys", "keys_dir", Path, "DIR", "keys of the partition, for tcp (control keys DIR makes them)"),
    ),
    "calibration constants": (
        (
            "--calib",
            "calib",
            str,
            "URL",
            "where constants come from: a store's file or database, a service, or sim:TYPE (default: DRP_CALIB, else a simulated camera's own)",
        ),
        (
            "--require-constants",
            "require_constants",
            bool,
            "",
            "BeginRun fails where an area detector lacks constants it needs",
        ),
        (
            "--calib-timeout",
            "calib_timeout_s",
            float,
            "S",
            "longest to fetch constants, and then for a worker to take them (default: 20)",
        ),
        (
            "--calib-supervisor",
            "calib_supervisor",
            str,
            "ALIAS@tcp://HOST:PORT",
            "the drp of that alias fetches for all that are given this; the others ask it there",
        ),
        ("--calib-key", "calib_key", Path, "FILE", "the key file they share (calib key FILE makes one)"),
    ),
    "limits": (
        ("--event-timeout", "event_timeout_s", float, "S", "longest an event may take (default: 2)"),
        (
            "--first-event-timeout",
            "first_event_timeout_s",
            float,
            "S",
            "a worker's first, kernels compile (default: 60)",
        ),
        ("--stop-timeout", "stop_timeout_s", float, "S", "longest to finish after a signal (default: 10)"),
        ("--worker-memory", "worker_memory_bytes", str, "SIZE", "replace a worker that grows beyond this"),
        ("--on-overflow", "on_overflow", _POLICIES, "", "when a result does not fit (default: continue)"),
        (
            "--on-script-failure",
            "on_script_failure",
            _POLICIES,
            "",
            "when the script fails (default: continue)",
        ),
    ),
    "report and log": (
        (
            "--report",
            "report",
            Path,
            "FILE",
            "write the account of the run as JSON; -: to stdout, and the summary to stderr",
        ),
        ("-M", "prometheus_dir", Path, "DIR", "export metrics over HTTP, and say where in Prometheus's DIR"),
        (
            "--metrics-bind",
            "metrics_bind",
            str,
            "ADDRESS",
            "what the metrics of -M listen on (default: 127.0.0.1; 0.0.0.0 for other machines)",
        ),
        ("--log-level", "log_level", _LEVELS, "", "least level to log (default: info)"),
        (
            "--log-domain",
            "log_domains",
            list,
            "NAME",
            f"apply it to these parts only, the others warn: {', '.join(LOG_DOMAINS)}; may come again",
        ),
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command, its options grouped as `drp --help` shows them."""
    parser = _Parser(
        prog="drp",
        usage='drp -p "SCRIPT [ARGUMENTS]" [--source sim[:TYPE]|FILE...] [-o DIR] [options]',
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    for title, rows in _GROUPS.items():
        group = parser.add_argument_group(title)
        for flags, field, read, metavar, text in rows:
            group.add_argument(*flags.split(), dest=field, help=text, **_reading(field, read, metavar))
    group.add_argument("-v", "--verbose", action="count", help="as --log-level debug; twice for more")
    group.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    group.add_argument("-h", "--help", action="help", help="print this and exit")
    for letter in _ABSENT:
        parser.add_argument(letter, action=_Absent, nargs="?", help=argparse.SUPPRESS)
    return parser


def _reading(field: str, read: Any, metavar: str) -> dict[str, Any]:
    if read == "optional":
        return {"nargs": "?", "const": "", "metavar": metavar}
    if read is bool:
        return {"action": "store_true"}
    if isinstance(read, tuple):
        return {"choices": read}
    if read is Path:
        return {"type": _path, "metavar": metavar}
    if read is list:
        many = {"action": "extend", "nargs": "+"} if field == "sources" else {"action": "append"}
        return {**many, "metavar": metavar}
    return {"type": read, "metavar": metavar}


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text)


def parse(argv: Sequence[str]) -> DrpConfig:
    """Return the configuration that the arguments `argv` (without the program's name) ask for.

    Raises ConfigError for whatever cannot be used, and SystemExit(0) after printing for `--help` and
    `--version`.
    """
    parser = build_parser()
    known, unknown = parser.parse_known_args(list(argv))
    if unknown:
        raise _unknown(parser, unknown, getattr(known, "p", []))
    given: dict[str, Any] = vars(known)
    words = given.pop("p", [])
    named: dict[str, Any] = _platform_and_script(words) | _read_texts(given)
    keys = parse_keys(given.pop("keys", []))
    notes = keys.pop("notes")
    for name, value in keys.items():
        if named.get(name, value) != value:
            raise ConfigError(
                f"-k says {value}, another option {named[name]}", option=name, hint="Give one of them."
            )
        named[name] = value
    notes += _without_effect(given)
    named |= given
    if CALIB_VARIABLE in os.environ:
        named.setdefault("calib", os.environ[CALIB_VARIABLE])
    if not named.get("calib", ""):
        named["calib"] = None
    else:
        _check_address(named["calib"], "--calib" if "calib" in given else CALIB_VARIABLE)
    most = MAX_WORKERS - named.get("spares", DEFAULT_SPARES)
    named.setdefault("workers", max(1, min(len(os.sched_getaffinity(0)) - 1, most)))
    if "sources" not in named:
        named |= {
            "sources": ("sim",),
            "source_is_default": True,
        }
        if "control" not in named:
            named.setdefault("events", DEFAULT_EVENTS)
    config = prepared(DrpConfig(**named, notes=notes))
    if given.get("calib") and config.calib_address is not None and not config.supervises:
        unused = f"--calib has no effect: this drp has its constants from the supervisor, {config.calib_supervisor}"
        config = replace(config, notes=(*config.notes, unused))
    return config


def prepared(config: DrpConfig) -> DrpConfig:
    """Return a configuration whose paths are there, with the constants of its simulator where its script asks for some. Raises ConfigError."""
    check_paths(config)
    if config.has_constants or not calibrates(config.script):
        return config
    truth = constants_of_simulator(config.sources)
    return replace(config, calib=truth) if truth else config


def _check_address(address: str, option: str) -> None:
    """Refuse what constants cannot come from; whether there are any is seen when they are asked for."""
    from calib import CalibError  # noqa: PLC0415 - only a run with constants pays for SQLAlchemy or httpx

    try:
        check_constants(address)
    except (CalibError, SourceError) as error:
        raise ConfigError(error.what, option=option, hint=error.hint) from None


def _read_texts(given: dict[str, Any]) -> dict[str, Any]:
    """Take from `given` what still is text, and return the fields it means."""
    out: dict[str, Any] = {}
    if (alias := given.pop("alias", None)) is not None:
        out["det_name"], out["det_segment"] = parse_alias(alias)
    if (instrument := given.pop("instrument", None)) is not None:
        out["instrument"], colon, station = instrument.partition(":")
        if colon and (not station.isdecimal() or len(station) > 9):
            raise ConfigError("has no station number after its colon", option="-P", value=instrument)
        out["station"] = int(station or 0)
    for name, option in (("chunk_bytes", "--chunk-size"), ("worker_memory_bytes", "--worker-memory")):
        if (text := given.pop(name, None)) is not None:
            out[name] = parse_size(text, option)
    if (room := given.pop("fex_room", None)) is not None:
        out["fex_room"] = parse_room(room)
    if (supervisor := given.pop("calib_supervisor", None)) is not None:
        out["calib_supervisor"], out["calib_address"] = parse_supervisor(supervisor)
    if (trigger := given.pop("trigger", None)) is not None:
        out["trigger"] = tuple(_split(trigger, "--trigger"))
    if "sources" in given:
        out["sources"] = tuple(given.pop("sources"))
    domains = given.pop("log_domains", [])
    out["log_domains"] = tuple(_domain(part.strip()) for domain in domains for part in domain.split(","))
    if given.get("verbose"):
        given.setdefault("log_level", "debug")
    return out


def _without_effect(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note for each option that was given beside --offline and steers what is not there."""
    if not given.get("offline"):
        return ()
    return tuple(
        f"{option} has no effect with --offline: {why}"
        for field, (option, why) in _LIVE_ONLY.items()
        if field in given
    )


def _domain(name: str) -> str:
    if name not in LOG_DOMAINS:
        raise ConfigError(
            "is no part of drp that logs",
            option="--log-domain",
            value=name,
            hint=f"The parts are {', '.join(LOG_DOMAINS)}.",
        )
    return name


def _platform_and_script(words: Sequence[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for word in words:
        if word.strip() in set("01234567"):
            fields: dict[str, Any] = {"platform": int(word)}
        else:
            script, *arguments = _split(word, "-p")
            fields = {"script": script, "script_args": tuple(arguments)}
        for name in fields:
            if name in out:
                kind = "platform" if name == "platform" else "script"
                raise ConfigError(f"names a second {kind}", option="-p", value=word, hint="Give each once.")
        out |= fields
    return out


def _split(word: str, option: str) -> list[str]:
    try:
        parts = shlex.split(word)
    except ValueError as error:
        raise ConfigError(f"cannot be split into words: {error}", option=option, value=word) from None
    if not parts:
        raise ConfigError("is empty", option=option, hint="Give the script and its arguments in one word.")
    if parts[0].isdecimal():
        raise ConfigError("is no platform", option=option, value=word, hint="A platform is a digit, 0-7.")
    return parts


def _unknown(parser: argparse.ArgumentParser, words: Sequence[str], scripts: Sequence[str]) -> ConfigError:
    """Return what to say of words that are no options: mostly the arguments of a script, its quotes forgotten."""
    word = words[0]
    script = next((one for one in scripts if not one.isdecimal()), "myroi.py --roi 1:2")
    line = f"{script} {shlex.join(words)}" if scripts else script
    quoted = f'Quote a script with its arguments as one word: -p "{line}".'
    if not word.startswith("-"):
        return ConfigError("belongs to no option", value=word, hint=quoted)
    known = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(word.partition("=")[0], known, n=2, cutoff=0.75)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return ConfigError("is no option of drp", option=word, hint=hint + quoted)
