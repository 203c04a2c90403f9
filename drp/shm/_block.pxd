"""C level of the result block: the Names a script declared as a C table, and the check of a descriptor
nobody vouches for.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    SHAPESDATA_HEADERS = 36          # Xtc headers of a ShapesData, of its Shapes and of its Data
    SHAPE_BYTES = 20                 # one Shape: five dims
    ADD_HEADER_BYTES = 16            # names_index, n_arrays, data_bytes
    MAX_DGRAM_BYTES = 0x7fffffff     # an extent is read as a signed number

cdef enum BlockFault:
    BLOCK_OK = 0
    BLOCK_SHORT = 1
    BLOCK_DESC_LIMIT = 2
    BLOCK_DAMAGE = 3
    BLOCK_USER = 4
    BLOCK_FLAGS = 5
    BLOCK_DROPS = 6
    BLOCK_ADDS = 7
    BLOCK_DROP_ID = 8
    BLOCK_CUT = 9
    BLOCK_INDEX = 10
    BLOCK_ARRAYS = 11
    BLOCK_SHAPE = 12
    BLOCK_DATA_BYTES = 13
    BLOCK_PADDING = 14
    BLOCK_TOTAL = 15
    BLOCK_NO_WORDS = 16
    BLOCK_TEXT = 17

cdef struct FieldSlot:
    uint8_t size                     # bytes of one element
    uint8_t rank
    uint8_t text                     # 1: CHARSTR, which must hold a NUL
    uint8_t pad

cdef struct NamesSlot:
    uint32_t names_id
    uint32_t first                   # index of its first field in the table's fields
    uint32_t n_fields
    uint32_t n_arrays
    uint32_t has_text

cdef struct EditInfo:
    uint16_t damage                  # bits 0..11 to set
    uint8_t user                     # 4-bit user damage, 0: none
    uint8_t flags                    # BlockFlag
    uint32_t n_drop
    uint32_t n_add
    uint32_t json_bytes              # the text begins at BLOCK_HEADER_BYTES
    uint32_t drops_at                # offset of the NamesIds in the descriptor
    uint32_t adds_at                 # offset of the first add
    uint32_t wrong                   # after an error: which drop or add it is about
    uint32_t words_bytes             # with BLOCK_WORDS: the data of the trigger words, the last of the block
    uint64_t header_bytes            # what drp writes itself for the added ShapesData
    uint64_t data_bytes              # what comes from the arena

cdef class NamesTable:
    """The Names of a script in the order of declaration, readable without the GIL."""

    cdef NamesSlot *slots
    cdef FieldSlot *fields
    cdef readonly uint32_t n_names
    cdef readonly int trigger        # names_index of the trigger words, or -1

# `desc` is private memory; `data` (the arrays, in the arena) may be NULL: then text is not looked at.
cdef int check_block(
    const uint8_t *desc, uint32_t desc_bytes, uint64_t block_bytes, uint32_t max_desc_bytes,
    const uint8_t *data, NamesTable table, EditInfo *info,
) noexcept nogil
