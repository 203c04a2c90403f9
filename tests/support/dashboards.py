"""The dashboards of docs/grafana, and values for everything that their queries ask for."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from drp.core.ledger import Fate, Ledger
from drp.core.metric_names import CONTROL, MEB, METRICS, TEB, TIMING
from drp.core.report import Readings, Snapshot
from drp.engine import metrics as of_drp
from drp.link.metrics import Exporter, Labelled, ReadCollector, Values
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "grafana"
LABEL_OF = {
    "NumL0Acc": ("group", "0"),
    "NumL0Inp": ("group", "0"),
    "drp_deadtime": ("drp", "epixhr_0"),
    "timing_inhibited": ("drp", "epixhr_0"),
    "control_state": ("state", "running"),
    "control_member_up": ("member", "epixhr_0"),
}


def expressions() -> list[tuple[str, str]]:
    """The queries of all panels with their titles, for instrument tst and partition 0."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        board: dict[str, Any] = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                text = (
                    target["expr"]
                    .replace("$instrument", "tst")
                    .replace("$partition", "0")
                    .replace("$__rate_interval", "4s")
                )
                found.append((f"{path.stem}: {panel['title']}", text))
    return found


def names_in(expression: str) -> set[str]:
    """The metrics that a query asks for."""
    return set(re.findall(r"(\w+)\{", expression))


def process(names: Any) -> Callable[[], Values]:
    """Every metric of a process, rising with each reading."""
    counter = itertools.count(1)

    def read() -> Values:
        number = float(next(counter))
        out: dict[str, float | Labelled] = {}
        for name in names:
            value = 1.0 if name in ("control_state", "control_member_up") else number
            out[name] = Labelled(LABEL_OF[name][0], {LABEL_OF[name][1]: value}) if name in LABEL_OF else value
        return out

    return read


@contextmanager
def everything(folder: Path) -> Iterator[None]:
    """Processes of every kind, as far as Prometheus sees them, told of in `folder`."""
    with ExitStack() as stack:
        drp = stack.enter_context(of_drp.Exporter(folder, "127.0.0.1"))
        drp.take(readings())
        for alias, names in (("teb0", TEB), ("meb0", MEB), ("timing_0", TIMING), ("control", CONTROL)):
            who = ("tst", "0", alias, "0", alias)
            stack.enter_context(Exporter(folder, ReadCollector(who, process(names), METRICS)))
        yield


def readings() -> Readings:
    ledger = Ledger()
    ledger.count(Fate.recorded_verdict, 100)
    counts = [0] * 1024
    counts[200] = 100
    return Readings(
        Snapshot("running", 1.0, 100),
        ("tst", "0", "epixhr", "0", "epixhr_0"),
        ledger,
        source_events=100,
        bytes_in=1000,
        bytes_recorded=500,
        worker_events=[50, 50],
        latency=counts,
        service=counts,
    )
