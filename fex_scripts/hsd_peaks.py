"""Find the pulses in each waveform of a digitizer: times, heights and widths, by constant fraction discrimination.

drp -p "fex_scripts/hsd_peaks.py --threshold 50" --source sim:digitizer:4000,pulses=8,rise=8 -n 1000
"""

import argparse

import numpy as np

from drp import AlgDef, DataSource, DetectorDef
from drp.fex import PulseFinder


def baseline(text):
    """Read a number, or FIRST:BEYOND."""
    first, colon, beyond = text.partition(":")
    return (int(first), int(beyond)) if colon else float(text)


parser = argparse.ArgumentParser(
    description="Find the pulses in each waveform of a digitizer.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--field", default="raw", help="field of raw with the samples; raw: its array")
add("--threshold", type=float, default=50, help="a pulse is above it where it arrives, on its flank")
add("--fraction", type=float, default=0.5, help="that the later waveform is lowered to, above 0 to 1")
add("--delay", type=int, default=4, help="samples, about half the rise of a pulse")
add("--walk", type=float, default=0, help="level of the difference that counts as zero")
add("--falling", action="store_true", help="pulses go down")
add("--baseline", type=baseline, help="a number, or the samples FIRST:BEYOND to average; None: a twentieth")
add("--dead", type=int, default=0, help="samples from an arrival on in which there is no other")
add("--interval", type=float, default=1e-9, help="seconds of a sample")
add("--most", type=int, default=256, help="pulses that there is room for")
add("--hit", type=int, default=1, help="pulses that make an event a hit")
add("--keep-every", type=int, default=100, help="keep raw too of every Nth event (0: never)")
args = parser.parse_args()

names = ("threshold", "fraction", "delay", "walk", "falling", "baseline", "dead", "most")
options = {name: getattr(args, name) for name in names} | {"interval_s": args.interval}
PulseFinder(1 << 20, **options)  # what cannot be used ends the run here, before any event

ds = DataSource()
info = ds.drp_info
ds.add_trigger({"peaks": np.uint32, "hit": np.uint8})
FIELDS = dict.fromkeys(("samples", "times_s", "amplitudes", "widths"), (np.float64, 1))
FIELDS["dropped"] = np.uint32, 0

for run in ds.runs():
    det = run.Detector(info.det_name)
    ranks = {field: rank for field, (_, rank) in det.raw.fields.items()}
    if ranks.get(args.field) != 1:
        raise SystemExit(f"{info.det_name} has {ranks}: give a --field of rank 1")
    result = run.add_detector(
        DetectorDef(info.det_name, info.det_type, info.det_id), AlgDef("pulses", 0, 0, 1), FIELDS
    )
    finder = None
    for evt in run.events():
        waveform = getattr(det.raw, args.field)(evt)
        if waveform is None:
            continue
        if finder is None or finder.samples != len(waveform):
            finder = PulseFinder(len(waveform), **options)
        pulses = finder.find(waveform)
        for name in FIELDS:
            setattr(result.pulses, name, getattr(pulses, name))
        ds.add_data(result.pulses)
        count = len(pulses.samples) + pulses.dropped
        ds.set_trigger(peaks=count, hit=count >= args.hit)
        if not args.keep_every or evt.index % args.keep_every:
            ds.remove_data(info.det_name, "raw")
