"""C level of the data a script adds."""

from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from drp.script._result cimport Result

cdef class AddedData:
    cdef object about                # the Declaration
    cdef uint32_t names_index
    cdef dict index                  # field name -> its place
    cdef list values
    cdef int n_fields
    cdef int n_arrays
    cdef int n_set
    cdef uint8_t *types
    cdef uint8_t *ranks
    cdef uint8_t *sizes
    cdef uint8_t *is_set
    cdef uint8_t *cells              # 8 bytes for each field, the encoded scalar
    cdef Py_buffer *views            # one for each array, held only during `write`

    cdef int assign(self, int i, object value) except -1
    cdef int write(self, Result result) except -1
    cdef int hold_arrays(self, uint64_t *total) except -1
    cdef int take_buffer(self, int i, object value, Py_buffer *view) except -1
    cdef object misfit(self, int i, object value, object expected)

cdef int put_scalar(object value, uint8_t dtype, uint8_t *out, object about, object name) except -1
