"""Real psana's edge finder and constant fraction discriminator on waveforms from a file: `psana_waveforms.py IN.npz OUT.npy`. Runs under PSANA_PYTHON.

IN may be psana's file of a time tool: then OUT has its lines.

With `weights` in the file: edges in `lines` less `background`, by `below` (columns: place, its height of 1, width, next height; then the seconds of each). Else pulses
in `waveforms`, with the settings of `cfd` as PyCFD calls them: their times, -1 behind the last.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import psana
from psana.pyalgos.generic.edgefinder import EdgeFinder


def module_of(path):
    """Load one file of psana: the wheel's hexanode package lacks a library, and cannot be imported."""
    spec = importlib.util.spec_from_file_location("part", Path(psana.__file__).parent / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def edges(given):
    """Return an array (lines, 5)."""
    weights = np.asarray(given["weights"])
    text = "".join(f"{int(one) & 0xFF:02x}" for one in weights)
    constants = {
        "fir_coefficients": (json.dumps({"all": text}), {}),
        "delayed_denom": (given["below"], {}),
    }
    finder = EdgeFinder(constants)
    assert np.array_equal(finder.kernel, weights)
    rows = []
    for line in given["lines"]:
        began = time.thread_time()
        found = finder(line, given["background"])
        took = time.thread_time() - began
        following = 0 if found.amplitude_next is None else found.amplitude_next
        rows.append((found.edge, found.amplitude, found.fwhm, following, took))
    return np.array(rows, float)


def pulses(given):
    """Return an array (waveforms, most pulses + 1), the last column the seconds."""
    finder = module_of("hexanode/PyCFD.py").PyCFD(json.loads(str(given["cfd"])))
    rows = []
    for waveform in given["waveforms"]:
        times = np.arange(len(waveform)) * finder.sample_interval
        began = time.thread_time()
        found = finder.CFD(waveform, times)
        rows.append((found, time.thread_time() - began))
    out = np.full((len(rows), max(len(found) for found, _ in rows) + 1), -1.0)
    for row, (found, took) in zip(out, rows, strict=True):
        row[: len(found)], row[-1] = found, took
    return out


def lines(path):
    """Return the lines (lines, pixels) of psana's file of a time tool."""
    run = next(psana.DataSource(files=path, skip_calib_load="all").runs())
    camera = run.Detector("tmott").ttalg
    seen = [camera.image(evt) for evt in run.events()]
    return np.array([one.view(np.uint8) for one in seen if one is not None], float)


if __name__ == "__main__":
    if sys.argv[1].endswith(".xtc2"):
        np.save(sys.argv[2], lines(sys.argv[1]))
        sys.exit()
    with np.load(sys.argv[1]) as file:
        arrays = dict(file)
    np.save(sys.argv[2], edges(arrays) if "weights" in arrays else pulses(arrays))
