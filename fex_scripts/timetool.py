"""Find the edge in each line of a time tool, against the rolling average of the events without the beam.

drp -p "fex_scripts/timetool.py --threshold 0.03" --source sim:timetool -n 1000
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import EdgeFinder, edge_weights


def rows(text):
    """Read FIRST:BEYOND."""
    first, beyond = map(int, text.split(":"))
    return first, beyond


parser = argparse.ArgumentParser(
    description="Find the edge in each event of a time tool.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--field", default="raw", help="field of raw with the pixels; raw: its array")
add("--beam", default="beam", help="field of raw that is 0 in events without the beam; empty: none is")
add("--taps", type=int, default=128, help="pixels of the filter")
add("--rising", action="store_true", help="find edges where the light gets more")
add("--weights", help="text file with the numbers of a filter, in place of the one of --taps")
add("--threshold", type=float, default=0.03, help="least amplitude of an edge")
add("--rows", type=rows, help="FIRST:BEYOND rows of a camera to average; None: all")
add("--sideband", type=rows, help="FIRST:BEYOND rows without light, to subtract")
add("--rate", type=float, default=0.1, help="part of the newest background in the average")
add("--background", help=".npy file of a background that stays, in place of the average")
add("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()
if not args.beam and not args.background:
    parser.error("--beam is empty, so no event gives a background: give one by --background")

weights = np.loadtxt(args.weights) if args.weights else edge_weights(args.taps, rising=args.rising)
options = {"rows": args.rows, "sideband": args.sideband, "rate": args.rate, "threshold": args.threshold}
background = np.load(args.background) if args.background else None
EdgeFinder((1024, 8192), weights, **options)  # what cannot be used ends the run here, before any event

ds = DataSource()
info = ds.drp_info
ds.add_trigger({"edge": np.float32, "hit": np.uint8})
FIELDS = dict.fromkeys(("position", "amplitude", "fwhm", "next_amplitude", "background"), (np.float64, 0))

for run in ds.runs():
    det = run.Detector(info.det_name)
    ranks = {field: rank for field, (_, rank) in det.raw.fields.items()}
    if ranks.get(args.field) not in (1, 2) or (args.beam and ranks.get(args.beam) != 0):
        raise SystemExit(
            f"{info.det_name} has {ranks}: give a --field of rank 1 or 2, and a --beam of rank 0"
        )
    result = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("edge", 0, 0, 1), FIELDS
    )
    finder = None
    for evt in run.events():
        line = getattr(det.raw, args.field)(evt)
        if line is None:
            continue
        if finder is None:
            finder = EdgeFinder(line.shape, weights, **options)
            if background is not None:
                finder.set_background(background)
        has_beam = not args.beam or getattr(det.raw, args.beam)(evt) != 0
        if not has_beam and background is None:
            finder.add_background(line)
        edge = finder.find(line)
        for name in FIELDS:
            setattr(result.edge, name, getattr(edge, name))
        ds.add_data(result.edge)
        ds.set_trigger(edge=edge.position, hit=has_beam and edge.found)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(info.det_name, "raw")
