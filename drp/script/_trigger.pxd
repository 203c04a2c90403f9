"""C level of a trigger script: the batch in hand, its events, and what was decided of them."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.script._event cimport Stream

cdef class Member:
    cdef readonly object alias
    cdef readonly uint32_t id
    cdef readonly int group
    cdef uint32_t place              # among the contributors of the Configure
    cdef uint32_t stride
    cdef readonly uint32_t words_bytes
    cdef dict index                  # name of a word -> its place
    cdef uint32_t *offsets
    cdef uint8_t *kinds

cdef class Decider:
    cdef Stream stream
    cdef object session
    cdef readonly tuple members
    cdef dict by_alias
    cdef uint32_t names_index
    cdef uint32_t event_bytes
    cdef const uint8_t *events       # of the batch in hand
    cdef const uint8_t **rows        # by member
    cdef uint32_t n                  # events of the batch in hand, 0: none is
    cdef uint32_t given              # of those, to the script
    cdef bint decided                # what was given last
    cdef bint over
    cdef uint32_t *results
    cdef readonly uint64_t n_decided

    cdef int next_batch(self) except -1
    cdef int take_batch(self) except -1

cdef class TriggerEvent:
    cdef Decider decider
    cdef uint64_t serial             # of the batch
    cdef uint32_t at                 # in the batch
    cdef const uint8_t *record(self) except NULL
    cdef const uint8_t *row(self, Member member) except NULL
