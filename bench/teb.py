"""Decisions per second of a Python trigger script over two contributors, beside a message queue; latency at 1 kHz; and scaling with contributors.

The whole teb process: contributions come over ipc sockets, 64 to a message, are built into events by pulse id, the script reads a word of each
contributor and calls `ds.result` for every event, and all contributors get their verdicts, which are counted and checked. The queue does less: it carries a
message of 64 bytes to a Python process and back for each event, builds nothing, and answers one. All contributors are one process of the benchmark's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from bench._common import SCRIPTS, Setting, Table, say_where, setting, turns
from bench._contributors import aliases, decide, latencies, teb
from bench._queue import MAX_DEPTH, events_per_s

EVENTS = 500_000
MESSAGE = 64
IN_FLIGHT = 4096
RATE_HZ = 1000.0
LATENCY_EVENTS = 5000
SCALING = (1, 2, 4, 8)


def measure(settings: Setting) -> Table:
    """Measure two contributors and the queue in turns, then the latency, then other numbers of contributors."""
    table = Table("trigger decisions: a Python script over two contributors, through the whole teb process")
    events = settings.events(EVENTS) // MESSAGE * MESSAGE

    def decisions(n: int, in_flight: int = IN_FLIGHT, size: int = MESSAGE) -> float:
        names = aliases(n)
        with teb(names, "-p", f"{SCRIPTS / 'trigger.py'} {' '.join(names)}") as made:
            decide(made, 20 * size, size, in_flight)
            return decide(
                made, events if in_flight == IN_FLIGHT else events // 10 // size * size, size, in_flight
            )

    turns(
        settings,
        lambda: table.add("teb, 2 contributors", "events/s", decisions(2)),
        lambda: table.add(
            f"message queue, {MAX_DEPTH} in flight", "events/s", events_per_s(events // 5, MAX_DEPTH)
        ),
        lambda: table.add(
            f"teb, {MAX_DEPTH - MAX_DEPTH % 2} in flight", "events/s", decisions(2, MAX_DEPTH, 10)
        ),
        lambda: table.add("message queue, one at a time", "events/s", events_per_s(events // 50, 1)),
        lambda: _latency(table, settings),
    )
    for n in SCALING:
        for _ in range(min(settings.turns, 3)):
            table.add(f"teb, {n} contributor{'s' * (n > 1)} (scaling)", "events/s", decisions(n))
    return table


def _latency(table: Table, settings: Setting) -> None:
    names = aliases(2)
    with teb(names, "-p", f"{SCRIPTS / 'trigger.py'} {' '.join(names)}") as made:
        decide(made, 200, 1, 1)
        found = latencies(made, settings.events(LATENCY_EVENTS), RATE_HZ)
    for name, quantile in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
        table.add(f"latency at 1 kHz, {name}", "us", 1e6 * float(np.quantile(found, quantile)))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    print(f"load before: {' '.join(f'{one:.2f}' for one in os.getloadavg())}")
    deep, alone = f"message queue, {MAX_DEPTH} in flight", "message queue, one at a time"
    measure(settings).print(
        [
            ("teb, 2 contributors", deep),
            ("teb, 2 contributors", alone),
            (f"teb, {MAX_DEPTH} in flight", deep),
        ],
        {"teb, 2 contributors": "100,000 (50,000 at least)"},
    )


if __name__ == "__main__":
    main()
