"""drp's end of one worker's rings and arena."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from drp.shm._layout cimport InEntry, OutEntry, RING_DEPTH, WorkerHeader
from drp.shm._segment cimport Segment

cdef enum:
    MAX_CREDIT = 512                 # the rest of the ring is for transitions and replays

cdef enum PeekError:
    PEEK_NONE = 0                    # nothing new
    PEEK_ONE = 1
    PEEK_HEAD = -1                   # out_head moved by more than is in flight, or back
    PEEK_SEQ = -2                    # the answer is to something else
    PEEK_BLOCK = -3                  # the block does not lie in what the worker may write

cdef struct Sent:
    uint64_t seq
    int32_t slot
    uint8_t service
    uint8_t flags

cdef struct PortState:
    # shared with the worker
    WorkerHeader *header
    InEntry *entries
    OutEntry *answers
    uint8_t *arena
    uint64_t arena_bytes
    # private: nothing here is read back from the worker
    Sent sent[RING_DEPTH]
    uint64_t pushed
    uint64_t answered
    uint64_t taken                   # as last seen
    uint64_t taken_ns                # when it was first seen so
    uint64_t block_end               # end of the last block accepted
    uint64_t tail                    # what arena_tail was last set to
    uint64_t *ends                   # of the blocks not yet recorded, a ring of n_blocks
    uint8_t *released
    uint32_t n_blocks
    uint64_t first_block             # numbers of blocks never wrap
    uint64_t next_block
    uint64_t owes                    # seq of the transition it has still to answer, 0: none
    double service_ns                # running median
    uint32_t credit
    uint32_t events                  # L1Accepts in flight
    int32_t slow                     # slot of the last SlowUpdate it got
    uint16_t worker
    uint8_t open                     # gets transitions
    uint8_t fed                      # gets events
    uint8_t failed                   # has answered with a failure or nonsense: is about to be buried
    uint8_t dead
    uint8_t rung                     # something was pushed since its doorbell was last rung
    uint8_t freed                    # arena was freed since then
    uint64_t n_done
    uint64_t n_failed
    uint64_t unmerged                # L1Accepts answered since it last handed over what it reduces

cdef class Port:
    cdef PortState state
    cdef readonly Segment segment
    cdef readonly int worker
    cdef readonly int incarnation

cdef int port_room(const PortState *p) noexcept nogil
cdef void port_push(PortState *p, const InEntry *entry, int32_t slot) noexcept nogil
cdef void port_ring(PortState *p) noexcept nogil
cdef void port_ring_arena(PortState *p) noexcept nogil
cdef int port_peek(PortState *p, OutEntry *answer) noexcept nogil
cdef void port_accept(PortState *p, const OutEntry *answer) noexcept nogil
cdef bint port_keep_block(PortState *p, uint64_t *block) noexcept nogil
cdef void port_pass_block(PortState *p) noexcept nogil
cdef void port_release_block(PortState *p, uint64_t block) noexcept nogil
cdef void port_look(PortState *p, uint64_t now_ns) noexcept nogil
