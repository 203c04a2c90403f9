"""What the judge is asked, and what it says, between collecting and recording."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.engine._order cimport Item
from drp.engine._recording cimport Recording

cdef packed struct Contribution:     # as drp.core.wire's CONTRIBUTION; the words follow
    uint64_t seq
    uint64_t pulse_id
    uint64_t timestamp
    uint32_t env
    uint16_t damage
    uint16_t flags

cdef packed struct Verdict:          # as drp.core.wire's VERDICT
    uint64_t seq
    uint64_t pulse_id
    uint32_t result
    uint16_t damage
    uint16_t flags

cdef class Judging(Recording):
    cdef uint64_t ask_next           # what is below it was shown to the judge
    cdef uint32_t words_bytes
    cdef uint32_t stride
    cdef bint alone                  # it is told of events as a partition of one drp has them
    cdef uint64_t last_pulse
    cdef int judge_fd
    cdef uint32_t judge_asleep
    cdef readonly uint64_t n_asked   # events that were shown to the judge
    cdef readonly uint64_t n_ruled   # of those it, or somebody for it, has decided
    cdef readonly uint64_t n_unknown # verdicts on what it was not asked
    cdef readonly uint64_t n_repeated
    cdef void call_judge(self) noexcept nogil
    cdef uint64_t _told_pulse(self, uint64_t pulse_id) noexcept nogil
    cdef int _put_contribution(self, Item *item, uint8_t *to) noexcept nogil
    cdef int _ask(self, uint64_t first, uint64_t last, uint8_t *to) noexcept nogil
    cdef int _rule(self, const Verdict *verdicts, size_t n, uint8_t ruling) noexcept nogil
    cdef void _passed(self, uint64_t before) noexcept nogil
