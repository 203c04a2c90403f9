"""C level of the copies for mebs: what the recorder's thread calls."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from drp.sink._gather cimport Gather

cdef enum:
    MAX_MEBS = 4                     # as in drp.core.wire
    ENTRY_BYTES = 64                 # before each copy; copies begin at a multiple of this
    HOLE_BYTES = 32                  # between the two: room for the header of the message a copy goes out in

cdef struct Entry:
    uint64_t seq                     # of the flow
    uint64_t pulse_id
    uint32_t size                    # of the dgram; NO_COPY: the rest of the lap is not used
    uint32_t result                  # the verdict
    uint32_t mebs                    # the bits of those it is for
    uint8_t pad[36]

cdef class CopyRing:
    cdef uint8_t *base
    cdef readonly uint64_t capacity
    cdef readonly uint64_t reserve   # bytes that events leave for SlowUpdates
    cdef int fd
    cdef public uint32_t always      # bits of the mebs that get events which have no verdict
    cdef uint64_t head               # bytes put so far, written by the recorder's thread
    cdef uint64_t tail               # bytes taken so far, written by who sends
    cdef uint32_t asleep
    cdef uint64_t granted[MAX_MEBS]  # events that each may be sent in all, written by who sends
    cdef uint64_t offered[MAX_MEBS]  # events copied for each, written by the recorder's thread
    cdef uint64_t begun[MAX_MEBS]    # `offered` when the session of each began
    cdef uint64_t dropped[MAX_MEBS]  # of those wanted, for lack of credit or of room
    cdef uint64_t lost               # SlowUpdates for which there was no room
    # The bits of `mebs` that may have an event more; those that may not are counted. Nothing is taken yet.
    cdef uint32_t admit(self, uint32_t mebs) noexcept nogil
    # Copy the record last gathered, for these mebs.
    cdef void put_event(self, uint64_t seq, uint64_t pulse_id, uint32_t result, uint32_t mebs, Gather gather) noexcept nogil
    cdef void put_slow(self, uint64_t seq, uint64_t pulse_id, const uint8_t *dgram, size_t size) noexcept nogil
    cdef uint8_t *_room(self, uint64_t seq, uint64_t pulse_id, uint32_t result, uint32_t mebs, size_t size, size_t spare) noexcept nogil
    cdef void _publish(self, size_t size) noexcept nogil
