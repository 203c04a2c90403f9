"""Constants as a packed set and back, so that they can travel: every field of a `Constant` is kept, and its digest with it.

Used at both ends of the tcp connection. It knows no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calib.broadcast.messages import Find
from calib.broadcast.packing import Packed, Plan, Value, pack
from calib.errors import BroadcastError
from calib.model import Constant, DetectorId

if TYPE_CHECKING:
    from calib.model import Source

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "serials": list,
    "experiment": str,
    "run": int,
    "run_end": (int, type(None)),
    "version": str,
    "comment": str,
    "created": (int, float),
    "digest": str,
    "put_digest": str,
    "id": str,
}


def pack_constants(source: Source, find: Find) -> Plan:
    """Ask the source what a follower asks, and return it as a set; raises what the source raises."""
    detector = DetectorId(find.name, find.dettype, find.serials)
    found = source.find(detector, find.experiment, find.run, ctypes=find.ctypes)
    values: dict[str, Value] = {ctype: one.value for ctype, one in found.items()}
    return pack(values, {"constants": {ctype: record_of(one) for ctype, one in found.items()}})


def record_of(constant: Constant) -> dict[str, Any]:
    """Return what is known of a constant, as JSON holds it, without its value."""
    return {name: getattr(constant, name) for name in FIELDS if name != "serials"} | {
        "serials": list(constant.serials)
    }


def constants_of(packed: Packed) -> dict[str, Constant]:
    """Return the constants of a set that `pack_constants` made; BroadcastError where it is another."""
    records = packed.about.get("constants")
    if not isinstance(records, Mapping) or records.keys() != packed.values.keys():
        raise BroadcastError("a set that does not say what its constants are")
    return {ctype: _constant(ctype, packed.values[ctype], record) for ctype, record in records.items()}


def _constant(ctype: str, value: Value, record: Any) -> Constant:
    good = isinstance(record, Mapping) and record.keys() == FIELDS.keys()
    if not good or not all(isinstance(record[name], kind) for name, kind in FIELDS.items()):
        raise BroadcastError("a constant that does not say what it is", where=ctype)
    return Constant(ctype=ctype, value=value, **{**record, "serials": tuple(record["serials"])})
