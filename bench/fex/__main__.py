"""Run the benchmarks of feature extraction: `python -m bench.fex`. With arguments, those are given to each."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Run them one after the other; each prints as it ends."""
    words = sys.argv[1:] or ["--short"]
    names = sorted(one.stem for one in FOLDER.glob("[!_]*.py"))
    for name in names:
        module = import_module(f"bench.fex.{name}")
        print(f"\n== fex.{name}: {(module.__doc__ or '').partition(chr(10))[0]}", flush=True)
        module.main(words)


if __name__ == "__main__":
    main()
