"""Events/s of the whole `drp` command with one worker, beside the rate of the algorithm alone on the same frames.

Input: 64 frames of the simulated epixHR of 2.2 Mpixel (`sim:epixhr2m`), flat out, the simulator's constants by the broadcast, nothing recorded. The
algorithm alone is what the script does with each event, raw to result, in this process. The command has a source that copies 4.4 MB per event on
another core, so both compete for memory. Its rate is that of the clock on the wall, from a long run and a short one, so that neither start nor constants
are in it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from bench._common import Setting, Table, command, finish, say_where, scratch, setting, start, turns
from bench.fex import peaks, photons
from bench.fex._frames import Camera, Work, typical

SCRIPTS = Path(__file__).parents[2] / "fex_scripts"
FRAMES = 64
FEW, MORE = 300, 3000
ALONE = 200

PEAKS = " ".join(
    ["peakfinder.py --hit-peaks 1000000 --keep-every 0"]
    + [f"--{name.replace('_', '-')} {value}" for name, value in peaks.SEARCH.items()]
)
"""The script with the options of `peaks`, no event being a hit, whose raw data it would keep."""
CONTESTS: dict[str, tuple[str, Callable[[Camera], Work]]] = {
    "photons": ("photons.py", lambda camera: photons.finding(camera, "single")),
    "photons, droplet": ("photons.py --method droplet", lambda camera: photons.finding(camera, "droplet")),
    "peaks, exact": (f"{PEAKS} --exact", lambda camera: peaks.from_raw(camera, None)),
    "peaks, per_bin=32": (f"{PEAKS} --per-bin 32", lambda camera: peaks.from_raw(camera, 32)),
}


def run_s(words: str, events: int) -> float:
    """Run the command once with a script of ours; return the seconds from its first event to its last."""
    script, _, arguments = words.partition(" ")
    with scratch() as folder:
        line = command(
            Path(f"{shlex.quote(str(SCRIPTS / script))} {arguments}".strip()),
            f"sim:epixhr2m,frames={FRAMES}",
            *("-W", "1", "-n", str(events)),
        )
        report = folder / "report.json"
        return float(finish(start(line, report), report)["run_s"])


def measure(settings: Setting) -> None:
    """Measure and print."""
    camera = Camera(frames=FRAMES)
    table = Table("20 x 144 x 768 pixels, events/s")
    more = settings.events(MORE, 600)

    def one(name: str, words: str, work: Work) -> None:
        alone = 1 / typical(settings.events(ALONE, 64), work)
        table.add(f"{name}: alone", "events/s", alone)
        seconds = run_s(words, FEW + more) - run_s(words, FEW)
        table.add(f"{name}: drp -W 1", "events/s", more / seconds)

    works = {name: make(camera) for name, (_, make) in CONTESTS.items()}
    contests = [lambda name=name: one(name, CONTESTS[name][0], works[name]) for name in CONTESTS]
    turns(settings, *contests)
    pairs = [(f"{name}: drp -W 1", f"{name}: alone") for name in CONTESTS]
    table.print(pairs, {f"{above} / {below}": "0.9" for above, below in pairs})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    if len(os.sched_getaffinity(0)) < 2:
        print("one core only: source and worker share it")
    measure(settings)


if __name__ == "__main__":
    main()
