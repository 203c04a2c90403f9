"""The table of events that are being built: entries, chains, a list sorted by pulse id, and an index of it."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    NONE = -1

cdef enum State:
    FREE, PENDING, READY, TAKEN, JUDGED

cdef struct Event:
    uint64_t pulse_id
    uint64_t timestamp
    uint64_t due_ns                   # when it is no longer waited for
    uint64_t born                     # counts the events opened
    uint64_t number                   # counts the events built
    uint64_t contract                 # bits of contributors: who should contribute
    uint64_t present
    uint64_t missing                  # set as it is built
    uint32_t env
    uint32_t result
    uint16_t damage                   # what the builder adds
    uint16_t incoming                 # what the contributions say
    uint16_t flags
    uint8_t state
    uint8_t transition
    int32_t before                    # in the sorted list
    int32_t after                     # in it, or in the chain of its state
    int32_t late                      # first block of those that wait for the verdict of an event that was built without them
    int32_t opener

cdef struct Chain:
    int32_t first
    int32_t last
    int32_t n

cdef class EventTable:
    cdef Event *events
    cdef int32_t *index               # open addressing by pulse id
    cdef uint64_t index_mask
    cdef int32_t n_entries
    cdef int32_t free_entry
    cdef Chain pending                # sorted
    cdef Chain ready
    cdef Chain taken
    cdef Chain owed                   # judged, and somebody may still come late
    cdef Chain done                   # judged, and known to all
    cdef int make(self, int32_t n_entries) except -1
    cdef void append(self, Chain *chain, int32_t slot) noexcept nogil
    cdef int32_t pop(self, Chain *chain) noexcept nogil
    cdef void sort_in(self, int32_t slot, int32_t near) noexcept nogil
    cdef void unsort(self, int32_t slot) noexcept nogil
    cdef int32_t find(self, uint64_t pulse_id, bint transition) noexcept nogil
    cdef void index_in(self, int32_t slot) noexcept nogil
    cdef void index_out(self, int32_t slot) noexcept nogil
    cdef uint64_t home(self, uint64_t pulse_id, bint transition) noexcept nogil
