"""From SIGKILL of a worker to its replacement's first event, while another worker is busy.

Input: a simulated digitizer at 2000 events/s, two workers, each event 0.2 ms of a script's work. The script writes the monotonic clock and its
process id to a file as it gets its first event; the killer notes the same clock just before it sends SIGKILL to a worker that has events, and
waits for the line of a process it has not heard of. Between two kills it waits until all processes stand again. With `--spares 1` and 0.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench._common import SCRIPTS, Setting, Table, command, finish, say_where, scratch, setting, start
from bench._proc import name, tree, wait_for

SOURCE = "sim:digitizer:64"
RATE_HZ = 2000
WORKERS = 2
WORK_US = 200
KILLS = 50
LIMIT_S = 30.0


def kill_some(kills: int, spares: int) -> list[float]:
    """Kill workers one after the other; return the milliseconds each time. SystemExit: the account of the run is wrong."""
    rng = random.Random(spares)
    with scratch() as folder:
        told, report = folder / "told", folder / "report.json"
        told.touch()
        word = Path(f"{SCRIPTS / 'first.py'} {told} {WORK_US}")
        options = (
            "-W",
            str(WORKERS),
            "--spares",
            str(spares),
            "--rate",
            str(RATE_HZ),
            "-o",
            str(folder / "out"),
        )
        process = start(command(word, SOURCE, *options), report)
        took_ms = []
        try:
            wait_for(lambda: len(_heard(told)) == WORKERS, "the first events", LIMIT_S)
            for _ in range(kills):
                _wait_for_all(process, WORKERS + spares)
                time.sleep(rng.uniform(0.05, 0.1))
                took_ms.append(_kill_one(rng, told))
        finally:
            process.send_signal(signal.SIGTERM)
        found = finish(process, report, may_fault=True)
    failures = [one["failures"] for one in found["workers"]]
    damaged = found["damage"]["drp"]["events"]
    if found["restarts"] != kills or damaged > kills:
        raise SystemExit(
            f"bench: {kills} kills, {found['restarts']} restarts, {damaged} events damaged; failures by worker: {failures}"
        )
    return took_ms


def _kill_one(rng: random.Random, told: Path) -> float:
    heard = _heard(told)
    working = [pid for pid in heard if name(pid).startswith("drp-worker")]
    victim = rng.choice(working)
    killed_ns = time.monotonic_ns()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(_heard(told)) > len(heard), "the replacement's first event", LIMIT_S)
    (new,) = _heard(told).keys() - heard.keys()
    return (_heard(told)[new] - killed_ns) / 1e6


def _heard(told: Path) -> dict[int, int]:
    """The processes that had their first event, and when."""
    return {int(pid): int(when) for pid, when in (line.split() for line in told.read_text().splitlines())}


def _wait_for_all(process: subprocess.Popen[str], wanted: int) -> None:
    """Wait until all processes are forked; their scripts still need a moment."""
    wait_for(
        lambda: sum(name(pid).startswith("drp-worker") for pid in tree(process.pid)) == wanted,
        "workers",
        LIMIT_S,
    )
    time.sleep(0.3)


def measure(settings: Setting) -> Table:
    """Kill with and without a spare; each kill is a value of its own."""
    table = Table(
        f"from SIGKILL to the replacement's first event: {WORKERS} workers, {RATE_HZ} events/s, {WORK_US} us of work each"
    )
    kills = max(10, int(KILLS * settings.scale))
    for spares in (1, 0):
        values = kill_some(kills, spares)
        for value in values:
            table.add(f"--spares {spares} ({kills} kills)", "ms", value)
        table.add(f"--spares {spares}, 90 % within", "ms", statistics.quantiles(values, n=10)[-1])
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    table = measure(settings)
    table.print(targets={name: "median under 20" for name in table.rows if name.startswith("--spares 1 (")})


if __name__ == "__main__":
    main()
