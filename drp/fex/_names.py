"""The public names of drp.fex, each looked up in its module when it is first asked for: a script that needs a region of interest does not
wait for compiled kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULE_OF = {
    "AzimuthalIntegrator": "azimuthal",
    "Compressed": "compress",
    "Compressor": "compress",
    "Directions": "directions",
    "Edge": "timetool",
    "EdgeFinder": "timetool",
    "FexError": "errors",
    "Histogram": "histogram",
    "PeakFinder8": "peakfinder8",
    "Peaks": "peakfinder8",
    "PhotonFinder": "photons",
    "Photons": "photons",
    "Poni": "poni",
    "Profile": "profiles",
    "PulseFinder": "digitizer",
    "Pulses": "digitizer",
    "RadialBackground": "radial",
    "Rebin": "rebin",
    "Roi": "roi",
    "RoiStatistics": "statistics",
    "RunningAverage": "averages",
    "SparseBragg": "sparse",
    "SparseEvents": "xpcs",
    "SparseFrame": "sparse",
    "SparseWriter": "sparse_hdf5",
    "StepAverage": "averages",
    "Threshold": "threshold",
    "average_of": "averages",
    "decode_events": "xpcs",
    "decompress": "compress",
    "dense_events": "xpcs",
    "edge_weights": "timetool",
    "radius_in_pixels": "radial",
    "register_codec": "codecs",
    "sector": "profiles",
}
"""The module of each public name."""


def look_up(name: str) -> Any:
    """Return what a name stands for; AttributeError where it is none."""
    if name not in MODULE_OF:
        raise AttributeError(f"drp.fex has no {name!r}; it has {', '.join(MODULE_OF)}")
    return getattr(import_module(f"drp.fex.{MODULE_OF[name]}"), name)
