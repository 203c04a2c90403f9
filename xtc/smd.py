"""Small data: the twin of a dgram that says where the big one lies.

The rules of the reference's Smd::generate as functions of one dgram; whoever writes the files counts the
offsets. It knows no files.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from xtc import codes
from xtc._dgram import Dgram
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import DataType, TransitionId, TypeId
from xtc.names import Alg, Field, Names
from xtc.records import DGRAM_BYTES, DgramHeader, XtcHeader

SMD_EVENT_BYTES = 76
WRITER_NODE = 512
_OFFSET_AND_SIZE = struct.Struct("<QQ")


def smdinfo_names(names_id: int) -> Names:
    """Return the Names of the `smdinfo` that every event of a smd file holds."""
    fields = (Field("intOffset", DataType.UINT64), Field("intDgramSize", DataType.UINT64))
    return Names(names_id, "offset", "smdinfo", "", 0, Alg("offsetAlg", (0, 0, 0)), fields)


def daq_smd_id(top_src: int) -> int:
    """Return the NamesId the DAQ gives smdinfo: node is the low bits of the Configure's src, index 254."""
    return (top_src & codes.MAX_NODE) << 8 | codes.SMDINFO_INDEX


def writer_smd_id() -> int:
    """Return the NamesId that the standalone smdwriter gives smdinfo."""
    return WRITER_NODE << 8


def smd_configure(dgram: Dgram, names_id: int) -> bytes:
    """Return the twin of a Configure: a full copy, and the Names of smdinfo; raise XtcError where `names_id`
    is taken.
    """
    used: Collection[int] = Config(dgram).names
    if names_id in used:
        raise XtcError(
            "the NamesId for smdinfo is taken", path=dgram.path, offset=dgram.offset, found=hex(names_id)
        )
    added = smdinfo_names(names_id).encode()
    old = DgramHeader.decode(dgram.view)
    header = DgramHeader(old.timestamp, old.env, old.src, old.damage, old.contains, old.extent + len(added))
    return b"".join((header.encode(), dgram.view[DGRAM_BYTES:], added))


def smd_event(timestamp: int, env: int, names_id: int, offset: int, size: int) -> bytes:
    """Return the 76 bytes of an event's twin: same time and env, src and damage 0, `offset` and `size` of the
    big dgram.
    """
    shapes = XtcHeader(0, 0, TypeId.Shapes, 12).encode()
    data = XtcHeader(0, 0, TypeId.Data, 12 + _OFFSET_AND_SIZE.size).encode()
    shapes_data = XtcHeader(names_id, 0, TypeId.ShapesData, 12 + 12 + 12 + _OFFSET_AND_SIZE.size).encode()
    header = DgramHeader(timestamp, env, extent=SMD_EVENT_BYTES - 12).encode()
    return b"".join((header, shapes_data, shapes, data, _OFFSET_AND_SIZE.pack(offset, size)))


def smd_twin(dgram: Dgram, names_id: int, offset: int) -> bytes:
    """Return the twin of any dgram that lies at `offset` of its big-data file.

    An L1Accept becomes a `smd_event`, a Configure a copy with smdinfo, an EndRun its bare header, all else a
    copy.
    """
    service = dgram.service
    if service == TransitionId.L1Accept:
        return smd_event(dgram.timestamp, dgram.env, names_id, offset, dgram.size)
    if service == TransitionId.Configure:
        return smd_configure(dgram, names_id)
    if service == TransitionId.EndRun:
        old = DgramHeader.decode(dgram.view)
        return DgramHeader(old.timestamp, old.env, old.src, old.damage, old.contains).encode()
    return bytes(dgram)


def find_smdinfo(config: Config) -> Names | None:
    """Return the Names of smdinfo in a smd file's Config, or None."""
    for names in config.names.values():
        if names.detname == "smdinfo" and names.dettype == "offset":
            return names
    return None
