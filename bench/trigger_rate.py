"""Triggers per second that timing sends, and how late they come at 1 kHz, into drps that only count.

Input: the timing command by itself, event codes 40 and 42, a journal on tmpfs; four drps in one process beside it, which take triggers and give credit, and
nothing else. Late: from the pulse's own time to the moment a drp has it, both clocks being this machine's. There is no rival.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np

from bench._common import Setting, Table, say_where, scratch, setting, turns
from drp.core import beam, wire
from drp.link.sockets import well_known
from drp.source.timing_link import Events, TimingLink, Who
from xtc import TransitionId

DRPS = 4
SLOTS = 1000
RATES = {"1 kHz": ("1000", 5_000), "20 kHz": ("20000", 100_000), "flat out": ("flat", 300_000)}
COMMAND = "import sys; from drp_start import timing; sys.exit(timing())"


def measure(settings: Setting) -> Table:
    """Measure at all rates, in turn."""
    table = Table(f"triggers into {DRPS} drps that only count, {SLOTS} slots each")

    def at(name: str, rate: str, events: int) -> None:
        events = max(1000, int(events * settings.scale))
        with scratch() as folder:
            os.environ["XDG_RUNTIME_DIR"] = str(folder)
            words = [
                "--alone",
                str(DRPS),
                "--rate",
                rate,
                "-n",
                str(events),
                "-o",
                str(folder),
                "--event-code",
                "40:/1,42:/10",
            ]
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            late_us: list[float] = []
            counting = threading.Thread(target=_count, args=(late_us,))
            counting.start()
            out, _ = process.communicate(timeout=120)
            counting.join()
        counts = json.loads(out)
        table.add(f"{name}: events", "/s", counts["events"] / counts["enabled_s"])
        if rate != "flat":
            table.add(f"{name}: inhibited", "%", 100 * sum(counts["inhibited_groups"].values()) / events)
            table.add(f"{name}: late p50", "us", float(np.quantile(late_us, 0.5)))
            table.add(f"{name}: late p99", "us", float(np.quantile(late_us, 0.99)))

    turns(settings, *(lambda name=name, row=row: at(name, *row) for name, row in RATES.items()))
    return table


def _count(late_us: list[float]) -> None:
    """Be the drps until Unconfigure."""
    ahead_ns = time.time_ns() - beam.EPOCH_UNIX_S * 10**9 - time.monotonic_ns()
    endpoint = well_known("timing-tst-p0")
    links = [TimingLink(endpoint, Who(f"drp_{number}", number, 0)) for number in range(DRPS)]
    over = 0
    while over < DRPS:
        for link in links:
            for one in link.receive():
                if isinstance(one, Events):
                    link.dealt += one.count
                    pulse = int(one.triggers.view(wire.TRIGGER)["pulse_id"][0])
                    late_us.append((time.monotonic_ns() + ahead_ns - beam.time_ns(pulse)) / 1e3)
                else:
                    over += one.service == TransitionId.Unconfigure
            if link.unspent < SLOTS // 2:
                link.grant(link.dealt + SLOTS)
        links[0].wait(0.001)
    for link in links:
        link.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    measure(settings).print()


if __name__ == "__main__":
    main()
