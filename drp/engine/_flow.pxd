"""The flow of dgrams through a drp process: one lock, three threads that work without the GIL."""

from libc.stdint cimport uint32_t, uint64_t

from drp.engine._judging cimport Judging
from drp.shm._layout cimport Bell
from drp.shm._pebble cimport SlotBatch
from drp.shm._segment cimport Segment

cdef class Flow(Judging):
    cdef readonly Segment bells
    cdef Bell *engine_bell
    cdef uint32_t news               # counts what the engine must look at beside answers
    cdef uint32_t seen_news
    cdef bint barrier_told
    cdef bint finished               # the transition being answered has its record
    cdef dict held                   # Ports by number
    cdef dict blobs                  # records of transitions, until they are written
    cdef int _pass(self) noexcept nogil
    cdef int _show(self, int number, list services)
    cdef void _news(self) noexcept nogil
    cdef bint _has_work(self) noexcept nogil
    cdef bint _may_lend(self, SlotBatch batch, int wanted) noexcept nogil
    cdef uint64_t _coalesce_ns(self) noexcept nogil
