"""`teb --source FILES`: the verdicts of a trigger over recorded files, offline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from drp.core.errors import ConfigError
from drp.teb.deciding import Decider
from drp.teb.replay import replay

EXIT_FAILED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of a replay."""
    group = parser.add_argument_group("on recorded files")
    group.add_argument(
        "--source",
        nargs="+",
        metavar="FILE",
        help="decide on the events of these xtc2 files, all streams of a run, print what came of it, and end",
    )
    group.add_argument(
        "--verdicts",
        type=Path,
        metavar="FILE",
        help="write pulse id, time stamp, result and cause of each event",
    )
    group.add_argument(
        "--trigger-config",
        type=Path,
        metavar="FILE",
        help="what get_config gives the script: JSON of trigger_0",
    )


def replay_verdicts(options: argparse.Namespace, decider: Decider, *, platform: int, instrument: str) -> int:
    """Do what the options ask for with what decides; print the outcome and return the exit code.

    1: the script gave no answer for some events. Raises DrpError.
    """
    configs = _configs(options.trigger_config)
    tally = replay(
        options.source,
        decider,
        platform=platform,
        instrument=instrument,
        prescale=options.prescale,
        configs=configs,
        write=options.verdicts,
    )
    print("\n".join(tally.lines()))
    return EXIT_FAILED if tally.unanswered else 0


def _configs(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return {"trigger_0": json.loads(path.read_text())}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", option="--trigger-config", value=str(path)) from error
