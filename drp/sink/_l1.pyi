from drp.shm._block import NamesTable
from drp.sink._gather import Gather
from drp.sink._writer import FileWriter

_Bytes = bytes | bytearray | memoryview

class L1Recorder:
    error: int
    events: int
    bytes: int
    truncated: int
    malformed: int
    paused: bool
    def __init__(self, gather: Gather, table: NamesTable) -> None: ...
    def set_names(self, gather: Gather, table: NamesTable) -> None: ...
    def set_files(self, big: FileWriter | None, smd: FileWriter | None, smdinfo_id: int = ...) -> None: ...
    def check_idle(self) -> None: ...
    def abandon(self) -> None: ...
    def put_l1(
        self,
        raw: _Bytes,
        *,
        desc: _Bytes = b"",
        data: _Bytes = b"",
        damage: int = 0,
        cause: int = 0,
        worker: int = 0xFFFF,
        pulse_id: int = 0,
        bound: int = 0x7FFFFFFF,
        whole: bool = False,
    ) -> int: ...
    def put_pair(self, big: _Bytes, smd: _Bytes) -> bool: ...
    def flush_files(self) -> bool: ...
