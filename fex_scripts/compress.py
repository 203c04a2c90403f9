"""Compress every frame and leave the raw data out: raw data without loss, or calibrated frames within an absolute error.

drp -W 2 -p "fex_scripts/compress.py --bound 0.5" --source "sim:epixhr,constants=calib.db" --calib calib.db -o out -n 1000

`det.fex.array(evt)`, `.calib(evt)` and `.image(evt)` of what is recorded give the frames back.
"""

import argparse

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import Compressor

parser = argparse.ArgumentParser(description="Record compressed frames in place of raw data.")
parser.add_argument(
    "--bound",
    type=float,
    default=0,
    help="largest error of a calibrated pixel, keV (default: 0, raw data without loss)",
)
parser.add_argument("--codec", help="name of the codec (default: bslz4 without loss, quantized with)")
parser.add_argument(
    "--keep-every", type=int, default=1000, help="keep raw data instead of every Nth event (0: never)"
)
args = parser.parse_args()

ds = DataSource()
info = ds.drp_info

for run in ds.runs():
    det = run.Detector(info.det_name, calib=args.bound > 0)
    dtype, rank = det.raw.fields["raw"]
    if rank < 2:
        raise SystemExit(f"{info.det_name} gives {rank}-d data; only frames can be compressed")
    dtype = "float32" if args.bound else dtype
    Compressor((1, 1, 1), dtype, args.bound, args.codec)  # what is wrong with them ends the run here
    compress = None
    fex = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("fex", 1, 0, 0), Compressor.fields
    )
    for evt in run.events():
        if args.keep_every and evt.index % args.keep_every == 0:
            continue
        frame = det.raw.calib_segments(evt) if args.bound else det.raw.raw(evt)
        if frame is None:
            continue
        if not args.bound:
            frame = frame.reshape(-1, *frame.shape[-2:])  # (segments, rows, columns)
        compress = compress or Compressor(frame.shape, dtype, args.bound, args.codec)
        compress.of(frame).fill(fex.fex)
        ds.add_data(fex.fex)
        ds.remove_data(info.det_name, "raw")
