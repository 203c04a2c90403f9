"""What all benchmarks share: run the `drp` command in a process of its own, and tell figures with their spread.

Every figure of drp is from the report of a run, never from inside. A benchmark and its rival take turns, so that what else the machine
does meets both; their ratio is taken turn by turn. Nothing here knows what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

SCRIPTS = Path(__file__).parent / "scripts"
TMPFS = Path("/dev/shm")
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Setting:
    """How much is measured: `turns` repetitions of everything, `scale` times the usual amount in each."""

    turns: int = 5
    scale: float = 1.0

    def events(self, usual: int, least: int = 100) -> int:
        """Return how many events a run that usually has `usual` is to have."""
        return max(least, int(usual * self.scale))


SHORT = Setting(turns=3, scale=0.2)


def setting(argv: Sequence[str] | None = None, *, doc: str | None = None) -> Setting:
    """Read the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument(
        "--turns", type=int, default=Setting().turns, help="repetitions (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how many times the usual amount (default: 1)"
    )
    parser.add_argument("--short", action="store_true", help="a look only: 3 turns of a fifth")
    given = parser.parse_args(argv)
    return SHORT if given.short else Setting(given.turns, given.scale)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on tmpfs that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="drp-bench-", dir=TMPFS if TMPFS.is_dir() else None) as name:
        yield Path(name)


def command(script: Path, source: str, *options: str) -> list[str]:
    """Return the drp command line for a script of ours (with its arguments) and a source."""
    beside = Path(sys.executable).with_name("drp")
    drp = str(beside) if beside.exists() else shutil.which("drp")
    if drp is None:
        raise SystemExit("bench: there is no drp command beside this Python; install the project first")
    return [drp, "-p", str(script), "--source", source, "--log-level", "warning", *options]


def start(argv: Sequence[str], report: Path) -> subprocess.Popen[str]:
    """Start a drp command that writes `report`."""
    return subprocess.Popen(
        [*argv, "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[str], report: Path, *, may_fault: bool = False) -> dict[str, Any]:
    """Wait for a drp command and return its report; SystemExit with its output where the run was not good."""
    text, _ = process.communicate(timeout=LIMIT_S)
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    if not found or not found["closes"] or (process.returncode and not may_fault):
        told = shlex.join(cast(list[str], process.args))
        raise SystemExit(f"bench: {told}\nended with {process.returncode}:\n{text}")
    return found


def run_drp(
    script: str, source: str, *options: str, record: bool = True, arguments: str = ""
) -> dict[str, Any]:
    """Run drp once with the script of that name in `scripts/`, output on tmpfs; return its report."""
    with scratch() as folder:
        word = Path(f"{SCRIPTS / script} {arguments}".strip())
        out = ["-o", str(folder / "out")] if record else []
        report = folder / "report.json"
        return finish(start(command(word, source, *options, *out), report), report)


@dataclass(slots=True)
class Figures:
    """Values of one thing measured in several turns, in `unit`."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def text(self) -> str:
        """Return name, median and extremes."""
        return f"{self.name:<46} {number(self.median):>10} {self.unit:<9} [{number(min(self.values))} .. {number(max(self.values))}]"


def number(value: float) -> str:
    """Return a figure with three digits, thousands parted."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class Table:
    """Figures by name, in the order they came, and ratios of two of them taken turn by turn."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: dict[str, Figures] = {}

    def add(self, name: str, unit: str, value: float) -> None:
        """Add one turn's value."""
        self.rows.setdefault(name, Figures(name, unit)).values.append(value)

    def ratio(self, above: str, below: str) -> Figures:
        """Return the ratio of two rows, turn by turn."""
        pairs = zip(self.rows[above].values, self.rows[below].values, strict=True)
        return Figures(f"{above} / {below}", "x", [a / b for a, b in pairs])

    def print(self, ratios: Sequence[tuple[str, str]] = (), targets: Mapping[str, str] | None = None) -> None:
        """Print everything; `targets` by the name of a row or of a ratio."""
        targets = targets or {}
        print(f"\n{self.title}")
        for figures in (*self.rows.values(), *(self.ratio(*pair) for pair in ratios)):
            target = f"  target {targets[figures.name]}" if figures.name in targets else ""
            print(f"  {figures.text()}{target}", flush=True)


def turns(settings: Setting, *contestants: Callable[[], None]) -> None:
    """Let the contestants take turns, each turn in the other direction."""
    for turn in range(settings.turns):
        for one in contestants if turn % 2 == 0 else reversed(contestants):
            one()


def machine() -> str:
    """Return one line on where this is measured."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{cores} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"load {load:.1f} at the start"
    )


def say_where() -> None:
    """Print the machine and the command that makes these figures."""
    print(f"machine: {machine()}")
    root, path = SCRIPTS.resolve().parents[1], Path(sys.argv[0]).resolve().with_suffix("")
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ("bench",)
    module = ".".join(parts).removesuffix(".__main__")
    print(f"command: python -m {module} {shlex.join(sys.argv[1:])}".rstrip())
    print("figures: median [least .. most] over the turns; ratios are taken turn by turn")
