"""Sum up a dark run on all workers; `calib dark` makes pedestals, rms and status of what this records. Raw data are left out.

drp -W 4 -p fex_scripts/dark.py --source dark.xtc2 -o out
calib dark out/drp/*/xtc/*-c000.xtc2 --to dark.npz
"""

import argparse

import numpy as np

from calib.dark import PREFIX, DarkSums, Limits
from drp import DataSource

parser = argparse.ArgumentParser(description="Sum up the frames of a dark run, for `calib dark`.")
parser.add_argument("--detector", help="name of the detector (default: that of this drp)")
parser.add_argument("--lowest", type=int, default=1, help="least data value that is averaged (default: 1)")
parser.add_argument(
    "--highest", type=int, help="largest data value that is averaged (default: one below the largest)"
)
parser.add_argument("--shape", help="ROWS,COLS of a segment, for a detector type that is not known")
parser.add_argument("--keep-raw", action="store_true", help="record the raw data too")
args = parser.parse_args()

ds = DataSource()
name = args.detector or ds.drp_info.det_name
shape = tuple(int(n) for n in args.shape.split(",")) if args.shape else None

for run in ds.runs():
    det = run.Detector(name)
    if det.setup is None:
        raise SystemExit(f"{name} has no raw data to sum up")
    if hasattr(det, "reduce"):
        raise SystemExit(
            f"this run has the sums of {name} already: make constants of its file with `calib dark`"
        )
    sums = DarkSums.of(det.setup, Limits(args.lowest, args.highest), shape)
    for key, array in sums.pieces.items():
        # Merged over workers, written and set to 0 at the end of each step; what a step leaves at 0 is not.
        run.reduce(PREFIX + key, array, per_step=True)
    for evt in run.events():
        segments = det.raw.segments(evt)
        if segments is not None:
            sums.add([np.asarray(one) for one in segments])
        if not args.keep_raw:
            ds.remove_data(name, "raw")
