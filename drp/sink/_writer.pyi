from collections.abc import Sequence

STAGING_BYTES: int
THRESHOLD_BYTES: int
FLUSH_S: float

class FileWriter:
    fd: int
    accepted: int
    written: int
    whole: int
    dgrams: int
    error: int
    pauses: int
    def __init__(
        self,
        fd: int,
        staging_bytes: int = ...,
        threshold_bytes: int = ...,
        flush_s: float = ...,
        before: FileWriter | None = None,
    ) -> None: ...
    def set_before(self, before: FileWriter | None) -> None: ...
    def append_parts(self, parts: Sequence[bytes | bytearray | memoryview]) -> bool: ...
    def flush_all(self) -> bool: ...
    def flush_old(self) -> bool: ...
    def finish(self) -> dict[str, int]: ...
