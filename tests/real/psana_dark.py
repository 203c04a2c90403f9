"""Make dark constants of frames with real psana's DarkProc; run by a Python that has psana, and imports nothing of this repository.

`psana_dark.py FRAMES.npy OUT.npz`: frames (events, rows, cols) of jungfrau words, all in one gain range. `mean`, `rms` and `status` are
those of DarkProcJungfrau with its gate open: psana averages what lies between two quantiles of the first frames of a pixel, which leaves
out tails of the noise; `gated_rms` is what it says with its gate.
"""

import sys
from typing import Any

import numpy as np
from psana.detector.UtilsJungfrauCalib import DarkProcJungfrau


def process(frames: Any, *, gated: bool) -> tuple[Any, Any, Any]:
    """Return mean, rms and status."""
    proc = DarkProcJungfrau(nrecs=len(frames), nrecs1=min(50, len(frames) - 1))
    proc.gmindex, proc.gmname = 0, "g0"
    if gated:
        for number, frame in enumerate(frames):
            proc.event(frame, number)
    else:
        proc.gate_lo = np.full(frames.shape[1:], proc.int_lo, np.uint16)
        proc.gate_hi = np.full(frames.shape[1:], proc.int_hi, np.uint16)
        proc.init_proc()
        for number, frame in enumerate(frames):
            proc.irec = number
            proc.add_event(frame, number)
    proc.block = frames
    proc.summary()
    return proc.arr_av1, proc.arr_rms, proc.arr_sta


def main() -> None:
    """Answer the command line."""
    frames = np.load(sys.argv[1])
    mean, rms, status = process(frames, gated=False)
    gated_mean, gated_rms, _ = process(frames, gated=True)
    np.savez(sys.argv[2], mean=mean, rms=rms, status=status, gated_mean=gated_mean, gated_rms=gated_rms)


if __name__ == "__main__":
    main()
