"""Keep a region of interest of an area detector: rows and columns of every segment, and the sum of their pixels.

drp -p "fex_scripts/myroi.py --roi 40:140,50:150 --keep-every 1000"
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import Roi

parser = argparse.ArgumentParser(description="Keep a region of interest of every segment, and its sum.")
parser.add_argument("--roi", type=Roi, default=Roi(), help="ROWS:ROWS,COLS:COLS (default: %(default)s)")
parser.add_argument("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

ds = DataSource()
info = ds.drp_info
ds.add_trigger({"sum": np.float64})

for run in ds.runs():
    det = run.Detector(info.det_name)
    dtype, rank = det.raw.fields["raw"]
    if rank < 2:
        raise SystemExit(f"{info.det_name} gives {rank}-d data; a region of interest needs rows and columns")
    if det.setup:
        args.roi.slices(
            det.setup.panel_shape
        )  # a region that does not fit ends the run here, before any event
    fex = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id),
        AlgDef("fex", 0, 0, 1),
        {"roi": (dtype, 3), "sum": (np.float64, 0)},
    )
    for evt in run.events():
        raw = det.raw.raw(evt)  # a view of the event, nothing is copied; None where a segment is missing
        if raw is None:
            continue
        raw = raw.reshape(-1, *raw.shape[-2:])  # (segments, rows, columns)
        rows, columns = args.roi.slices(raw.shape[1:])
        fex.fex.roi = raw[:, rows, columns]
        fex.fex.sum = total = raw[:, rows, columns].sum()
        ds.add_data(fex.fex)
        ds.set_trigger(sum=total)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(info.det_name, "raw")
