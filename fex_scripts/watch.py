"""Watch a running partition: a live average of one detector, printed once a second, or drawn.

    python fex_scripts/watch.py tst:0/meb0                      # the first detector with an array
    python fex_scripts/watch.py tst:0 --detector epixhr --plot
    python fex_scripts/watch.py tst --calib constants.db

The average forgets: an event counts for a half after as many more as `--memory` says. Ends with Ctrl-C, or after `--runs` runs.
"""

import argparse
import contextlib
import time

import numpy as np

from drp import DataSource


class Average:
    """An average in which old events count less and less; all its frames have the shape of the first."""

    def __init__(self, memory: int) -> None:
        self.keep = 0.5 ** (1 / memory)
        self.events = 0
        self.weight = 0.0
        self.sum = np.zeros(0)

    def add(self, frame: np.ndarray) -> None:
        """Take one frame."""
        if self.sum.shape != frame.shape:
            self.sum, self.weight = np.zeros(frame.shape), 0.0
        self.sum = self.sum * self.keep + frame
        self.weight = self.weight * self.keep + 1
        self.events += 1

    @property
    def value(self) -> np.ndarray:
        """The average now."""
        return self.sum / max(self.weight, 1.0)


def main() -> None:
    """Watch until told to stop."""
    options = arguments()
    ds = DataSource(monitor=options.meb, calib=options.calib)
    show = drawing() if options.plot else printing
    for number, run in enumerate(ds.runs(), 1):
        name, frame_of = frames(run, options.detector, calibrated=options.calib is not None)
        print(f"run {run.runnum}: {name}", flush=True)
        average, shown = Average(options.memory), time.monotonic()
        for evt in run.events():
            frame = frame_of(evt)
            if frame is not None:
                average.add(np.asarray(frame, dtype=np.float64))
            if average.events and time.monotonic() - shown >= options.every:
                shown = time.monotonic()
                show(name, average, ds.monitor_lost)
        if average.events:
            show(name, average, ds.monitor_lost)
        if number == options.runs:
            return


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="A live average of what a partition monitors.")
    parser.add_argument("meb", help="INSTRUMENT[:PLATFORM][/ALIAS], such as tst:0/meb0")
    parser.add_argument("--detector", help="default: the first that has an array")
    parser.add_argument("--calib", help="constants: frames are calibrated")
    parser.add_argument("--memory", type=int, default=100, help="events (default: %(default)s)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=0, help="end after so many (default: never)")
    parser.add_argument("--plot", action="store_true", help="draw, with matplotlib")
    return parser.parse_args()


def frames(run, detector, *, calibrated):
    """Return the name of a detector, and what gives its frame for an event."""
    for name in [detector] if detector else sorted(run.detnames):
        raw = getattr(run.Detector(name), "raw", None)
        if raw is not None and hasattr(raw, "raw"):
            return name, raw.calib if calibrated else raw.raw
    raise SystemExit(f"none of {', '.join(sorted(run.detnames))} has an array: say --detector")


def printing(name, average, lost):
    """Print what there is."""
    value = average.value
    print(
        f"{name}: {average.events} events, {lost} lost, mean {value.mean():.3f}, max {value.max():.3f}",
        flush=True,
    )


def drawing():
    """Return what draws into a window."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - only who draws needs it

    plt.ion()
    figure, axes = plt.subplots()

    def draw(name, average, lost):
        value = average.value
        axes.clear()
        if value.ndim > 1 and value.shape[-2] > 1:
            axes.imshow(value.reshape(-1, value.shape[-1]))
        else:
            axes.plot(value.reshape(-1))
        axes.set_title(f"{name}: {average.events} events, {lost} lost")
        figure.canvas.draw_idle()
        plt.pause(0.001)

    return draw


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
