"""What the flow tells the main loop, as records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a notice is about; the values are those of _collect.pxd."""

    ANSWER = 1
    REPLAYED = 2
    FAILED = 3
    BARRIER = 4
    OVERFLOW = 5


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice. `block` is the result block of an answer, its first `desc_bytes` the descriptor; `code` says what of an answer was wrong,
    and `cause` of one to a transition, where it is Cause.truncated, that it did not fit.

    `seq` is the number of the dgram that was answered, of a replay that of the transition shown again; 0 for the failure of a replay.
    """

    kind: Kind
    port: int
    seq: int
    service: int
    cause: int
    code: int
    block: memoryview
    desc_bytes: int

    @property
    def desc(self) -> bytes:
        """The descriptor of the answer."""
        return bytes(self.block[: self.desc_bytes])

    @property
    def data(self) -> memoryview:
        """The arrays of the answer, not copied: they may be large."""
        return self.block[self.desc_bytes :]
