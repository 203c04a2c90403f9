"""Compile the GPU's kernels for the types they are launched with, without a GPU, and print the instructions of each that round a product and a sum once.

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
from numba.types import float32, int8, int32, int64, uint8, uint16, uint64

from drp.fex.cuda import _photon_kernels as photons
from drp.fex.cuda import batch

CAPABILITY = (8, 0)


def lines(dtype: Any, ndim: int) -> Any:
    return types.Array(dtype, ndim, "C")


KEV = lines(float32, 2)
MAPS = lines(uint16, 2)
STARTS, SUMS, FOUND = lines(int32, 2), lines(int64, 2), lines(int64, 2)
BITS = uint16, uint16, uint16
KERNELS: list[tuple[Any, tuple[Any, ...]]] = [
    (batch.calibrate_ranges, (lines(uint16, 3), lines(float32, 4), lines(int8, 1), *BITS, int64, KEV)),
    (batch.calibrate_single, (lines(float32, 3), lines(float32, 4), int64, KEV)),
    (photons.count_single, (KEV, lines(uint8, 1), float32, float32, int64, MAPS)),
    (photons.tally, (MAPS, int64, STARTS, SUMS)),
    (photons.sum_up, (int64, STARTS, SUMS, FOUND)),
    (photons.list_pixels, (MAPS, STARTS, int64, int64, int64, lines(uint64, 2))),
]


def main(folders: list[str]) -> None:
    # Device functions are compiled for the device in use; there is none.
    here = SimpleNamespace(compute_capability=CAPABILITY)
    with mock.patch("numba.cuda.dispatcher.get_current_device", lambda: here):
        for kernel, signature in KERNELS:
            name = kernel.py_func.__name__
            ptx, _ = cuda.compile_ptx(kernel.py_func, signature, cc=CAPABILITY)
            print(name, *re.findall(r"fma\.\S+", ptx))
            for folder in folders:
                Path(folder, f"{name}.ptx").write_text(ptx)


if __name__ == "__main__":
    main(sys.argv[1:])
