"""Who gets what: events by credit, transitions to everybody."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from drp.engine._order cimport Item, Order
from drp.shm._pebble cimport Slot
from drp.shm._port cimport PortState

cdef enum:
    MAX_PORTS = 4096
    ROOM_FOR_TRANSITIONS = 256       # entries of a ring that events leave free

cdef class Dispatch(Order):
    cdef PortState **ports           # NULL where a number is free
    cdef int n_ports
    cdef uint64_t *redo              # numbers of events to be done again, rising
    cdef uint32_t n_redo
    cdef readonly uint64_t barrier   # number of the transition being answered, 0: none
    cdef int owing                   # workers that have still to answer it
    cdef readonly uint64_t in_flight # L1Accepts with workers
    cdef bint slow_out               # a SlowUpdate has gone out since Configure
    cdef public bint pass_raw        # no worker is left: events pass as they are, damaged
    cdef readonly uint64_t n_unworked
    cdef int dispatch(self, uint64_t now_ns) noexcept nogil
    cdef int _give_event(self, Item *item, uint64_t now_ns) noexcept nogil
    cdef PortState *_pick(self, uint64_t now_ns) noexcept nogil
    cdef bint stuck(self, const PortState *p, uint64_t now_ns) noexcept nogil
    cdef void send(self, PortState *p, int32_t slot, uint8_t flags) noexcept nogil
    cdef void again(self, uint64_t seq) noexcept nogil
