"""Find the photons of each event: how many there are, and the pixels that hold them. Raw is left out.

drp -p "fex_scripts/photons.py --method droplet" --source sim:epixhr -n 1000
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import PhotonFinder

parser = argparse.ArgumentParser(description="Find photons of one energy in calibrated frames.")
parser.add_argument("--photon-kev", type=float, default=9.5, help="energy of a photon (default: %(default)s)")
parser.add_argument(
    "--method",
    default="single",
    choices=("single", "droplet"),
    help="count each pixel by itself, or put charge that pixels share together (default: %(default)s)",
)
parser.add_argument(
    "--threshold",
    type=float,
    default=0.5,
    help="part of a photon that counts as one (default: %(default)s)",
)
parser.add_argument(
    "--low",
    type=float,
    default=0.1,
    help="part of a photon from which on a pixel belongs to a droplet (default: %(default)s)",
)
parser.add_argument("--most", type=int, help="pixels that the list has room for (default: all)")
parser.add_argument(
    "--keep-every",
    type=int,
    default=0,
    help="keep raw too of every Nth event, which must fit together (drp --fex-room); 0: never",
)
args = parser.parse_args()

ds = DataSource()
info = ds.drp_info
ds.add_trigger({"photons": np.uint32})

for run in ds.runs():
    det = run.Detector(info.det_name, calib=True)
    mask = det.raw.mask()
    finder = PhotonFinder(
        mask.shape,
        args.photon_kev,
        method=args.method,
        threshold=args.threshold,
        low=args.low,
        mask=mask,
        most=args.most,
        with_map=False,
    )
    fex = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id),
        AlgDef("photons", 0, 0, 1),
        {"total": (np.uint32, 0), "lost": (np.uint32, 0), "sparse": (np.uint16, 2)},
    )
    for evt in run.events():
        frame = det.raw.calib_segments(evt)  # calibrated segment by segment; None where one is missing
        if frame is None:
            continue
        found = finder.find(frame)
        fex.photons.total = found.total
        fex.photons.lost = found.lost  # pixels that --most left no room for
        fex.photons.sparse = found.sparse  # (pixels, 4): segment, row, column, photons
        ds.add_data(fex.photons)
        ds.set_trigger(photons=found.total)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(info.det_name, "raw")
