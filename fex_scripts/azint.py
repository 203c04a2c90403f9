"""Integrate each event azimuthally: intensity against scattering angle, q or radius; and their sum over the run. Raw data are left out.

drp -p "fex_scripts/azint.py --unit r_mm --bins 500" --source sim:epixhr -o out -n 1000
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import AzimuthalIntegrator, Directions, Poni

parser = argparse.ArgumentParser(description="Integrate each event azimuthally.")
parser.add_argument("--detector", help="name of the detector (default: that of this drp)")
parser.add_argument("--poni", help="PONI file: where the detector stands (default: as the geometry says)")
parser.add_argument("--photon-kev", type=float, help="photon energy, for q where no PONI file says it")
parser.add_argument(
    "--unit", choices=AzimuthalIntegrator.units, default="2th_deg", help="radial axis (default: %(default)s)"
)
parser.add_argument("--bins", type=int, default=1000, help="default: %(default)s")
parser.add_argument("--radial", type=float, nargs=2, metavar=("FROM", "TO"), help="range in that unit")
parser.add_argument("--azimuth", type=float, nargs=2, metavar=("FROM", "TO"), help="sector, degrees")
parser.add_argument("--polarization", type=float, help="factor, 1 along columns (default: not corrected)")
parser.add_argument("--error-model", choices=["poisson", "azimuthal"], help="record the error too")
parser.add_argument("--method", choices=["scatter", "pyFAI"], default="scatter", help="default: %(default)s")
parser.add_argument("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

ds = DataSource()
info = ds.drp_info
name = args.detector or info.det_name
poni = Poni.read(args.poni) if args.poni else Poni.of_energy(args.photon_kev)
fields = {"intensity": (np.float32, 1)} | ({"sigma": (np.float32, 1)} if args.error_model else {})

for run in ds.runs():
    det = run.Detector(name, calib=True)
    z_um = det.raw.pixel_coords(all_segs=True)[2].mean()  # so that drps of its segments take the same
    integrator = AzimuthalIntegrator(
        Directions.of_coords(det.raw.pixel_coords(), poni, z_um=z_um),
        args.bins,
        unit=args.unit,
        mask=det.raw.mask(),
        radial_range=args.radial,
        azimuth_range=args.azimuth,
        polarization=args.polarization,
        error_model=args.error_model,
        method=args.method,
    )
    fex = run.add_detector(DetectorDef(name, info.det_type, info.det_id), AlgDef("azint", 0, 0, 1), fields)
    # Merged over workers and written at the end: the axis (all have the same), the sum of curves, and of how many.
    radial = run.reduce("radial", np.zeros(args.bins), "max")
    total = run.reduce("intensity_sum", np.zeros(args.bins), "sum")
    events = run.reduce("events", np.zeros(1, np.uint64), "sum")
    for evt in run.events():
        segments = det.raw.calib_segments(evt)  # calibrated one by one; None where a segment is missing
        if segments is None:
            continue
        curve = integrator.integrate(segments)
        fex.azint.intensity = curve.intensity.astype(np.float32)
        if args.error_model:
            fex.azint.sigma = curve.sigma.astype(np.float32)
        ds.add_data(fex.azint)
        radial[:] = curve.radial
        total += curve.intensity
        events += 1
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(name, "raw")
