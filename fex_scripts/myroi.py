"""Keep a region of interest of an area detector: rows and columns of every segment, and the sum of their pixels.

drp -p "fex_scripts/myroi.py --roi 100:200,50:150 --keep-every 1000"
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef

parser = argparse.ArgumentParser(description="Keep a region of interest of every segment, and its sum.")
parser.add_argument(
    "--roi", help="ROWS:ROWS,COLS:COLS of each segment (default: a quarter of each, from the middle)"
)
parser.add_argument("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()


def parse_roi(text, shape):
    """Return the two slices of a ROI such as 100:200,50:150, checked against a segment's (rows, columns)."""
    if text is None:
        return tuple(slice(3 * n // 8, n - 3 * n // 8) for n in shape)
    slices = tuple(slice(*(int(n) for n in axis.split(":"))) for axis in text.split(","))
    if len(slices) != 2 or any(not 0 <= s.start < s.stop <= n for s, n in zip(slices, shape, strict=False)):
        raise SystemExit(f"--roi {text} does not fit segments of {shape[0]} rows and {shape[1]} columns")
    return slices


ds = DataSource()
name = ds.drp_info.det_name
definition = DetectorDef(name, ds.drp_info.det_type, ds.drp_info.det_id)
ds.add_trigger({"sum": np.float64})

for run in ds.runs():
    det = run.Detector(name)
    dtype, rank = det.raw.fields["raw"]
    if rank < 2:
        raise SystemExit(f"{name} gives {rank}-d data; a region of interest needs rows and columns")
    fex = run.add_detector(definition, AlgDef("fex", 0, 0, 1), {"roi": (dtype, 3), "sum": (np.float64, 0)})
    for evt in run.events():
        raw = det.raw.raw(evt)  # a view of the event, nothing is copied; None where a segment is missing
        if raw is None:
            continue
        raw = raw.reshape(-1, *raw.shape[-2:])  # (segments, rows, columns)
        rows, columns = parse_roi(args.roi, raw.shape[1:])
        fex.fex.roi = raw[:, rows, columns]
        fex.fex.sum = total = raw[:, rows, columns].sum()
        ds.add_data(fex.fex)
        ds.set_trigger(sum=total)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(name, "raw")
