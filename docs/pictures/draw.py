"""Draw the pictures of the documentation, all or those named: `python docs/pictures/draw.py [NAME ...]`; needs matplotlib."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from drp.fex import EdgeFinder, PulseFinder
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from drp.source.waveforms import WaveformTruth

HERE = Path(__file__).parent


def timetool(figure: Any) -> None:
    """An edge: the line and its background, the signal, the correlation."""
    truth = TimeToolTruth(parse("timetool"))
    finder = EdgeFinder((truth.samples,))
    finder.add_background(truth.raw(0))
    line = truth.raw(4)
    edge, true = finder.find(line), truth.edge(4)
    assert finder.background is not None
    assert true is not None
    above, middle, below = figure.subplots(3, 1, sharex=True)
    above.plot(finder.background, color="0.6", label="background")
    above.plot(line, lw=0.8, label="line")
    above.set_ylabel("ADU")
    middle.plot(finder.signal, lw=0.8)
    middle.set_ylabel("signal")
    first = (truth.samples - len(finder.correlation)) / 2
    below.plot(first + np.arange(len(finder.correlation)), finder.correlation)
    below.axvline(
        edge.position, color="C3", lw=1, label=f"found at {edge.position:.2f}, is at {true.position:.2f}"
    )
    below.set(ylabel="correlation", xlabel="pixel")
    above.legend(loc="lower left")
    below.legend(loc="upper right")


def digitizer_peaks(figure: Any) -> None:
    """Two pulses: the waveform, and b with its crossings."""
    truth = WaveformTruth(parse("digitizer:4000,pulses=20,rise=8,seed=3"))
    finder = PulseFinder(truth.samples, 40.0, baseline=truth.baseline)
    v = truth.raw(0) - truth.baseline
    b = v[:-4] - 0.5 * v[4:]
    found = finder.find(truth.raw(0))
    shown = slice(int(found.samples[0]) - 20, int(found.samples[1]) + 40)
    x = np.arange(truth.samples)[shown]
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, v[shown], ".-", lw=0.8)
    below.plot(x, b[shown], ".-", lw=0.8)
    below.axhline(0, color="0.6", lw=0.8)
    for at in found.samples[:2]:
        for axes in (above, below):
            axes.axvline(at, color="C3", lw=1)
    above.set_ylabel("v, ADU")
    below.set(ylabel="b, ADU", xlabel="sample")


PICTURES: dict[str, Callable[[Any], None]] = {"timetool": timetool, "digitizer_peaks": digitizer_peaks}


def main(names: list[str]) -> None:
    """Draw."""
    for name in names or PICTURES:
        figure = plt.figure(figsize=(7, 4), layout="constrained")
        PICTURES[name](figure)
        figure.savefig(HERE / f"{name}.png", dpi=90, metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
