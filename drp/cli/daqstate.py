"""The `daqstate` command: drives a partition from a shell, with the options of LCLS's.

It waits until what it asked for is done. Exit codes: 0 done, 1 not done (what went wrong with whom is printed), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from drp.cli.partition import parser, partition_of, printable
from drp.control.client import DEFAULT_TIMEOUT_MS, DaqControl, PartitionError
from drp.core.errors import ConfigError, DrpError

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daqstate command with `argv` (default: the process's own) and return its exit code."""
    try:
        options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
        phase1 = _phase1(options)
        partition = partition_of(options)
        daq = DaqControl.at(partition.clients, partition.status, partition.keys, options.timeout_ms)
    except ConfigError as error:
        print(f"daqstate: {error}", file=sys.stderr)
        return EXIT_USAGE
    except DrpError as error:
        print(f"daqstate: {error}", file=sys.stderr)
        return EXIT_FAILED
    try:
        if options.monitor:
            _monitor(daq)
        else:
            _ask(daq, options, phase1)
    except DrpError as error:
        _warn(error.warnings if isinstance(error, PartitionError) else ())
        print(f"daqstate: {printable(str(error))}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        daq.close()
    return 0


def _ask(daq: DaqControl, options: argparse.Namespace, phase1: dict[str, Any]) -> None:
    alias = "BEAM" if options.beam else options.config
    if options.state:
        _warn(daq.ask("setState", {"state": options.state, "phase1": phase1}).get("warnings", ()))
    elif options.transition:
        _warn(
            daq.ask("setTransition", {"transition": options.transition, "phase1": phase1}).get("warnings", ())
        )
    elif alias:
        daq.ask("setConfig", {"config": alias})
    elif options.record is not None:
        daq.ask("setRecord", {"record": bool(options.record)})
    elif options.bypass is not None:
        daq.ask("setBypass", {"bypass": bool(options.bypass)})
    else:
        _show(daq.ask("getStatus"))


def _warn(warnings: Sequence[str]) -> None:
    for text in warnings:
        print(f"daqstate: warning: {printable(text)}", file=sys.stderr)


def _show(status: dict[str, Any]) -> None:
    print(
        f"last transition: {status['transition']}  state: {status['state']}  configuration alias: {status['config_alias']}  "
        f"recording: {status['recording']}  experiment: {status['experiment_name']}  run: {status['run_number']}  "
        f"last run: {status['last_run_number']}"
    )
    if status["busy"]:
        print(f"busy with {status['busy']}; awaited: {printable(', '.join(status['awaited']) or 'nobody')}")
    for name in ("broken", "gone", "silent"):
        if status[name]:
            told = status[name] if isinstance(status[name], str) else ", ".join(status[name])
            print(f"{name}: {printable(told)}")


def _monitor(daq: DaqControl) -> None:
    """Print what control publishes; a status that says nothing new is passed over."""
    before = ""
    while True:
        message = daq.news()
        text = _line(message.key, message.body)
        if text and text != before:
            print(printable(text), flush=True)
        before = text or before


def _line(key: str, body: dict[str, Any]) -> str:
    lines = {
        "status": "transition: {transition:<11}  state: {state:<11}  config: {config_alias}  recording: {recording}  run: {run_number}",
        "error": "error: {err_info}",
        "warning": "warning: {err_info}",
        "fileReport": "data file: {path}",
        "progress": "progress: {transition} ({elapsed}/{total} s)",
        "step": "step done: {step_done}",
    }
    if key == "ledger":
        return "\n".join(body.get("text", []))
    return lines.get(key, "").format_map(defaultdict(str, body))


def _phase1(options: argparse.Namespace) -> dict[str, Any]:
    if options.phase1 is None:
        return {}
    if not options.state and not options.transition:
        raise ConfigError("goes with --state or --transition", option="--phase1")
    try:
        told = json.loads(options.phase1)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is no JSON: {error}", option="--phase1") from None
    if not isinstance(told, dict):
        raise ConfigError("is a JSON object", option="--phase1")
    return told


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "daqstate",
        "Drive a partition: wait until it is in a state, make a transition, choose the configuration or whether runs are recorded. "
        "Without any of these, print how it is.",
        member=False,
    )
    made.add_argument(
        "-C", dest="control_host", metavar="HOST", default="", help="where control runs (default: here)"
    )
    made.add_argument(
        "-t",
        dest="timeout_ms",
        metavar="MS",
        type=float,
        default=float(DEFAULT_TIMEOUT_MS),
        help=f"how long control may be silent (default: {DEFAULT_TIMEOUT_MS})",
    )
    group = made.add_mutually_exclusive_group()
    group.add_argument("--state", choices=[str(one) for one in DaqControl.states])
    group.add_argument("--transition", choices=DaqControl.transitions)
    group.add_argument("--monitor", action="store_true", help="print what happens, until interrupted")
    group.add_argument("--config", metavar="ALIAS", help="configuration alias of the next Configure")
    group.add_argument("--record", type=int, choices=(0, 1), help="whether the next run is recorded")
    group.add_argument("--bypass", type=int, choices=(0, 1), help="whether the next rollcall takes everybody")
    group.add_argument("-B", dest="beam", action="store_true", help="shortcut for --config BEAM")
    made.add_argument(
        "--phase1",
        metavar="JSON",
        help='added to the first phase: with --state by transition, {"beginstep": {"step_values": {"motor": 1}}}; under "members" by alias',
    )
    return made
