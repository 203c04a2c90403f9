"""C level of a result in the making."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.script._link cimport Link

cdef class Result:
    cdef Link link
    cdef uint8_t *desc               # the adds, as they stand in the descriptor
    cdef uint32_t *drops
    cdef uint32_t drops_room
    cdef uint32_t n_drop
    cdef uint32_t n_add
    cdef uint32_t adds_bytes
    cdef uint32_t adds_room
    cdef uint64_t data_bytes
    cdef size_t reserved             # bytes kept free before the data, for the descriptor
    cdef uint8_t *base
    cdef uint16_t damage
    cdef uint8_t user
    cdef uint8_t block_flags
    cdef bint overflowed
    cdef object text

    # Begin one more ShapesData of `n` data bytes; returns where they go and puts where its shapes go. NULL: it does not fit.
    cdef uint8_t *add(self, uint32_t names_index, uint32_t n_arrays, uint64_t n, uint32_t **shapes) except? NULL
    cdef int drop(self, const uint32_t *ids, uint32_t n) except -1
    cdef size_t desc_bytes(self, uint32_t more) noexcept
    cdef void clear(self) noexcept
    cdef int finish(self, uint32_t status) except -1
    cdef int write_desc(self, uint8_t *at, size_t desc_bytes, uint32_t json_bytes, uint32_t json_room) except -1
