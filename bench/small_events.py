"""Events/s of small events through one worker, beside SysV message queues.

Input: 64 distinct events of a simulated digitizer with 64 samples (216 bytes each), dealt as fast as they are taken. The script reads the
array and adds one scalar; every event is recorded, raw kept, on tmpfs. Rate: from the first event handed in to the last one recorded, from
the report (`run_s`). The rival does less: it records nothing, keeps no order, and survives nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._common import Setting, Table, run_drp, say_where, setting, turns
from bench._queue import MAX_DEPTH, events_per_s

SOURCE = "sim:digitizer:64"
EVENTS = 1_000_000


def measure(settings: Setting) -> Table:
    """Measure drp with one and two workers, and the queue one at a time and at depth."""
    table = Table(
        f"small events: {SOURCE}, a script that reads an array and adds a scalar, recorded on tmpfs"
    )
    events = settings.events(EVENTS)

    def drp(workers: int) -> None:
        report = run_drp("scalar.py", SOURCE, "-n", str(events), "-W", str(workers))
        table.add(f"drp -W {workers}", "events/s", report["ledger"]["total"] / report["run_s"])

    turns(
        settings,
        lambda: drp(1),
        lambda: table.add(
            f"message queue, {MAX_DEPTH} in flight", "events/s", events_per_s(events // 5, MAX_DEPTH)
        ),
        lambda: drp(2),
        lambda: table.add("message queue, one at a time", "events/s", events_per_s(events // 50, 1)),
    )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    deep = f"message queue, {MAX_DEPTH} in flight"
    measure(settings).print(
        [("drp -W 1", deep), ("drp -W 1", "message queue, one at a time")],
        {"drp -W 1": "150,000 (80,000 at least)", f"drp -W 1 / {deep}": "2"},
    )


if __name__ == "__main__":
    main()
