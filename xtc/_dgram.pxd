"""C level of a dgram as Python sees it: bytes kept alive, a checked header, values not copied."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cpython.buffer cimport Py_buffer

from xtc._walk cimport Layout, ShapesAt

cdef class Held:
    """Bytes that stay where they are as long as a dgram or one of its arrays lives."""

    cdef Py_buffer raw
    cdef const uint8_t *base
    cdef size_t size
    cdef readonly object view        # read-only memoryview of all of it

cdef class Dgram:
    """One dgram in held bytes."""

    cdef Held held
    cdef const uint8_t *at
    cdef size_t start                # of its first byte in the held bytes
    cdef readonly uint32_t size
    cdef readonly object path
    cdef readonly object index
    cdef uint64_t base               # file offset of the first held byte
    cdef object config_source        # Config, the Configure Dgram in force, or None

cdef class ShapesData:
    """One ShapesData of a dgram."""

    cdef readonly Dgram dgram
    cdef ShapesAt found

cdef class Column:
    """One field of one Names, read from dgram after dgram."""

    cdef readonly object names
    cdef readonly object field
    cdef Layout layout
    cdef uint32_t names_id
    cdef int i
    cdef int dtype
    cdef int rank
    cdef object dtype_object
    cdef uint64_t number(self, const uint8_t *dgram, const ShapesAt *found, int count) noexcept nogil

cdef class Scan:
    """The dgrams of held bytes, one after another."""

    cdef Held held
    cdef size_t cursor
    cdef uint64_t base
    cdef object path
    cdef object config_source
    cdef int count
    cdef readonly object tail        # (offset, have, need) after a cut-off end, else None
