"""Find peaks with real psana's peakfinder8: frames from files, peaks into files.

This script is run by a Python that has psana (`PSANA_PYTHON`), never by the one under test, and must not import anything of this repository: it
is the judge. `psana_peaks.py CASES` reads a JSON list of cases. Each names an npz (`input`: `frames` float32 (frames, rows, cols), `mask` int8 and `radius` float32
(rows, cols)), the layout `asic` (rows, cols) and `parameters`, and gets an npz `out`: `peaks` float64 (peaks, 8), columns x, y, sum, index, pixels, largest, sigma,
SNR; `counts` of each frame; `seconds` of this thread for each frame. `module`, if there is one, is the
folder of another build of it.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Return the peaks of each frame of a case."""
    if "module" in case:
        sys.path.insert(0, case["module"])
        from peakfinder8 import peakfinder_8
    else:
        from psana.peakfinder8 import peakfinder_8

    with np.load(case["input"]) as file:
        frames, mask, radius = (file[name] for name in ("frames", "mask", "radius"))
    rows, cols = case["asic"]
    given = case["parameters"]
    names = ("adc_thresh", "min_snr", "min_pix_count", "max_pix_count", "local_bg_radius")
    layout = cols, rows, frames.shape[2] // cols, frames.shape[1] // rows
    peaks, counts, seconds = [np.zeros((0, 8))], [], []
    for frame in frames:
        began = time.thread_time()
        found = peakfinder_8(
            given["max_num_peaks"], frame, mask, radius, *layout, *(given[name] for name in names)
        )
        seconds.append(time.thread_time() - began)
        peaks.append(np.array(found, float).T.reshape(-1, 8))
        counts.append(len(found[0]))
    return {"peaks": np.concatenate(peaks), "counts": np.array(counts), "seconds": np.array(seconds)}


def main(argv: list[str]) -> int:
    """Answer every case; what psana prints goes to standard error."""
    os.dup2(2, 1)
    for case in json.loads(Path(argv[0]).read_text()):
        np.savez(case["out"], **answer(case))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
