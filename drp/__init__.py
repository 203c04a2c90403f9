"""Online data reduction: what a user's script imports."""

from drp.script.datasource import DataSource
from drp.script.errors import CalibrationError, ScriptError
from drp.script.info import DrpInfo
from drp.script.trigger import TriggerDataSource
from xtc import AlgDef, Damage, DetectorDef

__all__ = [
    "AlgDef",
    "CalibrationError",
    "Damage",
    "DataSource",
    "DetectorDef",
    "DrpInfo",
    "ScriptError",
    "TriggerDataSource",
]
