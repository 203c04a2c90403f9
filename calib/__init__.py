"""Calibration constants: store, service, broadcast, corrections and geometry. It knows the format and nothing of drp."""

from calib.errors import (
    BroadcastError,
    CalibError,
    ConstantsMisshapen,
    ConstantsMissing,
    GeometryError,
    ServiceError,
    StoreError,
)
from calib.model import CTYPES, Constant, DetectorId, Source
from calib.opening import open_source
from calib.panels import detector_in, for_panels

__all__ = [
    "CTYPES",
    "BroadcastError",
    "CalibError",
    "Constant",
    "ConstantsMisshapen",
    "ConstantsMissing",
    "DetectorId",
    "GeometryError",
    "ServiceError",
    "Source",
    "StoreError",
    "detector_in",
    "for_panels",
    "open_source",
]
