"""Memory, descriptors, threads and segments of drp and its worker over ten million small events.

Input: as in `small_events`, one worker and a spare, recorded on tmpfs (about 4 GB), or with `--no-record` not at all. RSS counts the pages of shared
memory that a process has touched, so it grows until each slot and the whole arena were used once; PSS divides what is shared; `private` is what the
process alone has written, where a leak would show. Growth is from the look at 20 % of the events to the last one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench._common import SCRIPTS, Setting, command, finish, say_where, scratch, setting, start
from bench._proc import Look, look, name, segments, tree, wait_for

SOURCE = "sim:digitizer:64"
EVENTS = 10_000_000
LOOKS = 12
MIB = 1 << 20


@dataclass(slots=True)
class Life:
    """The looks at one process, with the seconds since the first event at which they were taken."""

    name: str
    looks: list[tuple[float, Look]] = field(default_factory=list)

    def rows(self, run_s: float) -> list[str]:
        """Return a line for each of about a dozen looks, and one that says how it grew."""
        known = [(when, one) for when, one in self.looks if when <= run_s]
        step = max(1, len(known) // LOOKS)
        shown = [*known[::step], known[-1]] if (len(known) - 1) % step else known[::step]
        lines = [f"  {self.name}"]
        for when, one in shown:
            sizes = (one.rss_bytes, one.pss_bytes, one.private_bytes)
            rss, pss, private = (f"{size / MIB:8.1f}" for size in sizes)
            lines.append(
                f"    {when / run_s:6.1%} {rss} RSS {pss} PSS {private} private MiB, {one.descriptors} descriptors, {one.threads} threads"
            )
        early = next(one for when, one in known if when >= 0.2 * run_s)
        last = known[-1][1]
        lines.append(
            f"    growth from 20 % on: RSS {(last.rss_bytes - early.rss_bytes) / MIB:+.2f} MiB, "
            f"private {(last.private_bytes - early.private_bytes) / MIB:+.2f} MiB, "
            f"descriptors {last.descriptors - early.descriptors:+d}, threads {last.threads - early.threads:+d}"
        )
        return lines


def measure(settings: Setting, *, record: bool = True) -> list[str]:
    """Run once and look every half second; return the lines that tell it."""
    events = settings.events(EVENTS)
    with scratch() as folder:
        report = folder / "report.json"
        out = ("-o", str(folder / "out")) if record else ()
        process = start(command(SCRIPTS / "scalar.py", SOURCE, "-n", str(events), "-W", "1", *out), report)
        wait_for(lambda: len(_workers(process.pid)) == 2, "worker and spare")
        lives: dict[int, Life] = {}
        held = []
        began = time.monotonic()
        while process.poll() is None:
            when = time.monotonic() - began
            for pid in tree(process.pid):
                if (found := look(pid)) is not None:
                    lives.setdefault(pid, Life(name(pid))).looks.append((when, found))
            held.append(segments(process.pid))
            time.sleep(0.5)
        found_report = finish(process, report)
    run_s = found_report["run_s"]
    title = f"memory: {found_report['ledger']['total']:,} events of {SOURCE} in {run_s:.1f} s, {found_report['restarts']} restarts"
    rows = [line for life in lives.values() for line in life.rows(run_s)]
    return [
        title,
        *rows,
        f"  segments of drp: {min(held[1:-1], default=0)} to {max(held)}, {segments(process.pid)} afterwards",
    ]


def _workers(pid: int) -> list[int]:
    return [one for one in tree(pid) if name(one).startswith("drp-worker")]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    words = list(sys.argv[1:] if argv is None else argv)
    record = "--no-record" not in words
    settings = setting([word for word in words if word != "--no-record"], doc=__doc__)
    say_where()
    print("\n" + "\n".join(measure(settings, record=record)), flush=True)


if __name__ == "__main__":
    main()
