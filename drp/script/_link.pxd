"""C level of a worker's link: what the hot path needs of rings or files."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.shm._layout cimport Bell, InEntry, OutEntry, WorkerHeader
from drp.shm._segment cimport Segment

cdef enum:
    BLOCK_ALIGN = 8                  # blocks begin at a multiple of this

cdef enum FaultPoint:                # as in drp.script.faults
    AT_ASLEEP = 1
    AT_SEEN = 2
    AT_TAKEN = 3
    AT_ROOM = 4
    AT_WAITS_ARENA = 5
    AT_BLOCK_WRITTEN = 6
    AT_ENTRY_BEGUN = 7
    AT_ENTRY_WRITTEN = 8
    AT_PUBLISHED = 9
    AT_RUNG = 10

cdef class Link:
    # The dgram in hand: taken, and not answered while `pending`.
    cdef const uint8_t *dgram
    cdef object source               # exports, read-only, the buffer in which the dgram lies
    cdef uint64_t source_offset
    cdef uint64_t seq
    cdef uint64_t pulse_id
    cdef uint64_t index
    cdef uint32_t size
    cdef uint32_t bound
    cdef uint8_t service
    cdef uint8_t flags
    cdef bint pending
    cdef bint stopped
    cdef uint64_t serial             # dgrams taken so far

    # Take the next dgram: 1, or 0 when there are no more.
    cdef int take(self) except -1
    # Room for `need` bytes in one piece, the first `keep` of which are those of the room given last; NULL where that never fits.
    cdef uint8_t *room(self, size_t keep, size_t need) except? NULL
    # Answer the dgram in hand with `block_bytes` bytes that begin `skip` bytes into the room given last.
    cdef int answer(self, uint32_t status, size_t skip, uint32_t block_bytes, uint32_t desc_bytes) except -1


cdef class RingLink(Link):
    cdef Segment pebble
    cdef Segment segment
    cdef Segment bells
    cdef WorkerHeader *header
    cdef InEntry *in_ring
    cdef OutEntry *out_ring
    cdef uint8_t *arena
    cdef Bell *bell
    cdef uint64_t arena_bytes
    cdef uint64_t in_head            # as read last
    cdef uint64_t taken
    cdef uint64_t out_head
    cdef uint64_t tail               # arena_tail as read last
    cdef uint64_t begin              # position of the room given last
    cdef uint64_t began_ns
    cdef uint64_t waited_ns
    cdef uint64_t spin_ns
    cdef uint64_t spin_max_ns
    cdef int fault_point             # a FaultPoint, 0: none
    cdef int fault_signal
    cdef uint8_t fault_service
    cdef uint64_t fault_left         # passes until it is met
    cdef bint disowned               # this process is a copy of the worker

    cdef int wait_entry(self) except -1
    cdef bint starts_over(self, size_t need) noexcept
    cdef int wait_arena(self, uint64_t end) except -1
    cdef void meet(self, uint8_t service) noexcept
    cdef int publish(self, uint64_t position, uint32_t status, uint32_t block_bytes, uint32_t desc_bytes) except -1


cdef class FeedLink(Link):
    cdef object feed
    cdef bytearray private
    cdef object held
    cdef uint64_t began_ns
