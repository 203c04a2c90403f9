"""Lists in order, made by threads that know nothing of each other.

A thread counts what is to be listed in a run of pixels, which lie in one or two lines of the cache; a run's first place in the list is the sum of
those before it; then a thread lists its run from there on. Counts are whole numbers, so no order matters.
"""

from __future__ import annotations

from typing import Any

import numba
from numba import cuda

from drp.fex.cuda.device import smaller

RUN = 64
"""Pixels that one thread counts and lists."""
BYTES_EACH = 8
"""Shared memory of `begin_runs` for each thread."""


@cuda.jit
def begin_runs(lists: Any, starts: Any, totals: Any) -> None:
    """Turn counts of runs, int64 (lists, runs), into the sum of those before, and put that of all into `totals`; of the first so many `lists`."""
    parts = cuda.shared.array(0, numba.int64)
    me, threads, runs = cuda.threadIdx.x, cuda.blockDim.x, starts.shape[1]
    each = (runs + threads - 1) // threads
    first = smaller(me * each, runs)
    last = smaller(first + each, runs)
    for one in range(cuda.blockIdx.x, lists, cuda.gridDim.x):
        own = numba.int64(0)
        for run in range(first, last):
            own += starts[one, run]
        parts[me] = own
        cuda.syncthreads()
        before = numba.int64(0)
        for other in range(me):
            before += parts[other]
        if me == threads - 1:
            totals[one] = before + own
        for run in range(first, last):
            count = starts[one, run]
            starts[one, run] = before
            before += count
        cuda.syncthreads()
