"""Keep a region of interest of an area detector: rows and columns of every segment, and its sum.

    drp -p "fex_scripts/myroi.py --roi 100:200,50:150 --keep-every 1000"
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef

parser = argparse.ArgumentParser(description="Keep a region of interest of every segment, and its sum.")
parser.add_argument("--roi", default="", help="ROWS:ROWS,COLS:COLS in each segment (default: its central quarter)")
parser.add_argument("--keep-every", type=int, default=100, help="keep raw data too of every Nth event (0: never)")
args = parser.parse_args()


def parse_roi(text, shape):
    """Return the two slices of a ROI such as 100:200,50:150, checked against a segment's (rows, columns)."""
    if not text:
        return tuple(slice(n // 4, n - n // 4) for n in shape)
    slices = tuple(slice(*(int(n) for n in axis.split(":"))) for axis in text.split(","))
    if len(slices) != 2 or any(not 0 <= s.start < s.stop <= n for s, n in zip(slices, shape, strict=False)):
        raise SystemExit(f"myroi.py: --roi {text} does not fit segments of {shape[0]} rows and {shape[1]} columns")
    return slices


ds = DataSource()
info = ds.drp_info
fex = ds.add_detector(
    DetectorDef(info.det_name, info.det_type, info.det_id),
    AlgDef("fex", 0, 0, 1),
    {"roi": (np.uint16, 3), "sum": (np.uint64, 0)},
)
ds.add_trigger({"sum": np.uint64})

for run in ds.runs():
    det = run.Detector(info.det_name)
    roi = None
    for evt in run.events():
        raw = det.raw.raw(evt)  # (segments, rows, columns), a view of the event: nothing is copied
        if raw is None:
            continue  # a segment is missing: the event is recorded as it came
        if roi is None:
            if raw.ndim < 2:
                raise SystemExit(f"myroi.py: {info.det_name} gives {raw.ndim}-d data, and a ROI needs rows and columns")
            roi = parse_roi(args.roi, raw.shape[-2:])
        cut = raw.reshape(-1, *raw.shape[-2:])[:, roi[0], roi[1]]
        fex.fex.roi = cut
        fex.fex.sum = cut.sum()
        ds.add_data(fex.fex)
        ds.set_trigger(sum=cut.sum())
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(info.det_name, "raw")
