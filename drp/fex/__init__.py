"""Algorithms for scripts. They know arrays, and nothing of drp."""

from typing import TYPE_CHECKING

from drp.fex._names import look_up as __getattr__  # noqa: F401 - of names that are not here yet

if TYPE_CHECKING:
    from drp.fex.digitizer import PulseFinder, Pulses
    from drp.fex.errors import FexError
    from drp.fex.roi import Roi
    from drp.fex.timetool import Edge, EdgeFinder, edge_weights

__all__ = ["Edge", "EdgeFinder", "FexError", "PulseFinder", "Pulses", "Roi", "edge_weights"]
