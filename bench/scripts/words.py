"""Read an array, add a scalar, and give a trigger word."""

import numpy as np

from drp import AlgDef, DataSource, DetectorDef

ds = DataSource()
fex = ds.add_detector(DetectorDef("fex", "fex", "0"), AlgDef("fex", 0, 0, 1), {"value": (np.uint16, 0)})
ds.add_trigger({"npeaks": np.uint32})
for run in ds.runs():
    det = run.Detector("digitizer")
    for evt in run.events():
        raw = det.raw.raw(evt)
        fex.fex.value = raw[3]
        ds.add_data(fex.fex)
        ds.set_trigger(npeaks=evt.index % 30)
