"""Keep the bright pixels of each event, the background at each radius, and the Bragg peaks; raw data are left out. `drp-sparse` makes HDF5 of it.

drp -p "fex_scripts/sparse_bragg.py --hit-peaks 20" --source sim:epixhr -n 1000 -o out
drp-sparse out/drp/*/xtc/*-c000.xtc2 -o sparse.h5 && densify_Bragg sparse.h5
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import SparseBragg, radius_in_pixels

parser = argparse.ArgumentParser(
    description="Keep bright pixels, background and Bragg peaks.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
option = parser.add_argument
option("--detector", help="name of the detector; else that of this drp")
option("--beam-um", type=float, nargs=2, default=[0, 0], help="where the beam is in the geometry, x and y")
option("--asic", type=int, nargs=2, help="rows and columns that no peak crosses; else a segment's")
option("--adc-thresh", type=float, default=20, help="what a bright pixel is above, keV")
option("--min-snr", type=float, default=5, help="deviations that it is above the background of its radius")
option("--min-pix-count", type=int, default=2, help="fewest pixels of a peak")
option("--per-bin", type=int, default=64, help="pixels of each radius that the background is taken from")
option("--exact", action="store_true", help="take it from all pixels")
option("--hit-peaks", type=int, default=15, help="peaks that make a hit")
option("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

PEAKS = ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity", "peakSNR")
ARRAYS = ("intensity", "background_avg", "background_std", *PEAKS)
fields = {"index": (np.uint32, 1), "is_hit": (np.uint8, 0)} | dict.fromkeys(ARRAYS, (np.float32, 1))

ds = DataSource()
info = ds.drp_info
name = args.detector or info.det_name
ds.add_trigger({"hit": np.uint8})

for run in ds.runs():
    det = run.Detector(name, calib=True)
    x, y, _ = det.raw.pixel_coords()
    bragg = SparseBragg(
        radius_in_pixels(x, y, args.beam_um),
        det.raw.mask(),
        hit_peaks=args.hit_peaks,
        asic_shape=args.asic,
        min_snr=args.min_snr,
        adc_thresh=args.adc_thresh,
        min_pix_count=args.min_pix_count,
        per_bin=None if args.exact else args.per_bin,
    )
    fex = run.add_detector(DetectorDef(name, info.det_type, info.det_id), AlgDef("bragg", 0, 0, 1), fields)
    # What all frames share is the same in every worker, and written once for each step.
    radius = run.reduce("bragg_radius", np.zeros(bragg.shape, np.float32), "max", per_step=True)
    cutoff = run.reduce("bragg_cutoff", np.zeros(1), "max", per_step=True)
    for evt in run.events():
        segments = det.raw.calib_segments(evt)  # None where a segment is missing
        if segments is None:
            continue
        frame = bragg.find(segments)
        for one in ("index", "intensity", "background_avg", "background_std", "is_hit"):
            setattr(fex.bragg, one, getattr(frame, one))
        peaks = frame.peaks.cxi()
        for one in PEAKS:
            setattr(fex.bragg, one, peaks[one])
        ds.add_data(fex.bragg)
        ds.set_trigger(hit=frame.is_hit)
        if cutoff[0] != args.min_snr:  # a step begins
            radius[:], cutoff[:] = bragg.radius, args.min_snr
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(name, "raw")
