"""The `control` command: run control of a partition; and `control keys`, which makes the keys of one that is spread over machines."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from drp.cli.partition import (
    CLIENT_PORT,
    MEMBER_PORT,
    STATUS_PORT,
    Partition,
    exported,
    parser,
    partition_of,
    set_up_logging,
)
from drp.configdb.store import ConfigStore, default_path
from drp.control.jobs import Configs, Settings
from drp.control.members import GONE_AFTER_S
from drp.control.move import RESET_LIMIT_S, Limits
from drp.control.plan import Selection
from drp.control.process import Control, Sockets
from drp.control.runs import Store
from drp.control.service import SELECTION
from drp.core.errors import ConfigError, DrpError
from drp.core.partition import RESET, STEPS
from drp.engine.signals import counted_signals
from drp.link.keys import Keys
from drp.link.ready import say_ready
from drp.link.sockets import listen

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
LAST_S = 1.0
SLOW_RATES = (0, 1, 5, 10)
_UNUSED = {
    "pv_base": ("-B", "there are no EPICS variables"),
    "xpm": ("-x", "there is no XPM: the partition's `timing` sends the triggers"),
    "logbook": ("-V", "there is no logbook"),
    "url": ("--url", "there is no logbook"),
    "user": ("--user", "there is no logbook"),
    "password": ("--password", "there is no logbook"),
}

log = logging.getLogger("drp.control")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the control command with `argv` (default: the process's own) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _keys(words[1:]) if words[:1] == ["keys"] else _control(words)
    except ConfigError as error:
        print(f"control: {error}", file=sys.stderr)
        return EXIT_USAGE
    except DrpError as error:
        print(f"control: {error}", file=sys.stderr)
        return EXIT_FAILED


def default_folder() -> Path:
    """Return where control keeps what it must not forget: `drp/control` in XDG_STATE_HOME, else in ~/.local/state."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    return state / "drp" / "control"


def _keys(words: Sequence[str]) -> int:
    made = argparse.ArgumentParser(
        prog="control keys", description="Make the keys of a partition that is spread over machines."
    )
    made.add_argument(
        "folder", type=Path, metavar="DIR", help="made for this user only; copy it to every machine"
    )
    folder = made.parse_args(words).folder
    Keys.make(folder)
    print(f"{folder}: new keys. Copy the folder to every machine, and give every process --keys DIR")
    return 0


def _control(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    partition = partition_of(options)
    set_up_logging(options.verbose)
    for name, (option, why) in _UNUSED.items():
        if getattr(options, name) is not None:
            log.info("%s has no effect: %s", option, why)
    store = Store(options.store or default_folder())
    settings = _settings(options, partition, store)
    sockets = _sockets(partition)
    try:
        configs = _configs(options.configdb, partition.instrument)
        control = Control(settings, sockets, store, configs=configs, gone_after_s=options.gone_after)
        with (
            exported(options, partition, control.metrics),
            counted_signals(LAST_S, EXIT_INTERRUPTED) as stop,
        ):
            say_ready()
            log.info("partition %s at %s", partition.name, sockets.endpoints[0].address)
            control.serve(stop)
    finally:
        sockets.close()
    log.info("control ends; the partition stays as it is: %s", control.partition.state)
    return 0


def _configs(given: str | None, hutch: str) -> Configs:
    """Return what reads a hutch's configurations, anew at each Configure; ConfigError where the store that was given is not there."""
    if given is not None and "://" in given:
        log.info("-d has no effect: configurations are read from a file, by default %s", default_path())
        given = None
    path = default_path() if given is None else Path(given)
    if given is not None and not path.is_file():
        raise ConfigError("there is no such store", option="-d", value=given, hint="configdb put makes one")

    def read(alias: str) -> Mapping[str, dict[str, Any]]:
        if not path.is_file():
            return {}
        with ConfigStore(path) as store:
            return store.of_alias(hutch, alias)

    return read


def _settings(options: argparse.Namespace, partition: Partition, store: Store) -> Settings:
    if options.activedet is not None:
        try:
            selection: Selection | None = Selection.from_text(options.activedet.read_text())
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error.strerror}", option="-r", value=options.activedet
            ) from error
    else:
        kept = store.load(f"{partition.name}-{SELECTION}")
        selection = Selection(kept["activedet"]) if "activedet" in kept else None
    return Settings(
        name=partition.name,
        instrument=partition.instrument,
        platform=partition.platform,
        experiment=options.experiment or partition.instrument,
        config_alias=options.config_alias,
        trigger_config=options.trigger
        if not options.trigger or "_" in options.trigger
        else f"{options.trigger}_0",
        slow_update_hz=options.slow_updates,
        record=options.record,
        selection=selection,
        limits=_limits(options),
    )


