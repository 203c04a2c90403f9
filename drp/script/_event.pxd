"""C level of the stream of dgrams as a script sees it."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from drp.script._added cimport AddedData
from drp.script._link cimport Link
from drp.script._result cimport Result
from xtc._walk cimport ShapesAt

cdef class DropSet:
    cdef uint32_t *ids
    cdef uint32_t n
    cdef uint64_t serial             # of the dgram that has dropped it already

cdef class Stream:
    cdef readonly Link link
    cdef Result result
    cdef object session
    cdef ShapesAt *shapes
    cdef int room
    cdef int n_shapes
    cdef uint64_t walked             # serial of the dgram that `shapes` is of
    cdef readonly bint check_views
    cdef public bint copy_views
    cdef list handed
    cdef public uint64_t stacked_copies
    cdef dict droppable
    cdef AddedData words
    cdef bint words_set
    cdef readonly uint64_t n_events   # given to the script

    cdef int move(self) except -2
    cdef int walk(self) except -1
    cdef ShapesAt *find(self, uint32_t names_id, int *hint) except? NULL
    cdef int must_hold(self, str verb) except -1
    cdef object hand_out(self, object array, bint copy)
    cdef void poison(self)

cdef class Event:
    cdef Stream stream
    cdef uint64_t serial
    cdef uint64_t pulse
    cdef readonly uint64_t timestamp
    cdef readonly uint64_t index
    cdef readonly uint32_t env

cdef class Verbs:
    cdef Stream stream
