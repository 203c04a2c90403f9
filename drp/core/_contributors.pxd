"""Who contributes to events, what of theirs has no verdict yet, and the verdicts that they have not been given."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from drp.core._event_table cimport Event, EventTable

cdef enum:
    CONTRIBUTION_BYTES = 32
    MAX_CONTRIBUTORS = 64

cdef packed struct Verdict:           # wire.VERDICT
    uint64_t seq
    uint64_t pulse_id
    uint32_t result
    uint16_t damage
    uint16_t flags

cdef struct Block:                    # what is known of a contribution beside its bytes
    int32_t next                      # of the free ones, or of those who wait
    uint32_t era                      # of its contributor: how often that one has begun anew
    uint16_t damage                   # its own

cdef struct Contributor:
    int id
    int group
    uint8_t begun
    uint8_t gone
    uint8_t astray                    # its clock is ahead of the others': whatever it opens from astray_from on is not waited for
    uint64_t last                     # the pulse id it said last
    uint64_t astray_from
    uint64_t active                   # youngest event it is part of
    int32_t hint                      # the event it opened last, where it still has that birth
    uint64_t hint_born
    uint32_t stride                   # of the rows that are given out
    uint32_t room                     # of a block's bytes
    uint8_t *data
    int32_t free_block
    uint32_t in_use
    uint32_t era
    Verdict *out
    uint32_t n_out
    uint64_t n_missing
    uint64_t n_late
    uint64_t n_out_of_order

cdef class Contributors(EventTable):
    cdef int32_t *blocks_of           # block of contributor i in event e: blocks_of[e * n + i]
    cdef Block *blocks                # of contributor i: blocks[i * window + block]
    cdef Contributor *who
    cdef int n
    cdef int ids[MAX_CONTRIBUTORS]    # position by id
    cdef uint32_t window
    cdef uint64_t n_undelivered
    cdef int position(self, int contributor) except -2
    cdef void chain_blocks(self, int i) noexcept nogil
    cdef int make_room(self, Contributor *who, uint32_t stride) except -1
    cdef int32_t keep(self, int i, const uint8_t *at, uint32_t stride, uint16_t own) noexcept nogil
    cdef void answer(self, Contributor *who, uint64_t seq, uint64_t pulse_id, uint32_t result, uint16_t damage, uint16_t flags) noexcept nogil
    cdef int32_t settle_block(self, int i, int32_t block, const Event *event, uint16_t flags) noexcept nogil
