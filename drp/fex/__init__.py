"""Algorithms for scripts. They know arrays, and nothing of drp."""

from drp.fex.roi import Roi

__all__ = ["Roi"]
