"""Copies of monitored events: a ring of bytes in private memory, between the recorder's thread and the thread that sends them to mebs.

The recorder's thread puts, without the GIL, and never waits: an event for which a meb has no credit, or the ring no room, is dropped for it and
counted. One other thread takes. `head` and `tail` count bytes and never wrap; a copy stands at its position modulo the capacity, and one that would
not fit in the lap begins the next. An empty ring begins its lap again, so that little monitoring uses little memory.

The doorbell is an eventfd, written to only where who takes has announced its sleep and looked once more (`sleep`).
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.unistd cimport write

from drp.shm._sys cimport sys_fence, sys_load32, sys_load64, sys_store32, sys_store64
from drp.sink._gather cimport Gather

from collections import namedtuple

cdef uint32_t NO_COPY = 0xFFFFFFFF

Copy = namedtuple("Copy", "seq pulse_id result mebs frame")
"""What was taken: `frame` is a writable view of 32 bytes for a header and then the dgram, valid until `release()`."""


cdef class CopyRing:
    """Room for `capacity` bytes of copies, and for two of `slow_bytes` (the largest SlowUpdate) that events leave free. MemoryError.

    `fd`: the eventfd of whoever takes, written to as `sleep` says.
    """

    def __cinit__(self, int fd, size_t capacity, size_t slow_bytes=0):
        self.fd = fd
        self.reserve = 2 * whole(slow_bytes) if slow_bytes else 0
        self.capacity = (capacity + self.reserve) // ENTRY_BYTES * ENTRY_BYTES + ENTRY_BYTES
        self.base = <uint8_t *>malloc(self.capacity)
        if self.base == NULL:
            raise MemoryError(f"no memory for {self.capacity} bytes of copies")

    def __dealloc__(self):
        free(self.base)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.base, <Py_ssize_t>self.capacity, 0, flags)

    cdef uint32_t admit(self, uint32_t mebs) noexcept nogil:
        cdef int i
        cdef uint32_t out = 0
        for i in range(MAX_MEBS):
            if not mebs >> i & 1:
                continue
            if self.offered[i] < sys_load64(&self.granted[i]):
                out |= <uint32_t>1 << i
            else:
                self.dropped[i] += 1
        return out

    cdef void put_event(self, uint64_t seq, uint64_t pulse_id, uint32_t result, uint32_t mebs, Gather gather) noexcept nogil:
        cdef uint8_t *to = self._room(seq, pulse_id, result, mebs, gather.size, self.reserve)
        cdef int i
        for i in range(MAX_MEBS):
            if mebs >> i & 1:
                if to == NULL:
                    self.dropped[i] += 1
                else:
                    self.offered[i] += 1
        if to != NULL:
            gather.copy(to)
            self._publish(gather.size)

    cdef void put_slow(self, uint64_t seq, uint64_t pulse_id, const uint8_t *dgram, size_t size) noexcept nogil:
        cdef uint8_t *to = self._room(seq, pulse_id, 0, (1 << MAX_MEBS) - 1, size, 0)
        if to == NULL:
            self.lost += 1
            return
        memcpy(to, dgram, size)
        self._publish(size)

    cdef uint8_t *_room(self, uint64_t seq, uint64_t pulse_id, uint32_t result, uint32_t mebs, size_t size, size_t spare) noexcept nogil:
        """Where a dgram of `size` bytes goes, its entry written before it; NULL where that and `spare` bytes are not free."""
        cdef uint64_t need = whole(size)
        cdef uint64_t end = sys_load64(&self.tail) + self.capacity
        cdef uint64_t left = self.capacity - self.head % self.capacity
        cdef Entry *entry = <Entry *>(self.base + self.head % self.capacity)
        # An empty ring begins another lap where that leaves room: the front stays in the caches.
        if left < need or (self.head + self.capacity == end and left + need + spare <= self.capacity):
            if self.head + left > end:
                return NULL
            entry.size = NO_COPY
            sys_store64(&self.head, self.head + left)
            entry = <Entry *>self.base
        if self.head + need + spare > end:
            return NULL
        entry.seq = seq
        entry.pulse_id = pulse_id
        entry.size = <uint32_t>size
        entry.result = result
        entry.mebs = mebs
        return <uint8_t *>entry + ENTRY_BYTES + HOLE_BYTES

    cdef void _publish(self, size_t size) noexcept nogil:
        cdef uint64_t one = 1
        sys_store64(&self.head, self.head + whole(size))
        sys_fence()
        if sys_load32(&self.asleep):
            write(self.fd, &one, 8)

    # What the thread that sends calls.

    def take(self):
        """Return the oldest copy as a Copy, or None. It stays in the ring until `release()`, and is what `take` returns until then."""
        cdef uint64_t at
        cdef Entry *entry
        while self.tail != sys_load64(&self.head):
            at = self.tail % self.capacity
            entry = <Entry *>(self.base + at)
            if entry.size == NO_COPY:
                sys_store64(&self.tail, self.tail + self.capacity - at)
                continue
            at += ENTRY_BYTES
            return Copy(entry.seq, entry.pulse_id, entry.result, entry.mebs, memoryview(self)[at:at + HOLE_BYTES + entry.size])
        return None

    def release(self) -> None:
        """Give back the copy that `take` returned."""
        sys_store64(&self.tail, self.tail + whole((<Entry *>(self.base + self.tail % self.capacity)).size))

    def sleep(self) -> bool:
        """Announce that `fd` will be waited on; False, and nothing announced, where there is a copy to take."""
        sys_store32(&self.asleep, 1)
        sys_fence()
        if self.tail == sys_load64(&self.head):
            return True
        sys_store32(&self.asleep, 0)
        return False

    def wake(self) -> None:
        """Take back what `sleep` announced."""
        sys_store32(&self.asleep, 0)

    def grant(self, int meb, uint64_t events) -> None:
        """Let a meb have so many events more than it had at the last `stop`."""
        sys_store64(&self.granted[meb], self.begun[meb] + events)

    def stop(self, int meb) -> int:
        """Let a meb have no more; what `grant` says counts from here. Returns the `position` before which copies are not meant for its next session."""
        sys_store64(&self.granted[meb], 0)
        self.begun[meb] = sys_load64(&self.offered[meb])
        return sys_load64(&self.head)

    @property
    def position(self) -> int:
        """Where the copy stands that `take` returned, in bytes put since the ring was made."""
        return self.tail

    def counts(self) -> dict:
        """Events offered to each meb, those dropped for want of credit or of room, and SlowUpdates that found no room."""
        return {
            "offered": [self.offered[i] for i in range(MAX_MEBS)],
            "dropped": [self.dropped[i] for i in range(MAX_MEBS)],
            "lost": self.lost,
        }


cdef uint64_t whole(size_t size) noexcept nogil:
    """The bytes that a copy of `size` bytes takes."""
    return (<uint64_t>size + ENTRY_BYTES + HOLE_BYTES + ENTRY_BYTES - 1) // ENTRY_BYTES * ENTRY_BYTES
