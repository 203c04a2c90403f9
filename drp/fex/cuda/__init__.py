"""Algorithms of drp.fex on an NVIDIA GPU, many events at a time, with the results of the finders of the CPU."""

from drp.fex.cuda.device import Launch
from drp.fex.cuda.peakfinder8 import GpuPeakFinder8
from drp.fex.cuda.photons import GpuPhotonFinder

__all__ = ["GpuPeakFinder8", "GpuPhotonFinder", "Launch"]
