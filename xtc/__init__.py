"""Read, write and edit XTC2 files, the datagrams of LCLS-II. It knows nothing of the programs that use it."""

from xtc.errors import XtcError
from xtc.kinds import Damage, DataType, TransitionId, TypeId
from xtc.names import Alg, Field, Names

__all__ = [
    "Alg",
    "Damage",
    "DataType",
    "Field",
    "Names",
    "TransitionId",
    "TypeId",
    "XtcError",
]
