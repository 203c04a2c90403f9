"""Geometry of detectors: LCLS geometry text, pixel coordinates, images. It knows nothing of constants, stores and drp."""

from calib.geometry.defaults import default_types
from calib.geometry.geometry import Geometry, warm_up
from calib.geometry.image import ImagePlan
from calib.geometry.interpolation import InterpolationPlan
from calib.geometry.segments import Segment, segment_class, segment_classes
from calib.geometry.text import GeometryTextError, Placement, Problem
from calib.geometry.view import ViewOptions

__all__ = [
    "Geometry",
    "GeometryTextError",
    "ImagePlan",
    "InterpolationPlan",
    "Placement",
    "Problem",
    "Segment",
    "ViewOptions",
    "default_types",
    "segment_class",
    "segment_classes",
    "warm_up",
]
