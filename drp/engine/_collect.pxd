"""What comes back from workers, checked, and what the main loop must know of it."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from drp.engine._dispatch cimport Dispatch
from drp.engine._order cimport Item
from drp.shm._block cimport NamesTable
from drp.shm._layout cimport OutEntry
from drp.shm._port cimport PortState, Sent

cdef enum:
    N_NOTICES = 8192
    N_BUCKETS = 1024                 # of a histogram of times

cdef int bucket(uint64_t value) noexcept nogil
cdef bint waits_for_arena(const PortState *p) noexcept nogil

cdef enum NoticeKind:
    NOTICE_ANSWER = 1                # a worker answered a transition
    NOTICE_REPLAY = 2                # a worker answered a Configure or BeginRun that was a replay
    NOTICE_FAILED = 3                # a worker's answer is a failure, or nonsense
    NOTICE_BARRIER = 4               # everybody has answered
    NOTICE_OVERFLOW = 5              # the first result that did not fit, of each worker

cdef struct Notice:
    uint8_t kind
    uint8_t service
    uint8_t cause
    int32_t code                     # BlockFault or PeekError of nonsense
    int32_t port
    uint64_t seq
    uint8_t *text                    # block of the answer, or NULL
    uint32_t desc_bytes
    uint32_t text_bytes

cdef class Collect(Dispatch):
    cdef NamesTable table
    cdef Notice *notices
    cdef uint32_t first_notice
    cdef uint32_t next_notice
    cdef readonly uint64_t n_overflows
    cdef uint64_t service[N_BUCKETS]  # times from taking an event to answering it
    cdef int collect(self, uint64_t now_ns) noexcept nogil
    cdef int _collect_port(self, int number, uint64_t now_ns) noexcept nogil
    cdef void _answer_event(self, int number, const Sent *sent, const OutEntry *answer) noexcept nogil
    cdef void _answer_transition(self, int number, const Sent *sent, const OutEntry *answer) noexcept nogil
    cdef int _edited(self, PortState *p, Item *item, const OutEntry *answer) noexcept nogil
    cdef int _failure(self, int number, const Sent *sent, const OutEntry *answer) noexcept nogil
    cdef void _fault(self, int number, int cause, uint64_t seq, uint8_t service, int code, const OutEntry *answer) noexcept nogil
    cdef void _settle(self, PortState *p) noexcept nogil
    cdef bint _keep(self, PortState *p, Item *item) noexcept nogil
    cdef bint _move_out(self, Item *item) noexcept nogil
    cdef bint _held_up(self, PortState *waiting, uint64_t now_ns) noexcept nogil
    cdef void _spill(self, PortState *p, uint64_t above) noexcept nogil
    cdef int notice_room(self) noexcept nogil
    cdef bint in_hand(self, int number) noexcept nogil
    cdef uint64_t bury_port(self, int number, int cause) noexcept nogil
