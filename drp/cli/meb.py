"""The `meb` command: build the monitored events of a partition, and serve them to viewers."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence

from drp.cli.partition import Partition, exported, parser, partition_of, set_up_logging
from drp.core.errors import ConfigError, DrpError
from drp.engine.signals import counted_signals
from drp.link.control import Member
from drp.link.ready import say_ready
from drp.meb.member import MebMember
from drp.meb.server import Meb, MebConfig

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
LAST_S = 0.7
MAX_BUFFERS = 4096
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*:([0-9]{1,5}|\*)")

log = logging.getLogger("drp.meb")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the meb command with `argv` (default: the process's own) and return its exit code."""
    try:
        options = _options(sys.argv[1:] if argv is None else argv)
        set_up_logging(options.verbose)
        partition = partition_of(options, default_alias="meb0")
        config = _config(options, partition)
    except DrpError as error:
        print(f"meb: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        return _serve(options, partition, config)
    except DrpError as error:
        print(f"meb: {error}", file=sys.stderr)
        return EXIT_FAILED


def _options(argv: Sequence[str]) -> argparse.Namespace:
    made = parser("meb", (__doc__ or "").partition("\n")[0])
    group = made.add_argument_group("monitoring")
    group.add_argument(
        "-n",
        dest="buffers",
        metavar="N",
        type=int,
        default=8,
        help="events of each drp that may be here, and in shared memory for viewers, at once (default: %(default)s)",
    )
    group.add_argument(
        "--viewers",
        metavar="HOST:PORT",
        help="serve viewers over tcp, encrypted, instead of on this machine: DataSource(monitor='tcp://HOST:PORT', keys=DIR)",
    )
    group.add_argument("--alone", action="store_true", help="without control: take every drp that comes")
    # LCLS's -t TAG, -q QUEUES and -d, which a .cnf may hold, have no meaning here.
    for letter in ("-t", "-q"):
        group.add_argument(letter, dest=argparse.SUPPRESS, metavar="X", help=argparse.SUPPRESS)
    group.add_argument("-d", dest=argparse.SUPPRESS, action="store_true", help=argparse.SUPPRESS)
    return made.parse_args(argv)


def _config(options: argparse.Namespace, partition: Partition) -> MebConfig:
    if not 1 <= options.buffers <= MAX_BUFFERS:
        raise ConfigError(f"is 1 to {MAX_BUFFERS}", option="-n", value=options.buffers)
    viewers = None
    if options.viewers is not None:
        if _ADDRESS.fullmatch(options.viewers) is None:
            raise ConfigError("is HOST:PORT", option="--viewers", value=options.viewers)
        viewers = f"tcp://{options.viewers}"
    return MebConfig(
        partition.socket_name(partition.alias), options.buffers, partition.bind, viewers, partition.keys
    )


def _serve(options: argparse.Namespace, partition: Partition, config: MebConfig) -> int:
    """Serve until a signal comes."""
    with Meb(config) as meb, counted_signals(LAST_S, EXIT_INTERRUPTED) as signals:
        asked: list[int] = []
        meb.watch(signals, lambda: asked.append(signals))
        line: Member | None = None
        meb.configure(0, None if options.alone else ())
        if not options.alone:
            line = Member(partition.control, partition.keys, level="meb", alias=partition.alias)
            MebMember(meb, line)
        shown = exported(options, partition, meb.metrics)
        say_ready()
        log.info("%s: viewers come to %s", partition.alias, meb.viewers_endpoint.address)
        try:
            with shown:
                while not asked:
                    meb.turn()
        finally:
            if line is not None:
                line.close()
        lost = meb.metrics()["MEB_LostCt"]
        log.info(
            "%s ends: %d events, %d not seen by some viewer", partition.alias, meb.counts["events"], lost
        )
    return 0
