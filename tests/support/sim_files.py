"""Simulated runs as files, and stores of their true constants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from drp.source import SourceOptions, open_source
from xtc import Dgram, TransitionId, encode_dgram

ROOT = Path(__file__).resolve().parents[2]
ENDS = (TransitionId.Disable, TransitionId.EndStep, TransitionId.EndRun)


class Slots:
    """Takes dgrams until it has so many events."""

    transitions_free = 1 << 20

    def __init__(self, events: int) -> None:
        self.events_free = events
        self.dgrams: list[bytes] = []

    def put(self, dgram: Any, _pulse_id: int = 0) -> bool:
        is_event = Dgram(dgram).service == TransitionId.L1Accept
        if is_event and not self.events_free:
            return False
        self.events_free -= is_event
        self.dgrams.append(bytes(dgram))
        return True


def write_run(path: Path, source: str, events: int) -> Path:
    """Write a simulated run to one file, with its ends; the experiment is tstsim0001."""
    opened, slots = open_source(source, SourceOptions(events=events)), Slots(events)
    while slots.events_free:
        opened.fill(slots)
    last = Dgram(slots.dgrams[-1]).timestamp
    path.write_bytes(
        b"".join([*slots.dgrams, *(encode_dgram(one, last + k) for k, one in enumerate(ENDS, 1))])
    )
    return path


def split(data: bytes) -> list[bytes]:
    """Return the dgrams of a file."""
    out = []
    at = 0
    while at < len(data):
        size = 12 + int.from_bytes(data[at + 20 : at + 24], "little")
        out.append(data[at : at + size])
        at += size
    return out


def run_command(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of our commands in a process of its own, whose logging is its own too."""
    words = [
        sys.executable,
        "-c",
        f"import sys; from drp.cli.{command} import main; sys.exit(main())",
        *map(str, arguments),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "DRP_CALIB"}
    return subprocess.run(
        words,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def drp(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the drp command in a process of its own."""
    return run_command("drp", *arguments)
