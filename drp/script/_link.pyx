"""A worker's link to what deals it dgrams: the rings of shared memory, or a feed in the same process.

A link hands out one dgram at a time and takes one answer for each. It knows the rings and the arena of `drp.shm._layout`, and nothing of
what a dgram or a result block holds.

The doorbell, this side: to sleep, read `bell_word`, set `asleep`, fence, look at the head (or the tail of the arena) once more, and only then
wait on the word. To ring, publish, fence, look at the other's `asleep`, and if it is set add one to its word and wake it. Between the two
fences one side always sees the other's store, so no news is slept through; the 20 ms limit of a sleep bounds what a dead waker costs.

Between every two steps of it lies a named point, at which a test can have this process killed (`drp.script.faults`).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ETIMEDOUT
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memmove
from posix.signal cimport kill
from posix.unistd cimport getpid

import os

from drp.script.errors import LinkError
from drp.script.faults import fault_from
from drp.shm._layout cimport (
    ENTRY_BYTES,
    ENTRY_REPLAY,
    ENTRY_STOP,
    HEADER_BYTES,
    LAYOUT_COOKIE,
    LAYOUT_VERSION,
    RING_DEPTH,
    STATE_RUNNING,
    STATE_WAITS_ARENA,
    STATE_WAITS_ENTRY,
    STATUS_OK,
    Bell,
    InEntry,
    OutEntry,
    WorkerHeader,
)
from drp.shm._segment cimport Segment
from drp.shm._sys cimport (
    sys_add32,
    sys_fence,
    sys_futex_wait,
    sys_futex_wake,
    sys_load32,
    sys_load64,
    sys_now_ns,
    sys_prefetch,
    sys_relax,
    sys_store32,
    sys_store64,
)

cdef enum:
    L1_ACCEPT = 12

cdef uint64_t SLEEP_NS = 20_000_000
cdef uint64_t MAX_SPIN_NS = 20_000
cdef uint64_t MIN_SPIN_NS = 500
cdef int SPARE_CORES = 4             # fewer than this, and spinning takes the core from who brings the news
cdef uint64_t MAX_U32 = 0xFFFFFFFF
cdef size_t LARGE_BYTES = 1 << 20
cdef uint64_t EVENT_BLOCKS = 4


cdef class Link:
    """One dgram at a time, one answer each. Abstract: see RingLink and FeedLink."""

    cdef int take(self) except -1:
        raise NotImplementedError

    cdef uint8_t *room(self, size_t keep, size_t need) except? NULL:
        raise NotImplementedError

    cdef int answer(self, uint32_t status, size_t skip, uint32_t block_bytes, uint32_t desc_bytes) except -1:
        raise NotImplementedError

    @property
    def in_hand(self) -> bool:
        """Whether a dgram has been taken and not answered."""
        return self.pending

    @property
    def at_end(self) -> bool:
        """Whether there are no more dgrams."""
        return self.stopped

    @property
    def replaying(self) -> bool:
        """Whether the dgram in hand is a replay, whose answer is not recorded."""
        return self.flags & ENTRY_REPLAY != 0


def copied() -> LinkError:
    """Return what to raise where a copy of the worker goes on as if it were the worker."""
    return LinkError("a copy of the worker, made by os.fork(), is still in the event loop", hint="End it with os._exit().")


cdef class RingLink(Link):
    """The worker's end of its rings and its arena, all attached for as long as this object or a view of the pebble lives."""

    def __init__(self, Segment pebble not None, Segment segment not None, Segment bells not None, int bell_index):
        cdef size_t rings = HEADER_BYTES + 2 * RING_DEPTH * ENTRY_BYTES
        cdef WorkerHeader *header = <WorkerHeader *>segment.base
        if segment.size <= rings:
            raise LinkError("the worker's segment is too small", expected=f"more than {rings} bytes", found=segment.size)
        if header.cookie != LAYOUT_COOKIE or header.version != LAYOUT_VERSION:
            raise LinkError(
                "the worker's segment has another layout",
                expected=(LAYOUT_COOKIE, LAYOUT_VERSION),
                found=(header.cookie, header.version),
            )
        if header.arena_bytes == 0 or header.arena_bytes % BLOCK_ALIGN or header.arena_bytes > segment.size - rings:
            raise LinkError("the arena does not fit the segment", expected=segment.size - rings, found=header.arena_bytes)
        if bell_index < 0 or <size_t>(bell_index + 1) * sizeof(Bell) > bells.size:
            raise LinkError("no such bell", expected=f"0..{bells.size // sizeof(Bell) - 1}", found=bell_index)
        self.pebble = pebble
        self.segment = segment
        self.bells = bells
        self.source = pebble
        self.header = header
        self.in_ring = <InEntry *>(segment.base + HEADER_BYTES)
        self.out_ring = <OutEntry *>(segment.base + HEADER_BYTES + RING_DEPTH * ENTRY_BYTES)
        self.arena = segment.base + rings
        self.arena_bytes = header.arena_bytes
        self.bell = <Bell *>bells.base + bell_index
        self.taken = header.taken
        self.out_head = header.out_head
        self.spin_max_ns = MAX_SPIN_NS if len(os.sched_getaffinity(0)) >= SPARE_CORES else 0
        self.spin_ns = 0
        fault = fault_from(os.environ)
        if fault is not None:
            self.fault_point = fault.point
            self.fault_service = fault.service
            self.fault_left = fault.nth
            self.fault_signal = fault.signal

    cdef void meet(self, uint8_t service) noexcept:
        """The point at which a fault was asked for has been reached with a dgram of this service."""
        if service == self.fault_service or self.fault_point == AT_ASLEEP:
            self.fault_left -= 1
            if self.fault_left == 0:
                kill(getpid(), self.fault_signal)

    def disown(self) -> None:
        """Use the rings no more: this process is a copy, made by os.fork(), of the worker that they belong to."""
        self.disowned = True

    cdef int take(self) except -1:
        cdef InEntry *entry
        if self.disowned:
            raise copied()
        if self.pending:
            raise LinkError("the dgram in hand has not been answered")
        if self.stopped:
            return 0
        if self.taken == self.in_head:
            self.in_head = sys_load64(&self.header.in_head)
            if self.taken == self.in_head:
                self.wait_entry()
            if self.in_head - self.taken > RING_DEPTH:
                raise LinkError("the in-ring moved by more than its depth", expected=RING_DEPTH, found=self.in_head - self.taken)
        entry = self.in_ring + self.taken % RING_DEPTH
        if self.fault_point == AT_SEEN:
            self.meet(entry.service)
        self.began_ns = sys_now_ns()
        self.waited_ns = 0
        self.taken += 1
        sys_store64(&self.header.taken, self.taken)
        if self.fault_point == AT_TAKEN:
            self.meet(entry.service)
        if self.taken != self.in_head:
            sys_prefetch(self.pebble.base + self.in_ring[self.taken % RING_DEPTH].offset)
        self.seq = entry.seq
        self.flags = entry.flags
        self.service = entry.service
        if entry.flags & ENTRY_STOP:
            self.stopped = True
            self.publish(self.begin, STATUS_OK, 0, 0)
            return 0
        self.pulse_id = entry.pulse_id
        self.index = entry.index
        self.size = entry.size_bytes
        self.bound = entry.bound_bytes
        if entry.offset > self.pebble.size or self.size > self.pebble.size - entry.offset:
            raise LinkError("a dgram lies outside the pebble", expected=self.pebble.size, found=(entry.offset, self.size))
        self.dgram = self.pebble.base + entry.offset
        self.source_offset = entry.offset
        self.serial += 1
        self.pending = True
        return 1

    cdef int wait_entry(self) except -1:
        cdef WorkerHeader *header = self.header
        cdef uint64_t taken = self.taken
        cdef uint64_t start = sys_now_ns()
        cdef uint64_t until = start + self.spin_ns
        cdef uint64_t slept_from
        cdef uint32_t word
        cdef int k, why
        if self.spin_ns:
            with nogil:
                while sys_load64(&header.in_head) == taken and sys_now_ns() < until:
                    for k in range(16):
                        sys_relax()
        slept_from = sys_now_ns()
        while sys_load64(&header.in_head) == taken:
            word = sys_load32(&header.bell_word)
            sys_store32(&header.state, STATE_WAITS_ENTRY)
            sys_store32(&header.asleep, 1)
            sys_fence()
            if self.fault_point == AT_ASLEEP:
                self.meet(0)
            if sys_load64(&header.in_head) == taken:
                with nogil:
                    why = sys_futex_wait(&header.bell_word, word, SLEEP_NS)
                if why == ETIMEDOUT and sys_load64(&header.in_head) != taken:
                    header.rescued += 1
            sys_store32(&header.asleep, 0)
            PyErr_CheckSignals()
        sys_store32(&header.state, STATE_RUNNING)
        self.in_head = sys_load64(&header.in_head)
        # Spin longer where the news came soon after going to sleep, less where it did not.
        if sys_now_ns() - slept_from < self.spin_max_ns:
            self.spin_ns = min(max(2 * self.spin_ns, MIN_SPIN_NS), self.spin_max_ns)
        else:
            self.spin_ns //= 2
            if self.spin_ns < MIN_SPIN_NS:
                self.spin_ns = 0
        return 0

    cdef uint8_t *room(self, size_t keep, size_t need) except? NULL:
        cdef uint64_t begin = self.begin
        cdef uint64_t lap = self.arena_bytes
        if self.disowned:
            raise copied()
        # What events add goes around at the front only, in memory that stays in caches: the rest is there for large transitions.
        if self.service == L1_ACCEPT and need + BLOCK_ALIGN <= EVENT_BLOCKS // 2 * <uint64_t>self.bound:
            lap = min(lap, EVENT_BLOCKS * <uint64_t>self.bound)
        # A block of more than half of the arena might wait for ever: what lies before it would have to be freed a second time.
        if need > self.arena_bytes // 2 - BLOCK_ALIGN:
            return NULL
        if begin % self.arena_bytes + need > lap or (keep == 0 and self.starts_over(need)):
            begin = (begin // self.arena_bytes + 1) * self.arena_bytes
        if begin + need > self.tail + self.arena_bytes:
            self.wait_arena(begin + need)
        if begin != self.begin:
            if keep:
                memmove(self.arena, self.arena + self.begin % self.arena_bytes, keep)
            self.begin = begin
        if self.fault_point == AT_ROOM:
            self.meet(self.service)
        return self.arena + begin % self.arena_bytes

    cdef bint starts_over(self, size_t need) noexcept:
        """Whether a large block goes to the front of an empty arena, to memory that it and drp have touched before: for both that costs more than the copy."""
        if need < LARGE_BYTES or self.begin % self.arena_bytes < need + BLOCK_ALIGN:
            return False
        self.tail = sys_load64(&self.header.arena_tail)
        return self.begin - self.tail < BLOCK_ALIGN

    cdef int wait_arena(self, uint64_t end) except -1:
        cdef WorkerHeader *header = self.header
        cdef uint64_t start
        cdef uint32_t word
        self.tail = sys_load64(&header.arena_tail)
        if end <= self.tail + self.arena_bytes:
            return 0
        start = sys_now_ns()
        sys_store32(&header.state, STATE_WAITS_ARENA)
        while end > self.tail + self.arena_bytes:
            word = sys_load32(&header.bell_word)
            sys_store32(&header.asleep, 1)
            sys_fence()
            if self.fault_point == AT_WAITS_ARENA:
                self.meet(self.service)
            if end > sys_load64(&header.arena_tail) + self.arena_bytes:
                with nogil:
                    sys_futex_wait(&header.bell_word, word, SLEEP_NS)
            sys_store32(&header.asleep, 0)
            self.tail = sys_load64(&header.arena_tail)
            PyErr_CheckSignals()
        sys_store32(&header.state, STATE_RUNNING)
        self.waited_ns += sys_now_ns() - start
        return 0

    cdef int answer(self, uint32_t status, size_t skip, uint32_t block_bytes, uint32_t desc_bytes) except -1:
        cdef uint64_t position = self.begin + skip
        if self.disowned:
            raise copied()
        if not self.pending:
            raise LinkError("there is no dgram in hand to answer")
        if self.fault_point == AT_BLOCK_WRITTEN:
            self.meet(self.service)
        self.publish(position, status, block_bytes, desc_bytes)
        if block_bytes:
            self.begin = (position + block_bytes + BLOCK_ALIGN - 1) // BLOCK_ALIGN * BLOCK_ALIGN
        self.pending = False
        return 0

    cdef int publish(self, uint64_t position, uint32_t status, uint32_t block_bytes, uint32_t desc_bytes) except -1:
        cdef OutEntry *entry = self.out_ring + self.out_head % RING_DEPTH
        cdef uint64_t spent = sys_now_ns() - self.began_ns - self.waited_ns
        entry.seq = self.seq
        entry.position = position
        if self.fault_point == AT_ENTRY_BEGUN:
            self.meet(self.service)
        entry.block_bytes = block_bytes
        entry.desc_bytes = desc_bytes
        entry.status = status
        entry.service_ns = <uint32_t>min(spent, MAX_U32)
        if self.fault_point == AT_ENTRY_WRITTEN:
            self.meet(self.service)
        self.out_head += 1
        sys_store64(&self.header.out_head, self.out_head)
        if self.fault_point == AT_PUBLISHED:
            self.meet(self.service)
        sys_fence()
        if sys_load32(&self.bell.asleep):
            sys_add32(&self.bell.word, 1)
            sys_futex_wake(&self.bell.word)
        if self.fault_point == AT_RUNG:
            self.meet(self.service)
        return 0


cdef class FeedLink(Link):
    """A link in one process: `feed.next()` gives an Arrival or None, `feed.answer(...)` takes what came of it.

    The block handed to `feed.answer` is valid during that call only.
    """

    def __init__(self, feed):
        self.feed = feed
        self.private = bytearray(4096)

    cdef int take(self) except -1:
        cdef Py_buffer view
        if self.pending:
            raise LinkError("the dgram in hand has not been answered")
        if self.stopped:
            return 0
        arrival = self.feed.next()
        if arrival is None:
            self.stopped = True
            return 0
        source = memoryview(arrival.dgram).toreadonly()
        PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
        self.dgram = <const uint8_t *>view.buf
        self.size = <uint32_t>view.len
        PyBuffer_Release(&view)
        self.source = source
        self.source_offset = 0
        self.seq = self.serial
        self.pulse_id = arrival.pulse_id
        self.index = arrival.index
        self.bound = arrival.bound_bytes
        self.service = arrival.service
        self.flags = ENTRY_REPLAY if arrival.replay else 0
        self.serial += 1
        self.pending = True
        self.began_ns = sys_now_ns()
        return 1

    cdef uint8_t *room(self, size_t keep, size_t need) except? NULL:
        if need > <size_t>len(self.private):
            self.private.extend(bytes(need - len(self.private)))
        return <uint8_t *><char *>self.private

    cdef int answer(self, uint32_t status, size_t skip, uint32_t block_bytes, uint32_t desc_bytes) except -1:
        if not self.pending:
            raise LinkError("there is no dgram in hand to answer")
        self.pending = False
        with memoryview(self.private) as whole, whole[skip:skip + block_bytes].toreadonly() as block:
            self.feed.answer(int(status), block, int(desc_bytes), int(sys_now_ns() - self.began_ns))
        return 0
