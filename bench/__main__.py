"""Run the benchmarks of drp itself, short: `python -m bench`; those of the algorithms are `python -m bench.fex`. With arguments, those are given to each."""

from __future__ import annotations

import sys

from bench import big_events, calib, latency, memory, replacement, small_events, teb


def main() -> None:
    """Run them one after the other; each prints as it ends."""
    words = sys.argv[1:] or ["--short"]
    for one in (small_events, big_events, latency, replacement, memory, calib, teb):
        print(f"\n== {one.__name__.removeprefix('bench.')}: {(one.__doc__ or '').partition(chr(10))[0]}")
        one.main(words)


if __name__ == "__main__":
    main()
