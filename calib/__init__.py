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

__all__ = [
    "BroadcastError",
    "CalibError",
    "ConstantsMisshapen",
    "ConstantsMissing",
    "GeometryError",
    "ServiceError",
    "StoreError",
]
