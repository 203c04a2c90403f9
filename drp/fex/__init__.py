"""Algorithms for scripts. They know arrays, and nothing of drp."""

from typing import TYPE_CHECKING

from drp.fex._names import look_up as __getattr__  # noqa: F401 - of names that are not here yet

if TYPE_CHECKING:
    from drp.fex.averages import RunningAverage, StepAverage, average_of
    from drp.fex.azimuthal import AzimuthalIntegrator
    from drp.fex.codecs import register_codec
    from drp.fex.compress import Compressed, Compressor, decompress
    from drp.fex.digitizer import PulseFinder, Pulses
    from drp.fex.directions import Directions
    from drp.fex.errors import FexError
    from drp.fex.histogram import Histogram
    from drp.fex.peakfinder8 import PeakFinder8, Peaks
    from drp.fex.photons import PhotonFinder, Photons
    from drp.fex.poni import Poni
    from drp.fex.profiles import Profile, sector
    from drp.fex.radial import RadialBackground, radius_in_pixels
    from drp.fex.rebin import Rebin
    from drp.fex.roi import Roi
    from drp.fex.sparse import SparseBragg, SparseFrame
    from drp.fex.sparse_hdf5 import SparseWriter
    from drp.fex.statistics import RoiStatistics
    from drp.fex.threshold import Threshold
    from drp.fex.timetool import Edge, EdgeFinder, edge_weights
    from drp.fex.xpcs import SparseEvents, decode_events, dense_events

__all__ = [
    "AzimuthalIntegrator",
    "Compressed",
    "Compressor",
    "Directions",
    "Edge",
    "EdgeFinder",
    "FexError",
    "Histogram",
    "PeakFinder8",
    "Peaks",
    "PhotonFinder",
    "Photons",
    "Poni",
    "Profile",
    "PulseFinder",
    "Pulses",
    "RadialBackground",
    "Rebin",
    "Roi",
    "RoiStatistics",
    "RunningAverage",
    "SparseBragg",
    "SparseEvents",
    "SparseFrame",
    "SparseWriter",
    "StepAverage",
    "Threshold",
    "average_of",
    "decode_events",
    "decompress",
    "dense_events",
    "edge_weights",
    "radius_in_pixels",
    "register_codec",
    "sector",
]
