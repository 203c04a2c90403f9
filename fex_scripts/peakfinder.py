"""Find the Bragg peaks of each event, and keep raw data of hits only.

drp -p "fex_scripts/peakfinder.py --adc-thresh 25" --source sim:epixhr -o out -n 1000
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import PeakFinder8, Peaks, radius_in_pixels

parser = argparse.ArgumentParser(
    description="Find Bragg peaks in calibrated frames.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
option = parser.add_argument
option("--beam-um", type=float, nargs=2, default=[0, 0], help="where the beam is in the geometry, x and y")
option("--asic", type=int, nargs=2, help="rows and columns that no peak crosses; else a segment's")
option("--adc-thresh", type=float, default=20, help="what every pixel of a peak is above, keV")
option(
    "--min-snr", type=float, default=6, help="of pixels above the radial, of peaks above the local background"
)
option("--min-pix-count", type=int, default=2, help="fewest pixels of a peak")
option("--max-pix-count", type=int, default=50, help="most pixels of a peak")
option("--local-bg-radius", type=int, default=3, help="half the reach of the local background, pixels")
option("--min-res", type=float, help="least distance from the beam, pixels")
option("--max-res", type=float, help="largest distance from the beam, pixels")
option("--max-num-peaks", type=int, default=2048, help="peaks there is room for")
option("--per-bin", type=int, default=32, help="pixels of each radius that the background is taken from")
option(
    "--exact", action="store_true", help="take it from all pixels, and find what psana's peakfinder8 finds"
)
option("--hit-peaks", type=int, default=15, help="peaks that make a hit")
option("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

ds = DataSource()
info = ds.drp_info
ds.add_trigger({"peaks": np.uint32, "hit": np.uint8})

for run in ds.runs():
    det = run.Detector(info.det_name, calib=True)
    x, y, _ = det.raw.pixel_coords()
    finder = PeakFinder8(
        radius_in_pixels(x, y, args.beam_um),
        det.raw.mask(),
        asic_shape=args.asic,
        max_num_peaks=args.max_num_peaks,
        min_snr=args.min_snr,
        adc_thresh=args.adc_thresh,
        min_pix_count=args.min_pix_count,
        max_pix_count=args.max_pix_count,
        local_bg_radius=args.local_bg_radius,
        min_res=args.min_res,
        max_res=args.max_res,
        per_bin=None if args.exact else args.per_bin,
    )
    fex = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id),
        AlgDef("peaks", 0, 0, 1),
        {"nPeaks": (np.uint32, 0), "found": (np.uint32, 0)}
        | {name: (kind, 1) for name, kind in Peaks.cxi_types.items()},
    )
    for evt in run.events():
        frame = det.raw.calib(evt) if args.exact else det.raw.calib_segments(evt)
        if frame is None:  # a segment is missing
            continue
        peaks = finder.find(frame)
        fex.peaks.nPeaks = len(peaks)
        fex.peaks.found = peaks.found  # more than nPeaks where --max-num-peaks left no room
        for name, values in peaks.cxi().items():
            setattr(fex.peaks, name, values)
        ds.add_data(fex.peaks)
        hit = peaks.found >= args.hit_peaks
        ds.set_trigger(peaks=peaks.found, hit=hit)
        if not hit and (not args.keep_every or evt.index % args.keep_every):
            ds.remove_data(info.det_name, "raw")
