"""Keep a region of interest of an area detector: rows and columns of every segment, and the sum of their pixels.

drp -p "fex_scripts/myroi.py --roi 40:140,50:150 --keep-every 1000"
"""

import argparse
import re

import numpy as np

from drp import AlgDef, DataSource, DetectorDef


def roi(text):
    """Read ROWS:ROWS,COLS:COLS. What is wrong with the text ends drp at Configure, before any event."""
    found = re.fullmatch(r"(\d+):(\d+),(\d+):(\d+)", text)
    top, bottom, left, right = (int(n) for n in found.groups()) if found else (0, 0, 0, 0)
    if top >= bottom or left >= right:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no region such as 40:140,50:150 (first:beyond the last)"
        )
    return slice(top, bottom), slice(left, right)


def fitted(region, shape):
    """Return the two slices for segments of (rows, columns); those of the middle where no region was given."""
    if region is None:
        return tuple(slice(3 * n // 8, n - 3 * n // 8) for n in shape)
    if any(axis.stop > n for axis, n in zip(region, shape, strict=True)):
        asked = ",".join(f"{axis.start}:{axis.stop}" for axis in region)
        raise SystemExit(f"--roi {asked} does not fit segments of {shape[0]} rows and {shape[1]} columns")
    return region


parser = argparse.ArgumentParser(description="Keep a region of interest of every segment, and its sum.")
parser.add_argument(
    "--roi",
    type=roi,
    help="ROWS:ROWS,COLS:COLS of each segment (default: a quarter of each, from the middle)",
)
parser.add_argument("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

ds = DataSource()
name = ds.drp_info.det_name
definition = DetectorDef(name, ds.drp_info.det_type, ds.drp_info.det_id)
ds.add_trigger({"sum": np.float64})

for run in ds.runs():
    det = run.Detector(name)
    dtype, rank = det.raw.fields["raw"]
    if rank < 2:
        raise SystemExit(f"{name} gives {rank}-d data; a region of interest needs rows and columns")
    if det.setup and all(
        det.setup.panel_shape
    ):  # of a type that drp knows: a ROI beyond it fails at BeginRun
        fitted(args.roi, det.setup.panel_shape)
    fex = run.add_detector(definition, AlgDef("fex", 0, 0, 1), {"roi": (dtype, 3), "sum": (np.float64, 0)})
    for evt in run.events():
        raw = det.raw.raw(evt)  # a view of the event, nothing is copied; None where a segment is missing
        if raw is None:
            continue
        raw = raw.reshape(-1, *raw.shape[-2:])  # (segments, rows, columns)
        rows, columns = fitted(args.roi, raw.shape[1:])
        fex.fex.roi = raw[:, rows, columns]
        fex.fex.sum = total = raw[:, rows, columns].sum()
        ds.add_data(fex.fex)
        ds.set_trigger(sum=total)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(name, "raw")
