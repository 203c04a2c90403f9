"""The `teb` command: build the events of a partition, and have a trigger script, or a condition, decide which are kept."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence

import zmq

from drp.cli.partition import Partition, exported, kwargs_of, parser, partition_of, set_up_logging
from drp.cli.verdicts import add_options, replay_verdicts
from drp.core.batch import Contributor
from drp.core.building import DEFAULT_TIMEOUT_S, DEFAULT_TRANSITION_TIMEOUT_S, DEFAULT_WINDOW
from drp.core.conditions import ConditionError, Conditions
from drp.core.errors import ConfigError, DrpError
from drp.core.wire import MAX_DRPS, MAX_RECORDS
from drp.engine.signals import counted_signals
from drp.link.control import Member
from drp.link.ready import say_ready
from drp.link.sockets import listen
from drp.script.process import set_parent_death_signal
from drp.teb.deciding import AtOnce, Decider
from drp.teb.member import TebMember
from drp.teb.process import Teb, TebConfig
from drp.teb.server import Limits
from drp.teb.stage import StageConfig, TriggerStage
from drp.teb.words import WordsPublisher

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
LAST_S = 0.7
GOODBYE_S = 0.1
MAX_TIMEOUT_S = 3600.0
_LONE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,29})(?::([0-9]{1,2}))?")

log = logging.getLogger("drp.teb")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the teb command with `argv` (default: the process's own) and return its exit code."""
    try:
        options = _options(sys.argv[1:] if argv is None else argv)
        set_up_logging(options.verbose)
        partition = partition_of(options, default_alias="teb0")
        config = _config(options, partition)
        lone = _lone(options.lone)
    except DrpError as error:
        print(f"teb: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        decider = _decider(options, config)
        if options.source:
            return replay_verdicts(options, decider, platform=config.platform, instrument=config.instrument)
        return _serve(options, partition, config, decider, lone)
    except DrpError as error:
        print(f"teb: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError | ConditionError) else EXIT_FAILED


def _options(argv: Sequence[str]) -> argparse.Namespace:
    platform, script = _part_p(argv)
    made = parser("teb", (__doc__ or "").partition("\n")[0])
    group = made.add_argument_group(
        "what is kept", 'A second -p names a trigger script with its arguments: -p "trigger.py --peaks 15".'
    )
    group.add_argument(
        "--keep-if",
        metavar="CONDITION",
        help='condition on trigger words: "npeaks > 15 and epix_0.hit == 1"; without it, and without a script, all events are kept',
    )
    group.add_argument(
        "--prescale",
        metavar="N",
        type=int,
        default=0,
        help="keep every Nth event of a run, with raw data, whatever else",
    )
    group = made.add_argument_group("limits")
    group.add_argument(
        "--eb-timeout",
        metavar="S",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        help="how long an event is waited for (default: %(default)s); -k eb_timeout=MS is the same",
    )
    group.add_argument(
        "--event-timeout",
        metavar="S",
        type=float,
        default=2.0,
        help="how long the script may take for a batch (default: %(default)s)",
    )
    group.add_argument(
        "--window",
        metavar="N",
        type=int,
        default=DEFAULT_WINDOW,
        help="contributions that each drp may have undecided (default: %(default)s)",
    )
    group = made.add_argument_group("without control")
    group.add_argument(
        "--lone",
        metavar="ALIAS[:GROUP]",
        action="append",
        default=[],
        help="serve this drp without a control, and end with the process that started this one; may be given again: ids count from 0",
    )
    group.add_argument(
        "--serve",
        metavar="NAME",
        help="name of the socket in the run directory (default: ALIAS-INSTRUMENT-pN)",
    )
    add_options(made)
    options = made.parse_args(platform)
    options.script = tuple(shlex.split(script)) if script else ()
    return options


def _part_p(argv: Sequence[str]) -> tuple[list[str], str]:
    """Take the `-p` out that is a script: LCLS's -p is a digit."""
    left, script = [], ""
    words = iter(argv)
    for word in words:
        if word == "-p":
            value = next(words, "")
            if value.isdecimal() or not value:
                left += [word, value]
            elif script:
                raise ConfigError("comes once as a script, and once as a platform", option="-p", value=value)
            else:
                script = value
        else:
            left.append(word)
    return left, script


def _config(options: argparse.Namespace, partition: Partition) -> TebConfig:
    keys = dict(kwargs_of(options))
    try:
        timeout_s = float(keys.pop("eb_timeout")) / 1000 if "eb_timeout" in keys else options.eb_timeout
    except ValueError:
        raise ConfigError("is a number of ms", option="-k eb_timeout") from None
    if keys:
        log.warning("-k %s: not known here", ", ".join(keys))
    if not 0 < timeout_s <= MAX_TIMEOUT_S or not 0 < options.event_timeout <= MAX_TIMEOUT_S:
        raise ConfigError(
            f"is more than 0 and at most {MAX_TIMEOUT_S:g} s", option="--eb-timeout and --event-timeout"
        )
    if not 1 <= options.window <= MAX_RECORDS:
        raise ConfigError(f"is 1 to {MAX_RECORDS}", option="--window", value=options.window)
    if options.prescale < 0:
        raise ConfigError("is 1 or more, or 0 for none", option="--prescale", value=options.prescale)
    if options.keep_if is not None and options.script:
        raise ConfigError(
            "a script decides, or a condition", option="--keep-if", hint="Leave one of them out."
        )
    limits = Limits(timeout_s, max(DEFAULT_TRANSITION_TIMEOUT_S, timeout_s), options.window)
    return TebConfig(options.script, options.prescale, limits, partition.instrument, partition.platform)


def _lone(texts: Sequence[str]) -> tuple[Contributor, ...]:
    out = []
    for number, text in enumerate(texts):
        found = _LONE.fullmatch(text)
        if found is None or int(found[2] or 0) > 15 or number >= MAX_DRPS:
            raise ConfigError("is ALIAS or ALIAS:GROUP", option="--lone", value=text)
        out.append(Contributor(number, found[1], int(found[2] or 0)))
    return tuple(out)


def _decider(options: argparse.Namespace, config: TebConfig) -> Decider:
    if not config.script:
        return AtOnce(None if options.keep_if is None else Conditions.parse(options.keep_if))
    return TriggerStage(_stage(options, config))


def _stage(options: argparse.Namespace, config: TebConfig) -> StageConfig:
    script, *args = config.script
    return StageConfig(
        script, tuple(args), options.event_timeout, instrument=config.instrument, platform=config.platform
    )


def _serve(
    options: argparse.Namespace,
    partition: Partition,
    config: TebConfig,
    decider: Decider,
    lone: tuple[Contributor, ...],
) -> int:
    """Serve until a signal comes, or, for a lone drp, its script cannot be run."""
    if lone:
        set_parent_death_signal(signal.SIGTERM)
    decider.start()
    name = options.serve or partition.socket_name(partition.alias)
    router, endpoint = listen(
        zmq.ROUTER, name, bind=None if lone else partition.bind, keys=None if lone else partition.keys
    )
    words = WordsPublisher(name, bind=None if lone else partition.bind, keys=None if lone else partition.keys)
    made: list[Teb] = []
    member = None if lone else TebMember(lambda: made[0], endpoint)
    told, warn = (None, None) if member is None else (member.told, member.warn)
    teb = Teb(config, router, decider, alone=lone, told=told, words=words, warn=warn)
    made.append(teb)
    with counted_signals(LAST_S, EXIT_INTERRUPTED) as signals, exported(options, partition, teb.metrics):
        teb.watch(signals)
        line = None
        if member is not None:
            line = Member(partition.control, partition.keys, level="teb", alias=partition.alias)
            member.attach(line)
            teb.watch(line.fd)
        say_ready()
        log.info(
            "%s: contributors come to %s, words go out at %s",
            partition.alias,
            endpoint.address,
            words.endpoint.address,
        )
        parent = os.getppid()
        try:
            while True:
                found = teb.turn()
                if signals in found:
                    return 0
                if line is not None and member is not None and line.fd in found:
                    member.obey()
                if lone and (os.getppid() != parent or teb.error is not None):
                    return EXIT_FAILED
        finally:
            if line is not None:
                line.close()
            teb.close()
            time.sleep(GOODBYE_S)  # what a contributor has not read when the connection ends, it never will
            router.close()
