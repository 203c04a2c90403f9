"""Read, write and edit XTC2 files, the datagrams of LCLS-II. It knows nothing of the programs that use it."""

from xtc._dgram import Column, Dgram, Scan, ShapesData, Tail, Value, Xtc
from xtc.check import Problem, check_file
from xtc.chunk import ChunkInfo, FileName, Stream, chunkinfo_names, encode_chunkinfo, read_chunkinfo
from xtc.config import Config
from xtc.cut import WholePart, cut_file
from xtc.dgramedit import AlgDef, Container, DetectorDef, DetectorNames, DgramEdit
from xtc.edit import Editor
from xtc.errors import XtcError
from xtc.feed import Feed
from xtc.from_json import json_to_dgram
from xtc.kinds import Damage, DataType, TransitionId, TypeId
from xtc.names import Alg, Field, Names
from xtc.reader import Reader
from xtc.records import DgramHeader, XtcHeader, encode_dgram, encode_xtc
from xtc.smd import daq_smd_id, find_smdinfo, smd_configure, smd_event, smd_twin, smdinfo_names, writer_smd_id
from xtc.values import encode_shapes_data, encode_value

__all__ = [
    "Alg",
    "AlgDef",
    "ChunkInfo",
    "Column",
    "Config",
    "Container",
    "Damage",
    "DataType",
    "DetectorDef",
    "DetectorNames",
    "Dgram",
    "DgramEdit",
    "DgramHeader",
    "Editor",
    "Feed",
    "Field",
    "FileName",
    "Names",
    "Problem",
    "Reader",
    "Scan",
    "ShapesData",
    "Stream",
    "Tail",
    "TransitionId",
    "TypeId",
    "Value",
    "WholePart",
    "Xtc",
    "XtcError",
    "XtcHeader",
    "check_file",
    "chunkinfo_names",
    "cut_file",
    "daq_smd_id",
    "encode_chunkinfo",
    "encode_dgram",
    "encode_shapes_data",
    "encode_value",
    "encode_xtc",
    "find_smdinfo",
    "json_to_dgram",
    "read_chunkinfo",
    "smd_configure",
    "smd_event",
    "smd_twin",
    "smdinfo_names",
    "writer_smd_id",
]
