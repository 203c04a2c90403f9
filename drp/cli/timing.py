"""The `timing` command: the trigger source of a partition, under control or alone."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import zmq

from drp.cli.partition import (
    Parser,
    Partition,
    exported,
    kwargs_of,
    parser,
    partition_of,
    set_up_logging,
)
from drp.core.errors import ConfigError, DrpError
from drp.core.triggering import SLOW_HZ, Cadence, TriggerPlan
from drp.core.wire import MAX_DRPS
from drp.link.control import Member
from drp.link.ready import say_ready
from drp.link.sockets import Endpoint, listen
from drp.timing.clock import PulseClock
from drp.timing.links import Links
from drp.timing.partition import Partition as Triggers
from drp.timing.partition import TimingConfig
from drp.timing.process import Alone, Controlled, serve
from drp.timing.stream import Stream, words_of

if TYPE_CHECKING:
    from drp.link.metrics import Values

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
FLAT_OUT = "flat"
SOCKET = "timing"
_EPILOG = """\
HZ is a whole fraction of --rate. /N is every Nth: of pulses for event codes, of the common group's events for --group, of the group's own events for
--keep-raw; +K begins at the Kth.
"""


class _Stop:
    """What signals say: once, end in good order; twice, at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._take)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __call__(self) -> bool:
        return self.asked


