from collections.abc import Iterable

from drp.shm._block import NamesTable

_Bytes = bytes | bytearray | memoryview

class Gather:
    n_ranges: int
    size: int
    def __init__(
        self, info_id: int | None = None, stripped: Iterable[int] = (), names: Iterable[int] = ()
    ) -> None: ...
    def assemble(
        self,
        raw: _Bytes,
        *,
        table: NamesTable = ...,
        desc: _Bytes = b"",
        data: _Bytes = b"",
        damage: int = 0,
        cause: int = 0,
        worker: int = 0xFFFF,
        pulse_id: int = 0,
        bound: int = 0x7FFFFFFF,
        whole: bool = False,
    ) -> tuple[bytes, int]: ...
