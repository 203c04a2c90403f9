"""The pebble: one shared memory segment cut into slots, and the batch of free slots a source fills."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from drp.shm._segment cimport Segment
from xtc._walk cimport Child

cdef enum:
    BATCH = 1024                     # slots handed to a source at once, at most
    DGRAM_BYTES = 24

cdef enum Service:
    CONFIGURE = 2
    UNCONFIGURE = 3
    BEGIN_RUN = 4
    END_RUN = 5
    BEGIN_STEP = 6
    END_STEP = 7
    ENABLE = 8
    DISABLE = 9
    SLOW_UPDATE = 10
    END_OF_BATCH = 11                # psana's mark of the last event of a batch
    L1_ACCEPT = 12

cdef struct Slot:
    uint64_t offset                  # in the pebble
    uint64_t seq                     # drp's number for the dgram, from 1
    uint64_t index                   # L1Accepts since BeginRun
    uint64_t pulse_id                # 0: not known
    uint64_t timestamp
    uint64_t filled_ns               # monotonic clock when the source handed it in
    uint32_t capacity
    uint32_t bound                   # what is recorded of it may come to, with what the script adds
    uint32_t size
    uint32_t env
    uint16_t damage                  # top damage as it came in
    uint8_t service
    uint8_t synthesised              # made by drp because the source lacks it
    int32_t slow                     # slot of the SlowUpdate in force, -1: none
    int32_t refs                     # who still needs it

cdef class Pebble:
    cdef readonly Segment segment
    cdef uint8_t *base
    cdef Slot *slots
    cdef readonly uint32_t n_events
    cdef readonly uint32_t n_transitions
    cdef readonly uint32_t event_bytes
    cdef readonly uint32_t transition_bytes
    cdef readonly uint32_t result_bytes

cdef class SlotBatch:
    cdef readonly Pebble pebble
    cdef readonly object gate        # drp.core's Sequencer, or what behaves like it
    cdef int32_t *events             # free event slots, the next one last
    cdef int32_t *transitions
    cdef int32_t *filled             # slots in the order they were put
    cdef int n_events
    cdef int n_transitions
    cdef int n_filled
    cdef public bint await_enable    # hold L1Accepts back from each Enable until it is answered
    cdef bint held
    cdef bint open                   # L1Accepts and SlowUpdates may pass without asking the gate
    cdef readonly long long budget   # L1Accepts still wanted, -1: no limit
    cdef readonly uint64_t n_events_put  # L1Accepts put so far, over all runs
    cdef readonly uint64_t index     # of the next L1Accept
    cdef readonly uint64_t last_timestamp
    cdef uint64_t n_passed           # L1Accepts the gate has not been told of
    cdef uint32_t groups             # readout groups of the last env seen
    cdef Child *children             # scratch
    cdef bint follows                # an event came before in this run, at:
    cdef uint64_t event_timestamp
    cdef readonly uint64_t n_not_rising  # events not later than the one before; the first of them:
    cdef uint64_t not_rising_event
    cdef uint64_t not_rising_at
    cdef uint64_t not_rising_after
    cdef readonly uint64_t n_malformed  # SlowUpdates whose extents do not add up
    cdef int put_c(self, const uint8_t *dgram, size_t size, uint64_t timestamp, uint64_t pulse_id, uint32_t env) noexcept nogil
    cdef void _copy(self, int32_t slot, const uint8_t *dgram, size_t size, uint64_t timestamp) noexcept nogil
    cdef void _look_inside(self, Slot *s) noexcept nogil
    cdef void _enter(self, int32_t slot, uint64_t pulse_id, bint synthesised) noexcept nogil
    cdef int32_t _take(self, int service) noexcept nogil
    cdef int _make_way(self, int service, uint64_t timestamp) except -1
    cdef void _follow(self, uint64_t timestamp) noexcept nogil