def main(argv: Sequence[str] | None = None) -> int:
    """Run the timing command with `argv` (default: the process's own) and return its exit code."""
    try:
        options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
        set_up_logging(options.verbose)
        kwargs = kwargs_of(options)
        if kwargs:
            raise ConfigError("timing has no such setting", option="-k", value=next(iter(kwargs)))
        partition = partition_of(options, default_alias=SOCKET)
        config = TimingConfig(plan_of(options), partition.instrument, options.folder, options.events)
        return _run(options, partition, config)
    except ConfigError as error:
        print(f"timing: {error}", file=sys.stderr)
        return EXIT_USAGE
    except DrpError as error:
        print(f"timing: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("timing: ended by a second signal", file=sys.stderr)
        return EXIT_INTERRUPTED


def plan_of(options: argparse.Namespace) -> TriggerPlan:
    """Return what the options say about pulses; ConfigError where it cannot be."""
    rate = _rate(options.rate)
    return TriggerPlan(
        common=options.platform,
        rate_hz=rate,
        groups=_cadences(options.groups, rate, "--group", of_events=True),
        codes=_cadences(options.codes, rate, "--event-code"),
        keep_raw=_cadences(options.keep_raw, rate, "--keep-raw", of_events=True),
        slow_hz=options.slow_hz,
        destination=options.destination,
        without_beam=Cadence.parse(options.without_beam, rate, "--no-beam") if options.without_beam else None,
    )


def _run(options: argparse.Namespace, partition: Partition, config: TimingConfig) -> int:
    stop = _Stop()
    alone = options.alone is not None
    socket, endpoint = listen(
        zmq.ROUTER, partition.socket_name(partition.alias), bind=partition.bind, keys=partition.keys
    )
    folder = config.folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    clock = PulseClock(None if folder is None else folder / f"{partition.name}.pulse")
    links = Links(socket, open_to_all=alone)
    triggers = Triggers(config, links, clock)
    try:
        with exported(options, partition, lambda: _metrics(triggers)):
            if alone:
                return _alone(options, triggers, links, socket, endpoint, stop)
            with _stream(options, partition) as look:
                _controlled(options, partition, triggers, socket, endpoint, stop, look)
        return 0
    finally:
        triggers.reset()
        socket.close(linger=200)


def _metrics(triggers: Triggers) -> Values:
    """Return what `drp.core.metric_names.TIMING` names."""
    from drp.link.metrics import Labelled  # noqa: PLC0415 - with a library, for those who want metrics

    counts = triggers.counts()
    if not counts:
        return {}
    sent, inhibited = counts["groups"], counts["inhibited_groups"]
    return {
        "NumL0Acc": Labelled("group", sent),
        "NumL0Inp": Labelled("group", {group: sent[group] + inhibited.get(group, 0) for group in sent}),
        "drp_deadtime": Labelled("drp", dict(triggers.dead)),
        "timing_inhibited": Labelled("drp", counts["inhibited"]),
        "timing_skipped": counts["skipped"],
    }


@contextlib.contextmanager
def _stream(options: argparse.Namespace, partition: Partition) -> Iterator[Callable[[], None]]:
    """Have the drp of the timing stream run, where it is asked for; yields what is to be called now and then."""
    if not options.stream:
        yield lambda: None
        return
    stream = Stream(
        words_of(
            instrument=options.instrument,
            platform=options.platform,
            control_host=options.control_host,
            alias=partition.alias,
            keys=options.keys,
            folder=options.folder,
        )
    )
    try:
        yield stream.look
    finally:
        stream.close()


def _controlled(
    options: argparse.Namespace,
    partition: Partition,
    triggers: Triggers,
    socket: zmq.Socket[bytes],
    endpoint: Endpoint,
    stop: _Stop,
    look: Callable[[], None],
) -> None:
    group = triggers.config.plan.common
    member = Member(
        partition.control,
        partition.keys,
        level="timing",
        alias=partition.alias,
        describe=lambda: {"det_info": {"readout": group}, "drp_deadtime": dict(triggers.dead)},
    )
    if not options.stream:  # else its drp says so
        say_ready()
    try:
        serve(triggers, socket, Controlled(triggers, member, endpoint, look), stop)
    finally:
        member.close()


def _alone(
    options: argparse.Namespace,
    triggers: Triggers,
    links: Links,
    socket: zmq.Socket[bytes],
    endpoint: Endpoint,
    stop: _Stop,
) -> int:
    print(f"timing: serving {endpoint.address}", file=sys.stderr, flush=True)
    script = Alone(
        triggers,
        links,
        options.alone,
        options.experiment or f"{triggers.config.instrument}trig0001",
        options.run,
        record=triggers.config.folder is not None,
        stopping=stop,
        clock_s=time.monotonic,
    )
    serve(triggers, socket, script, lambda: False)
    print(json.dumps(script.counts))
    if script.left_behind:
        print(f"timing: {', '.join(script.left_behind)} did not leave", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _rate(text: str) -> float | None:
    if text == FLAT_OUT:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"is a number of Hz, or {FLAT_OUT}", option="--rate", value=text) from None


def _cadences(
    texts: Sequence[str], rate: float | None, option: str, *, of_events: bool = False
) -> dict[int, Cadence]:
    found: dict[int, Cadence] = {}
    for text in ",".join(texts).split(","):
        if not text:
            continue
        number, colon, cadence = text.partition(":")
        if not number.isdecimal() or not colon or int(number) in found:
            raise ConfigError("is NUMBER:HZ or NUMBER:/N, each once", option=option, value=text)
        found[int(number)] = Cadence.parse(cadence, rate, option, of_events=of_events)
    return found


def _parser() -> Parser:
    made = parser(
        "timing", "Trigger the drp processes of a partition, with rates, event codes and dead time."
    )
    made.epilog = _EPILOG
    group = made.add_argument_group("pulses")
    group.add_argument(
        "--rate",
        default="1000",
        metavar="HZ",
        help=f"pulses per second, or `{FLAT_OUT}`: as fast as all can take (default: 1000)",
    )
    group.add_argument(
        "--group",
        dest="groups",
        action="append",
        default=[],
        metavar="G:HZ|/N",
        help="when a readout group fires (default: every pulse)",
    )
    group.add_argument(
        "--event-code",
        dest="codes",
        action="append",
        default=[],
        metavar="C:HZ|/N[+K]",
        help="when an event code (0-287) is there",
    )
    group.add_argument(
        "--keep-raw",
        dest="keep_raw",
        action="append",
        default=[],
        metavar="G:HZ|/N",
        help="how often a readout group asks to keep raw data",
    )
    group.add_argument(
        "-S",
        dest="slow_hz",
        type=float,
        choices=SLOW_HZ,
        default=1.0,
        metavar="HZ",
        help="SlowUpdates per second: 0, 1, 5 or 10 (default: 1)",
    )
    group.add_argument(
        "--destination", type=int, default=0, metavar="N", help="beam destination, 0-127 (default: 0)"
    )
    group.add_argument("--no-beam", dest="without_beam", metavar="HZ|/N", help="pulses without beam")
    group.add_argument(
        "-n", dest="events", type=_positive, metavar="N", help="events of each step (default: until Disable)"
    )
    group.add_argument(
        "-o",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="write a journal of each recorded run's triggers, and the last pulse id, in DIR",
    )
    group.add_argument(
        "--stream",
        action="store_true",
        help="be a stream and a contributor too (dettype ts): a drp of the same alias, which has the event codes, and records below -o",
    )
    lone = made.add_argument_group("without control")
    lone.add_argument(
        "--alone",
        type=_drps,
        metavar="DRPS",
        help="when so many drps have joined, one run of -n events, or until a signal; then exit",
    )
    lone.add_argument("--expt", dest="experiment", default="", metavar="NAME", help="its experiment")
    lone.add_argument("--run", type=int, default=1, metavar="N", help="its run number (default: 1)")
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _drps(text: str) -> int:
    number = _positive(text)
    if number > MAX_DRPS:
        raise ValueError(text)
    return number
