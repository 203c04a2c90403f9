"""drp's end of one worker's rings, in plain Python: pushes entries, reads answers, gives the arena back."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from drp.script.worker import WorkerSpec, main
from drp.shm._segment import create

DEPTH = 1024
IN_RING = 256
OUT_RING = IN_RING + DEPTH * 64
ARENA = OUT_RING + DEPTH * 64
REPLAY, STOP = 1, 2
LIMIT_S = 60.0
# Places in the header, counted in u64 and u32: shared words are read and written whole, through casts of the memory.
IN_HEAD, ARENA_TAIL, TAKEN, OUT_HEAD = 64 // 8, 72 // 8, 128 // 8, 192 // 8
BELL_WORD, ASLEEP, STATE = 80 // 4, 136 // 4, 140 // 4
SYS_FUTEX, FUTEX_WAKE = 202, 1


@dataclass
class Answer:
    seq: int
    position: int
    status: int
    service_ns: int
    desc: bytes
    data: bytes

    @property
    def json(self) -> dict[str, Any]:
        size = int.from_bytes(self.desc[12:16], "little") if self.desc else 0
        return json.loads(self.desc[16 : 16 + size]) if size else {}


class RingParent:
    """One worker segment, a pebble and a bell page; `start` forks a worker on them."""

    def __init__(self, *, pebble_bytes: int = 1 << 20, arena_bytes: int = 1 << 20, bells: int = 2) -> None:
        self.pebble = create(pebble_bytes)
        self.segment = create(ARENA + arena_bytes)
        self.bells = create(64 * bells)
        self.memory = memoryview(self.segment).cast("B")
        self.longs = self.memory[: self.segment.size // 8 * 8].cast("Q")
        self.words = self.memory[: self.segment.size // 8 * 8].cast("I")
        self.slots = memoryview(self.pebble).cast("B")
        self.bell_memory = memoryview(self.bells).cast("B")
        struct.pack_into("<IIQII", self.memory, 0, 0x50524457, 1, arena_bytes, 3, 1)
        self.arena_bytes = arena_bytes
        self.pushed = 0
        self.read = 0
        self.used = 0
        self.process: Any = None

    def spec(self, argv: Sequence[str], info: dict[str, Any], *, check_views: bool = False) -> WorkerSpec:
        return WorkerSpec(
            worker=3,
            incarnation=1,
            pebble_id=self.pebble.id,
            pebble_bytes=self.pebble.size,
            segment_id=self.segment.id,
            segment_bytes=self.segment.size,
            bells_id=self.bells.id,
            bells_bytes=self.bells.size,
            bell_index=1,
            argv=tuple(argv),
            info=info,
            check_views=check_views,
        )

    def start(self, spec: WorkerSpec) -> None:
        self.process = multiprocessing.get_context("fork").Process(
            target=_worker, args=(spec.to_json(),), daemon=True
        )
        self.process.start()

    def place(self, dgram: bytes) -> int:
        """Put a dgram in the pebble; return its offset."""
        at = self.used
        self.slots[at : at + len(dgram)] = dgram
        self.used += (len(dgram) + 63) // 64 * 64
        return at

    def push(
        self,
        dgram: bytes,
        *,
        seq: int | None = None,
        index: int = 0,
        pulse_id: int = 0,
        bound: int = 1 << 19,
        flags: int = 0,
    ) -> None:
        offset = self.place(dgram)
        number = self.pushed + 1 if seq is None else seq
        self.push_entry(number, pulse_id, index, offset, len(dgram), bound, dgram[11] & 0xF, flags)

    def push_entry(self, *fields: int) -> None:
        struct.pack_into("<QQQQIIBB", self.memory, IN_RING + self.pushed % DEPTH * 64, *fields)
        self.pushed += 1
        self.publish()

    def publish(self) -> None:
        self.longs[IN_HEAD] = self.pushed
        self.ring()

    def ring(self) -> None:
        """Wake the worker if it sleeps."""
        if self.words[ASLEEP]:
            self.words[BELL_WORD] = (self.words[BELL_WORD] + 1) % (1 << 32)
            word = ctypes.addressof(ctypes.c_uint32.from_buffer(self.memory, 4 * BELL_WORD))
            ctypes.CDLL(None).syscall(SYS_FUTEX, ctypes.c_void_p(word), FUTEX_WAKE, 64, None, None, 0)

    def stop(self) -> None:
        self.push_entry(0, 0, 0, 0, 0, 0, 0, STOP)

    def answers(self, count: int, *, record: bool = True) -> list[Answer]:
        """Wait for `count` more answers and return them; with `record` their blocks are given back at once."""
        out: list[Answer] = []
        limit = time.monotonic() + LIMIT_S
        while len(out) < count:
            head = self.longs[OUT_HEAD]
            while self.read < head and len(out) < count:
                out.append(self._answer(record))
            if len(out) < count:
                if time.monotonic() > limit:
                    raise TimeoutError(f"{len(out)} of {count} answers")
                time.sleep(0.0005)
        return out

    def _answer(self, record: bool) -> Answer:
        at = OUT_RING + self.read % DEPTH * 64
        seq, position, size, desc, status, spent = struct.unpack_from("<QQIIII", self.memory, at)
        self.read += 1
        start = ARENA + position % self.arena_bytes
        assert position % self.arena_bytes + size <= self.arena_bytes
        block = bytes(self.memory[start : start + size])
        if record and size:
            self.give_back(position + size)
        return Answer(seq, position, status, spent, block[:desc], block[desc:])

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until something holds; False where it does not come to."""
        limit = time.monotonic() + LIMIT_S
        while not condition() and time.monotonic() < limit:
            time.sleep(0.0005)
        return condition()

    def give_back(self, position: int) -> None:
        self.longs[ARENA_TAIL] = position
        self.ring()

    @property
    def state(self) -> int:
        return int(self.words[STATE])

    @property
    def taken(self) -> int:
        return int(self.longs[TAKEN])

    def exit_code(self) -> int:
        self.process.join(LIMIT_S)
        return int(self.process.exitcode)


def _worker(text: str) -> None:
    raise SystemExit(main(WorkerSpec.from_json(text)))
