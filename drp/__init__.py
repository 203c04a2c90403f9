"""Online data reduction: what a user's script imports."""

from typing import TYPE_CHECKING

from drp._names import look_up as __getattr__  # noqa: F401 - of names that are not here yet
from drp.script.datasource import DataSource
from drp.script.errors import CalibrationError, ScriptError
from drp.script.info import DrpInfo
from drp.script.subscribe import words
from drp.script.trigger import TriggerDataSource
from xtc import AlgDef, Damage, DetectorDef

if TYPE_CHECKING:
    from drp.control.client import DaqControl

__all__ = [
    "AlgDef",
    "CalibrationError",
    "Damage",
    "DaqControl",
    "DataSource",
    "DetectorDef",
    "DrpInfo",
    "ScriptError",
    "TriggerDataSource",
    "words",
]
