"""Corrections: from the raw pixels of each detector type to calibrated ones."""

from calib.detectors.base import Correction
from calib.detectors.facts import Coding, DetectorSetup, Panel
from calib.detectors.mask import MaskOptions, mask_neighbors
from calib.detectors.photons import count_photons
from calib.detectors.piecewise import CalibratedSegments
from calib.detectors.setup import config_values, setups, setups_of
from calib.detectors.types import CORRECTIONS, correction_type, corrections

__all__ = [
    "CORRECTIONS",
    "CalibratedSegments",
    "Coding",
    "Correction",
    "DetectorSetup",
    "MaskOptions",
    "Panel",
    "config_values",
    "correction_type",
    "corrections",
    "count_photons",
    "mask_neighbors",
    "setups",
    "setups_of",
]
