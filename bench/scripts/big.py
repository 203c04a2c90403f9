"""What is done with a big event, by the first argument: `look-not` drops raw, `keep` keeps it, `sum` reads all pixels and drops raw."""

import sys

import numpy as np

from drp import AlgDef, DataSource, DetectorDef

what = sys.argv[1]
ds = DataSource()
fex = ds.add_detector(DetectorDef("fex", "fex", "0"), AlgDef("fex", 0, 0, 1), {"value": (np.float64, 0)})
for run in ds.runs():
    det = run.Detector("epixhr")
    for evt in run.events():
        if what == "sum":
            fex.fex.value = float(sum(part.sum(dtype=np.uint32) for part in det.raw.segments(evt)))
            ds.add_data(fex.fex)
        if what != "keep":
            ds.remove_data("epixhr", "raw")
