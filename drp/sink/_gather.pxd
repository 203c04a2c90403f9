"""C level of the gather list: what a recorded L1Accept is made of, as ranges of memory in the order of
the file.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.shm._block cimport EditInfo, NamesTable
from xtc._walk cimport Child

cdef enum:
    DGRAM_HEADER_BYTES = 24
    XTC_HEADER_BYTES = 12
    DRPINFO_BYTES = 47               # ShapesData: empty Shapes, Data of u64 pulse id, u8 cause, u16 worker
    SMD_BYTES = 76                   # the smd twin of an L1Accept
    NO_NAMES = 0xffffffff            # instead of a NamesId: not wanted
    NO_WORKER = 0xffff
    CAUSE_TRUNCATED = 4
    MAX_STRIPPED = 16

cdef enum Gathered:
    GATHER_OK = 0
    GATHER_TRUNCATED = 1             # the result did not fit: raw whole, with Truncated and its cause
    GATHER_MALFORMED = 2             # the raw dgram's extents do not add up: kept whole, marked Corrupted
    GATHER_NO_MEMORY = -1

cdef struct Range:
    const uint8_t *at
    size_t n

cdef class Gather:
    """Scratch for one gather list at a time, and the NamesIds drp writes itself."""

    cdef Child *children
    cdef uint32_t *removed           # bytes taken out of each Parent
    cdef uint32_t *drops             # sorted
    cdef uint8_t *head               # headers written here
    cdef Range *ranges
    cdef int room                    # children there is room for
    cdef size_t head_room
    cdef uint8_t *head_at
    cdef uint32_t[MAX_STRIPPED] stripped
    cdef int n_stripped
    cdef uint32_t[MAX_STRIPPED] names
    cdef int n_names
    cdef uint32_t info_id
    cdef readonly int n_ranges
    cdef readonly uint64_t size      # of the recorded dgram

    # Fill ranges, n_ranges and size; returns Gathered. `desc` was checked: `edit` is what check_block said
    # of it, NULL for no edit. The ranges point into raw, data and this object's scratch, and hold until the
    # next call. `whole`: nothing of raw is left out, whatever `edit` drops.
    cdef int gather(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        NamesTable table, uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound,
        bint whole,
    ) noexcept nogil
    cdef void copy(self, uint8_t *to) noexcept nogil
    cdef int grow(self, size_t size) noexcept nogil
    cdef int sort_drops(self, const uint8_t *desc, const EditInfo *edit) noexcept nogil
    cdef uint64_t mark(self, int n_children, int n_drops) noexcept nogil
    cdef void put_range(self, const uint8_t *at, size_t n) noexcept nogil
    cdef uint8_t *put_head(self, size_t n) noexcept nogil
    cdef void put_kept(self, const uint8_t *raw, int n_children) noexcept nogil
    cdef void put_added(
        self, const uint8_t *desc, const EditInfo *edit, const uint8_t *data, NamesTable table
    ) noexcept nogil

# The 76 bytes of the smd twin of an L1Accept.
cdef void put_smd(
    uint8_t *to, const uint8_t *raw, uint16_t damage, uint32_t smdinfo_id, uint64_t offset, uint64_t size
) noexcept nogil
