"""The broadcast of constants: packed sets, the ipc socket between a drp and its workers, the tcp connection to a supervisor."""

from calib.broadcast.packing import Entry, Packed, Plan, pack, unpack

__all__ = ["Entry", "Packed", "Plan", "pack", "unpack"]
