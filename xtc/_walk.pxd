"""C level of the XTC2 walker: where ShapesData and their fields lie, every extent checked first."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_DEPTH = 8                    # nested Parents
    MAX_DIMS = 5                     # slots of a Shape; the format allows rank 0..4

cdef enum WalkError:
    WALK_DGRAM_SHORT = -1            # fewer bytes than the header or the top extent asks for
    WALK_EXTENT_SMALL = -2           # an extent below 12
    WALK_EXTENT_LARGE = -3           # a child ends beyond its parent
    WALK_TOO_DEEP = -4
    WALK_TOO_MANY = -5               # more ShapesData than there is room for
    WALK_NO_DATA = -6                # a ShapesData without Data, or with two
    WALK_SHAPES = -7                 # two Shapes, or too few bytes in it
    WALK_FIELD = -8                  # a field reaches beyond its Data

cdef struct Child:
    uint32_t src                     # whole src word
    uint16_t damage
    uint16_t type                    # low 12 bits of contains
    uint32_t offset                  # from the dgram's first byte
    uint32_t extent
    uint32_t parent                  # index of the enclosing Parent in the same list, or 0xffffffff

cdef struct ShapesAt:
    uint32_t names_id                # low 28 bits of src
    uint16_t damage
    uint16_t pad
    uint32_t offset                  # of its Xtc header, from the dgram's first byte
    uint32_t extent
    uint32_t shapes_offset           # of the first Shape; 0 where there is none
    uint32_t shapes_bytes
    uint32_t data_offset             # of the first value
    uint32_t data_bytes

# Both return a count, or a WalkError; *where is then the offset of what is wrong. A Parent with Corrupted set (the
# top one too) is not entered.
cdef int walk_children(const uint8_t *dgram, size_t size, Child *out, int room,
                       uint32_t *where) noexcept nogil
cdef int walk_shapes(const uint8_t *dgram, size_t size, ShapesAt *out, int room,
                     uint32_t *where) noexcept nogil

cdef class Layout:
    """How the fields of one Names follow each other in Data."""

    cdef readonly int n_fields
    cdef readonly int n_arrays
    cdef uint8_t *types              # DataType of each field
    cdef uint8_t *ranks
    cdef uint8_t *sizes              # bytes of one element
    cdef int *array_index            # of each field among those with rank > 0, or -1

    # Put the byte offset of field i (from the dgram's first byte) and its dims; returns its size in bytes, or a
    # WalkError (as int64).
    cdef long long field_at(self, const uint8_t *dgram, const ShapesAt *at, int i, uint32_t *offset,
                            uint32_t *dims) noexcept nogil
    # The same for every field in one pass: offsets[n_fields], dims[n_fields * MAX_DIMS]; returns n_fields, or a
    # WalkError with *bad = the field.
    cdef int fields_at(self, const uint8_t *dgram, const ShapesAt *at, uint32_t *offsets, uint32_t *dims,
                       int *bad) noexcept nogil
