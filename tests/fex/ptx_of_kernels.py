"""Compile the GPU's kernels for the types they are launched with, without a GPU, and print the instructions of each that may round otherwise than a CPU.

With a folder as argument, PTX is written there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from numba import cuda, types
from numba.types import float32, float64, int8, int32, int64, uint8, uint16, uint32, uint64

from drp.fex.cuda import _droplet_kernels as droplets
from drp.fex.cuda import _lists, batch
from drp.fex.cuda import _peak_kernels as peaks
from drp.fex.cuda import _photon_kernels as photons
from drp.fex.cuda import _radial_kernels as radial

CAPABILITY = (8, 0)
# A product without .rn may still be put together with a sum by the assembler.
ROUNDED_OTHERWISE = re.compile(r"\b(?:fma\.\S+|mul\.f\d+|\S*\.ftz\S*|\S*\.approx\S*|div\.full\S*)")


def lines(dtype: Any, ndim: int) -> Any:
    return types.Array(dtype, ndim, "C")


KEV = lines(float32, 2)
MAPS = lines(uint16, 2)
STARTS, TOTALS = lines(int64, 2), lines(int64, 1)
HOT, STATE, INNER = lines(uint8, 2), lines(float32, 3), lines(float32, 3)
PAIR, LIMITS = types.UniTuple(int64, 2), types.UniTuple(int64, 3)
BINS, CANDIDATES = lines(uint16, 2), lines(uint32, 2)
CLIPPING = float64, float64, int64, int64
JOINED, DROPLETS, SPECTRUM = lines(int32, 2), lines(uint64, 2), lines(uint32, 2)
CHAINS = JOINED, JOINED, JOINED
PEAKS = lines(float32, 3), lines(int32, 3), TOTALS
BITS = uint16, uint16, uint16
KERNELS: list[tuple[Any, tuple[Any, ...]]] = [
    (batch.calibrate_ranges, (lines(uint16, 3), lines(float32, 4), lines(int8, 1), *BITS, int64, KEV)),
    (batch.calibrate_single, (lines(float32, 3), lines(float32, 4), int64, KEV)),
    (photons.count_single, (KEV, lines(uint8, 1), float32, float32, int64, MAPS)),
    (photons.tally, (MAPS, int64, STARTS, STARTS)),
    (_lists.begin_runs, (int64, STARTS, TOTALS)),
    (photons.list_pixels, (MAPS, STARTS, int64, int64, int64, lines(uint64, 2))),
    (
        droplets.begin,
        (KEV, lines(uint8, 1), float32, int64, JOINED, JOINED, DROPLETS, DROPLETS, SPECTRUM),
    ),
    (droplets.connect, (int64, int64, int64, JOINED)),
    (droplets.add_up, (KEV, float32, int64, *CHAINS, DROPLETS, DROPLETS)),
    (
        droplets.choose,
        (KEV, float32, uint64, int64, *CHAINS, DROPLETS, float64, DROPLETS, SPECTRUM),
    ),
    (droplets.place, (KEV, float32, int64, JOINED, DROPLETS, MAPS)),
    (radial.clip_sample, (KEV, lines(int32, 2), int64, *CLIPPING, lines(float64, 3), STATE)),
    (radial.guess, (STATE, lines(int64, 1), int64, float32, float32, int64, INNER)),
    (radial.clip_all, (KEV, lines(int32, 1), lines(int64, 1), INNER, *CLIPPING, STATE)),
    (peaks.mark, (KEV, lines(uint16, 1), STATE, int64, HOT)),
    (peaks.tally, (HOT, int64, int64, PAIR, STARTS)),
    (peaks.list_marked, (HOT, int64, int64, PAIR, STARTS, CANDIDATES)),
    (
        peaks.search,
        (
            *(KEV, int64, int64, int64, PAIR, PAIR, BINS, BINS, STATE, HOT, CANDIDATES, TOTALS),
            *(LIMITS, float32, int64, lines(int32, 3), lines(int32, 1), *PEAKS),
        ),
    ),
    (peaks.join, (*PEAKS, int64, int64, *PEAKS)),
]


def main(folders: list[str]) -> None:
    # Device functions are compiled for the device in use; there is none.
    here = SimpleNamespace(compute_capability=CAPABILITY)
    with mock.patch("numba.cuda.dispatcher.get_current_device", lambda: here):
        for kernel, signature in KERNELS:
            name = f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__name__}"
            ptx, _ = cuda.compile_ptx(kernel.py_func, signature, cc=CAPABILITY)
            print(name, *ROUNDED_OTHERWISE.findall(ptx))
            for folder in folders:
                Path(folder, f"{name}.ptx").write_text(ptx)


if __name__ == "__main__":
    main(sys.argv[1:])
