"""Read, write and edit XTC2 files, the datagrams of LCLS-II. It knows nothing of the programs that use it."""

from xtc._dgram import Column, Dgram, Scan, ShapesData, Tail, Value, Xtc
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import Damage, DataType, TransitionId, TypeId
from xtc.names import Alg, Field, Names
from xtc.reader import Reader

__all__ = [
    "Alg",
    "Column",
    "Config",
    "Damage",
    "DataType",
    "Dgram",
    "Field",
    "Names",
    "Reader",
    "Scan",
    "ShapesData",
    "Tail",
    "TransitionId",
    "TypeId",
    "Value",
    "Xtc",
    "XtcError",
]
