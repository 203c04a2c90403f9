"""A worker's end of the rings in plain Python, as drp/shm/_layout.pxd has it: the model the tests drive drp's end with."""

import struct
from dataclasses import dataclass

DEPTH = 1024
IN_RING = 256
OUT_RING = IN_RING + DEPTH * 64
ARENA = OUT_RING + DEPTH * 64

OK, RAISED, OVERFLOW, LEFT = range(4)
REPLAY, STOP = 1, 2


@dataclass
class Entry:
    """One in-entry."""

    seq: int
    pulse_id: int
    index: int
    offset: int
    size: int
    bound: int
    service: int
    flags: int


class RingWorker:
    """Takes entries and answers them when told to; writes whatever it is told to, right or wrong."""

    def __init__(self, segment: object) -> None:
        self.memory = memoryview(segment).cast("B")  # type: ignore[arg-type]
        (self.arena_bytes,) = struct.unpack_from("<Q", self.memory, 8)
        self.taken = 0
        self.position = 0

    @property
    def in_head(self) -> int:
        return struct.unpack_from("<Q", self.memory, 64)[0]

    @property
    def arena_tail(self) -> int:
        return struct.unpack_from("<Q", self.memory, 72)[0]

    @property
    def out_head(self) -> int:
        return struct.unpack_from("<Q", self.memory, 192)[0]

    def set_out_head(self, value: int) -> None:
        # One store of eight bytes: struct.pack_into would write them one by one, for another thread to see half done.
        self.memory[: self.memory.nbytes // 8 * 8].cast("Q")[24] = value

    def set_state(self, state: int) -> None:
        struct.pack_into("<I", self.memory, 140, state)

    def take(self) -> Entry | None:
        if self.taken == self.in_head:
            return None
        at = IN_RING + self.taken % DEPTH * 64
        seq, pulse_id, index, offset, size, bound, service, flags = struct.unpack_from(
            "<QQQQIIBB", self.memory, at
        )
        self.taken += 1
        struct.pack_into("<Q", self.memory, 128, self.taken)
        return Entry(seq, pulse_id, index, offset, size, bound, service, flags)

    def answer(
        self, seq: int, status: int = OK, desc: bytes = b"", data: bytes = b"", service_ns: int = 1000
    ) -> None:
        block = desc + data
        position = self.position
        if block:
            if position % self.arena_bytes + len(block) > self.arena_bytes:
                position = (position // self.arena_bytes + 1) * self.arena_bytes
            at = ARENA + position % self.arena_bytes
            self.memory[at : at + len(block)] = block
            self.position = position + len(block)
        self.answer_raw(seq, position, len(block), len(desc), status, service_ns)

    def answer_raw(
        self, seq: int, position: int, block_bytes: int, desc_bytes: int, status: int, service_ns: int = 1000
    ) -> None:
        head = self.out_head
        struct.pack_into(
            "<QQIIII",
            self.memory,
            OUT_RING + head % DEPTH * 64,
            seq,
            position,
            block_bytes,
            desc_bytes,
            status,
            service_ns,
        )
        self.set_out_head(head + 1)

    def scribble(self) -> None:
        """Write nonsense over all of the arena that a worker may write to now."""
        free = self.arena_bytes - (self.position - self.arena_tail)
        at = self.position % self.arena_bytes
        first = min(free, self.arena_bytes - at)
        self.memory[ARENA + at : ARENA + at + first] = b"\xee" * first
        self.memory[ARENA : ARENA + free - first] = b"\xee" * (free - first)

    def arena_room(self, n: int) -> bool:
        position = self.position
        if position % self.arena_bytes + n > self.arena_bytes:
            position = (position // self.arena_bytes + 1) * self.arena_bytes
        return position + n - self.arena_tail <= self.arena_bytes
