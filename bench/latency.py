"""Latency at 1 kHz, without and with a trigger, and the CPU time that drp and its workers use at 1 kHz and at 1 Hz.

Input: a simulated digitizer with 64 samples at a given rate, one worker, a script that reads the array and adds a scalar, recorded on tmpfs.
Latency, from the report: from the moment the source has filled the slot to the moment the event is recorded. CPU time: what /proc says of the
whole process tree over some seconds in the middle of the run, in per cent of one core. With a trigger half of the events are kept: by a
condition in drp itself, and by a trigger script in a teb of drp's own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from bench._common import (
    SCRIPTS,
    Setting,
    Table,
    command,
    finish,
    run_drp,
    say_where,
    scratch,
    setting,
    start,
    turns,
)
from bench._proc import cpu_s, name, tree, wait_for

SOURCE = "sim:digitizer:64"
WARM_UP_S = 1.0
SECONDS = 5.0
MARGIN_S = 3.0
"""Longer than the file's appearance and the last look can take."""


def measure(settings: Setting) -> Table:
    """Measure at both rates."""
    table = Table(f"latency and idle CPU: {SOURCE}, one worker, recorded on tmpfs")
    seconds = max(2.0, SECONDS * settings.scale)

    def at(rate_hz: int) -> None:
        events = int((WARM_UP_S + seconds + MARGIN_S) * rate_hz)
        with scratch() as folder:
            report = folder / "report.json"
            options = ("-n", str(events), "-W", "1", "--rate", str(rate_hz), "-o", str(folder / "out"))
            process = start(command(SCRIPTS / "scalar.py", SOURCE, *options), report)
            wait_for(lambda: _recording(folder), "the run's file")
            time.sleep(WARM_UP_S)
            processes = tree(process.pid)
            before, began = {pid: cpu_s(pid) for pid in processes}, time.monotonic()
            time.sleep(seconds)
            used = {pid: cpu_s(pid) - before[pid] for pid in processes}
            took = time.monotonic() - began
            workers = sum(time_s for pid, time_s in used.items() if name(pid).startswith("drp-worker"))
            found = finish(process, report)
        table.add(
            f"{rate_hz} Hz: CPU of drp itself", "% of core", 100 * (sum(used.values()) - workers) / took
        )
        table.add(f"{rate_hz} Hz: CPU of workers and spare", "% of core", 100 * workers / took)
        if rate_hz > 1:
            for quantile in ("p50", "p99", "max"):
                table.add(f"{rate_hz} Hz: latency {quantile}", "us", found["latency_ns"][quantile] / 1e3)

    def judged(name: str, *trigger: str) -> None:
        options = ("-n", str(int(seconds * 1000)), "-W", "1", "--rate", "1000", *trigger)
        found = run_drp("words.py", SOURCE, *options)
        for quantile in ("p50", "p99", "max"):
            table.add(f"1000 Hz, {name}: latency {quantile}", "us", found["latency_ns"][quantile] / 1e3)

    turns(
        settings,
        lambda: at(1000),
        lambda: judged("--keep-if", "--keep-if", "npeaks > 15"),
        lambda: judged("--trigger", "--trigger", f"{SCRIPTS / 'trigger.py'} digitizer_0"),
        lambda: at(1),
    )
    return table


def _recording(folder: Path) -> bool:
    return any(one.stat().st_size for one in folder.rglob("*.xtc2*"))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    measure(settings).print()


if __name__ == "__main__":
    main()
