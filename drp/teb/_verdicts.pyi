from typing import Any

import numpy.typing as npt

from drp.shm._block import NamesTable
from drp.sink._gather import Gather
from drp.sink._l1 import L1Recorder

class VerdictWriter(L1Recorder):
    notify_fd: int
    batches: int
    failed: int
    def __init__(self, gather: Gather, table: NamesTable) -> None: ...
    def take(self) -> npt.NDArray[Any]: ...
