"""`teb --source FILES`: the verdicts of a trigger over recorded files, offline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from drp.core.conditions import Conditions
from drp.core.errors import ConfigError
from drp.teb.replay import replay
from drp.teb.stage import StageConfig

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


def replay_verdicts(
    options: argparse.Namespace, config: StageConfig | None, keep_if: str | None = None
) -> int:
    """Do what the options ask for with a script (`config`) or the conditions `keep_if`; print the outcome and return the exit code.

    1: the script gave no answer for some events. Raises DrpError; ConfigError where neither or both are given.
    """
    if (config is None) == (keep_if is None):
        raise ConfigError(
            "a replay takes a script or conditions", option="--source", hint="Give -p or --keep-if."
        )
    tally = replay(
        options.source,
        config=config,
        conditions=None if keep_if is None else Conditions.parse(keep_if),
        configs=_configs(options.trigger_config),
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
