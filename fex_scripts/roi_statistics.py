"""Reduce every frame to numbers and curves: statistics of a region, a radial profile, a histogram, and the average of each step.

drp -W 2 -p "fex_scripts/roi_statistics.py --roi 40:140,50:150 --bins 200" --source sim:epixhr -o out -n 1000
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import Histogram, Profile, Roi, RoiStatistics, StepAverage

parser = argparse.ArgumentParser(
    description="Record statistics of a region, a radial profile, a histogram and step averages."
)
parser.add_argument("--roi", type=Roi, default=Roi(), help="ROWS:ROWS,COLS:COLS (default: %(default)s)")
parser.add_argument("--bins", type=int, default=100, help="bins of profile and histogram (default: 100)")
parser.add_argument("--low", type=float, default=-10, help="first edge of the histogram, keV (default: -10)")
parser.add_argument("--high", type=float, default=50, help="last edge of the histogram, keV (default: 50)")
parser.add_argument("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

ds = DataSource()
info = ds.drp_info
ds.add_trigger({"mean": np.float32})

for run in ds.runs():
    det = run.Detector(info.det_name, calib=True)
    mask = det.raw.mask()
    x, y, _ = det.raw.pixel_coords()
    region = RoiStatistics(mask.shape, args.roi, mask)
    radial = Profile.radial(x, y, args.bins, mask=mask)
    histogram = Histogram(mask.shape, args.bins, (args.low, args.high), mask=mask)
    average = StepAverage(mask.shape, run.reduce)
    fex = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id),
        AlgDef("statistics", 0, 0, 1),
        {
            "roi": (np.float64, 1),  # n, sum, mean, std, min, max
            "profile": (np.float32, 1),
            "histogram": (np.uint32, 1),
        },
    )
    for evt in run.events():
        frame = det.raw.calib(evt)
        if frame is None:
            continue
        whole = region.of(frame).whole
        fex.statistics.roi = np.array(whole)
        fex.statistics.profile = radial.of(frame).mean.astype(np.float32)
        fex.statistics.histogram = histogram.of(frame).counts.astype(np.uint32)
        average.add(frame)
        ds.add_data(fex.statistics)
        ds.set_trigger(mean=whole.mean)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(info.det_name, "raw")