def _limits(options: argparse.Namespace) -> Limits:
    phase1_s = {key: step.limit_s for key, step in STEPS.items()} | {RESET: RESET_LIMIT_S}
    if options.rollcall_timeout is not None:
        phase1_s["rollcall"] = options.rollcall_timeout
    for text in options.limit:
        key, _, seconds = text.partition("=")
        try:
            limit_s = float(seconds)
        except ValueError:
            limit_s = 0.0
        if key not in phase1_s or not 0 < limit_s < float("inf"):
            raise ConfigError(
                f"is TRANSITION=SECONDS, one of {', '.join(phase1_s)}", option="--limit", value=text
            )
        phase1_s[key] = limit_s
    if options.phase2_ms <= 0:
        raise ConfigError("is a number of milliseconds", option="-T", value=options.phase2_ms)
    return Limits(phase1_s, options.phase2_ms / 1000)


def _sockets(partition: Partition) -> Sockets:
    host = None if partition.bind is None else partition.bind.rpartition(":")[0]
    made = []
    try:
        for kind, what, port in (
            (zmq.ROUTER, "control", MEMBER_PORT),
            (zmq.ROUTER, "clients", CLIENT_PORT),
            (zmq.PUB, "status", STATUS_PORT),
        ):
            bind = None if host is None else f"{host}:{port + partition.platform}"
            made.append(listen(kind, partition.socket_name(what), bind=bind, keys=partition.keys))
    except BaseException:
        for socket, _ in made:
            socket.close()
        raise
    (members, first), (clients, second), (status, third) = made
    return Sockets(members, clients, status, (first, second, third))


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "control",
        "Run control of a partition: finds its members, takes them through the transitions of a run, and names who fails. "
        "`control keys DIR` makes the keys of a partition that is spread over machines.",
        member=False,
    )
    group = made.add_argument_group("runs")
    group.add_argument(
        "-C", dest="config_alias", metavar="ALIAS", default="BEAM", help="configuration alias (default: BEAM)"
    )
    group.add_argument(
        "-t",
        dest="trigger",
        metavar="NAME",
        default="",
        help="configuration of the trigger, such as trigger (that is trigger_0)",
    )
    group.add_argument(
        "-S",
        dest="slow_updates",
        metavar="HZ",
        type=int,
        choices=SLOW_RATES,
        default=None,
        help="rate of SlowUpdates: 0, 1, 5 or 10 (default: as timing has it)",
    )
    group.add_argument(
        "--experiment", metavar="NAME", default="", help="whose run numbers (default: the instrument)"
    )
    group.add_argument(
        "--record", action="store_true", help="record from the first run on (else: daqstate --record 1)"
    )
    group.add_argument(
        "-r",
        dest="activedet",
        metavar="FILE",
        type=Path,
        help="who takes part: an active-detectors file (default: all)",
    )
    group.add_argument(
        "--store",
        metavar="DIR",
        type=Path,
        help="run numbers, state and ledgers (default: ~/.local/state/drp/control)",
    )
    group.add_argument(
        "-d",
        dest="configdb",
        metavar="FILE",
        help=f"configurations, as configdb keeps them (default: {default_path()})",
    )
    group.add_argument(
        "-M", dest="prometheus_dir", metavar="DIR", type=Path, help="metrics, and a file_sd target in DIR"
    )
    group = made.add_argument_group("time")
    group.add_argument(
        "-T",
        dest="phase2_ms",
        metavar="MS",
        type=float,
        default=12500.0,
        help="limit of the second phase (default: 12500)",
    )
    group.add_argument(
        "--rollcall-timeout",
        "--rollcall_timeout",
        metavar="S",
        type=float,
        help="limit of rollcall (default: 30)",
    )
    group.add_argument(
        "--limit",
        metavar="TRANSITION=S",
        action="append",
        default=[],
        help="limit of a transition's first phase; may be given again. Defaults: "
        + ", ".join(f"{key} {step.limit_s:g}" for key, step in STEPS.items()),
    )
    group.add_argument(
        "--gone-after",
        metavar="S",
        type=float,
        default=GONE_AFTER_S,
        help=f"silence after which a member is given up (default: {GONE_AFTER_S:g}); one whose connection closes is at once",
    )
    group = made.add_argument_group("taken from LCLS's command lines, without effect")
    group.add_argument("-B", dest="pv_base", metavar="PVBASE", help="EPICS variables")
    group.add_argument("-x", dest="xpm", metavar="XPM", help="timing hardware")
    group.add_argument("-u", dest="alias", metavar="ALIAS", default="", help="name of this process")
    group.add_argument("-V", dest="logbook", metavar="FILE", help="logbook")
    group.add_argument("--url", metavar="URL", help="logbook")
    group.add_argument("--user", metavar="USER", help="logbook")
    group.add_argument("--password", metavar="WORD", help="logbook")
    return made
