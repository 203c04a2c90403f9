"""Algorithms for scripts. They know arrays, and nothing of drp."""

from typing import TYPE_CHECKING

from drp.fex._names import look_up as __getattr__  # noqa: F401 - of names that are not here yet

if TYPE_CHECKING:
    from drp.fex.errors import FexError
    from drp.fex.roi import Roi

__all__ = ["FexError", "Roi"]
