"""A flow turned by hand, on files in memory's place, with workers that are plain Python models or real processes."""

import os
import struct
from dataclasses import dataclass, field

from ring_worker import RingWorker

from drp.core.transitions import Sequencer
from drp.engine._flow import Flow
from drp.engine.notices import Notice
from drp.shm._block import NamesTable, encode_block
from drp.shm._pebble import Pebble, SlotBatch
from drp.shm._port import Port
from drp.sink._gather import Gather
from drp.sink._l1 import L1Recorder
from drp.sink._writer import FileWriter
from xtc import Alg, DataType, Field, Names

CONFIGURE, UNCONFIGURE, BEGIN_RUN, END_RUN, BEGIN_STEP, END_STEP, ENABLE, DISABLE, SLOW, L1 = (
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    12,
)
ANSWER, REPLAYED, FAILED, BARRIER, OVERFLOWED = 1, 2, 3, 4, 5
SHAPES_DATA = 1
FEX = Names(1, "digitizer", "digi", "s1", 0, Alg("fex", (0, 0, 1)), (Field("x", DataType.UINT32, 0),))
BLOB = Names(2, "digitizer", "digi", "s1", 0, Alg("blob", (0, 0, 1)), (Field("b", DataType.UINT8, 1),))


def dgram(service: int, timestamp: int, payload: bytes = b"", groups: int = 1) -> bytes:
    """A dgram whose payload is one Xtc of an unknown type, which is kept as it is."""
    child = struct.pack("<IHHI", 0, 0, 9, 12 + len(payload)) + payload if payload else b""
    return struct.pack("<QIIHHI", timestamp, service << 24 | groups, 0, 0, 0, 12 + len(child)) + child


@dataclass
class Bench:
    """A flow with files in memory's place, and workers turned by hand."""

    n_events: int = 8
    arena_bytes: int = 4096
    bound: int = 512
    n_blocks: int = 0
    trigger: int = -1
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.read_fd = os.memfd_create("big")
        self.smd_fd = os.memfd_create("smd")
        self.notify = os.eventfd(0, os.EFD_NONBLOCK)
        self.pebble = Pebble(self.n_events, self.bound, 32, 1024)
        table = self.flow_table = NamesTable([FEX, BLOB], self.trigger)
        self.recorder = L1Recorder(Gather(), table)
        big = FileWriter(self.read_fd)
        self.recorder.set_files(big, FileWriter(self.smd_fd, before=big), 7)
        self.flow = Flow(self.pebble, self.recorder, self.notify)
        self.flow.declare(table)
        self.batch = SlotBatch(self.pebble, Sequencer("test"))
        self.time = 1
        self.flow.hand_in(self.batch, 0, 0)
        self.workers: dict[int, RingWorker] = {}
        self.ports: dict[int, Port] = {}

    def close(self) -> None:
        for fd in (self.read_fd, self.smd_fd, self.notify):
            os.close(fd)

    def add_worker(self, worker: int, *, fed: bool = True) -> int:
        port = Port(worker, 0, self.arena_bytes, self.n_blocks or self.n_events + 32)
        number = self.flow.add_port(port)
        self.workers[number] = RingWorker(port.segment)
        self.ports[number] = port
        if fed:
            self.flow.open_port(number, True)
        return number

    def put(self, service: int, payload: bytes = b"", *, groups: int = 1, pulse_id: int = 0) -> bool:
        self.time += 1
        put = self.batch.put(dgram(service, self.time, payload, groups), pulse_id)
        self.flow.hand_in(self.batch, 0, 0)
        return put

    def turn(self) -> None:
        while self.flow.turn():
            pass
        self.notices += self.flow.take_notices()

    def settle(self) -> None:
        """Turn everything, and finish transitions as a main loop would, recording them unchanged."""
        while True:
            self.turn()
            done = self.flow.record_turn()
            self.flow.hand_in(self.batch, 0, 0)
            for notice in [n for n in self.notices if n.kind == BARRIER]:
                self.notices.remove(notice)
                text, _, _ = self.flow.transition(notice.seq)
                self.flow.finish_transition(notice.seq, text, text)
                self.flow.release_barrier()
                done = 1
            if not done and not self.flow.turn():
                return

    def answer_all(self) -> None:
        """Every worker takes all it has and answers that nothing was edited."""
        for worker in self.workers.values():
            while (entry := worker.take()) is not None:
                worker.answer(entry.seq)

    def begin(self) -> None:
        """Bring the run to Enable."""
        for service in (CONFIGURE, BEGIN_RUN, BEGIN_STEP, ENABLE):
            self.put(service)
            self.settle()
            self.answer_all()
            self.settle()

    def dgrams(self) -> list[bytes]:
        """Each dgram in the file."""
        self.recorder.flush_files()
        data = os.pread(self.read_fd, 1 << 24, 0)
        out, at = [], 0
        while at < len(data):
            (extent,) = struct.unpack_from("<I", data, at + 20)
            out.append(data[at : at + 12 + extent])
            at += 12 + extent
        return out

    def recorded(self) -> list[tuple[int, int, int]]:
        """(service, timestamp, damage) of each dgram in the file."""
        return [
            (one[11] & 15, int.from_bytes(one[:8], "little"), one[16] | one[17] << 8) for one in self.dgrams()
        ]

    def values(self) -> list[int]:
        """What `fex` put into each event that has it."""
        return [
            int.from_bytes(one[at + 12 : at + 16], "little") for one in self.dgrams() if (at := fex_data(one))
        ]


def fex(value: int) -> tuple[bytes, bytes]:
    """Descriptor and data of a result that adds one scalar."""
    return encode_block(adds=[(0, (), struct.pack("<I", value))])


def fex_data(dgram: bytes) -> int:
    """Offset of the Data Xtc of FEX in a recorded event, 0 where it has none."""
    return data_of(dgram, FEX)[0]


def blob_of(dgram: bytes) -> bytes | None:
    """The bytes of BLOB in a recorded event, None where it has none."""
    at, extent = data_of(dgram, BLOB)
    return dgram[at + 12 : at + extent] if at else None


def data_of(dgram: bytes, names: Names) -> tuple[int, int]:
    """Offset and extent of the Data Xtc of the first ShapesData of these Names, (0, 0) where there is none."""
    at = 24
    while at < len(dgram):
        src, _, kind, extent = struct.unpack_from("<IHHI", dgram, at)
        if dgram[11] & 15 == L1 and src == names.names_id and kind & 0xFFF == SHAPES_DATA:
            (shapes,) = struct.unpack_from("<I", dgram, at + 12 + 8)
            return at + 12 + shapes, extent - 12 - shapes
        at += extent
    return 0, 0


def blob(data: bytes) -> tuple[bytes, bytes]:
    """Descriptor and data of a result that adds one array of bytes."""
    return encode_block(adds=[(1, ((len(data),),), data)])
