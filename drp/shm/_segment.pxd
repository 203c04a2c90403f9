"""A SysV shared memory segment that this process has attached."""

from libc.stdint cimport uint8_t

cdef class Segment:
    cdef uint8_t *base
    cdef readonly size_t size
    cdef readonly int id
    cdef readonly bint readonly
    cdef Py_ssize_t shape[1]
