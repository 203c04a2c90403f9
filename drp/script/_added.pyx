"""The data a script adds to an event: a container whose attributes are the declared fields, checked when they are assigned.

A container encodes its scalars at once and its arrays when it is added, straight into the arena. It knows its declaration and the result it is
written to, nothing of links or events. Its attributes are the script's: it has no public method of its own.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDED_RO,
    Py_buffer,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_CheckExact
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from drp.script._result cimport Result
from drp.script.errors import FieldError, FieldRangeError, UnknownNameError, near_misses

cdef enum:
    FLOAT = 8
    DOUBLE = 9
    CHARSTR = 10
    TEXT_UNIT = 4                    # a stored text is a multiple of this, its NUL included

cdef tuple ELEMENT_BYTES = (1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1)


cdef class AddedData:
    """One alg's worth of new data for one event: assign every field, then `add_data` it.

    Fields read as what was assigned to them, or None; `add_data` sets all to None again. Arrays are read when they are added, so what is written into
    them until then counts.
    """

    def __cinit__(self, declaration, uint32_t names_index):
        cdef int i = 0
        cdef int n = len(declaration.fields)
        self.about = declaration
        self.names_index = names_index
        self.n_fields = n
        self.types = <uint8_t *>calloc(n + 1, 1)
        self.ranks = <uint8_t *>calloc(n + 1, 1)
        self.sizes = <uint8_t *>calloc(n + 1, 1)
        self.is_set = <uint8_t *>calloc(n + 1, 1)
        self.cells = <uint8_t *>calloc(n + 1, 8)
        self.views = <Py_buffer *>calloc(n + 1, sizeof(Py_buffer))
        if not (self.types and self.ranks and self.sizes and self.is_set and self.cells and self.views):
            raise MemoryError
        self.index = {}
        self.values = [None] * n
        for name, dtype, rank in declaration.fields:
            self.index[name] = i
            self.types[i] = int(dtype)
            self.ranks[i] = rank
            self.sizes[i] = ELEMENT_BYTES[int(dtype)]
            self.n_arrays += 1 if rank else 0
            i += 1

    def __dealloc__(self):
        free(self.types)
        free(self.ranks)
        free(self.sizes)
        free(self.is_set)
        free(self.cells)
        free(self.views)

    def __getattr__(self, name):
        place = self.index.get(name)
        if place is None:
            raise AttributeError(f"{self.about} has no field {name!r}. {near_misses(name, self.index)}")
        return self.values[place] if self.is_set[<int>place] else None

    def __setattr__(self, name, value):
        cdef PyObject *place = PyDict_GetItem(self.index, name)
        if place == NULL:
            raise UnknownNameError(f"{self.about} has no field {name!r}", hint=near_misses(name, self.index))
        self.assign(<object>place, value)

    def __dir__(self):
        return sorted(self.index)

    def __repr__(self):
        fields = ", ".join(f"{name}={self.values[place]!r}" for name, place in self.index.items())
        return f"<{self.about}: {fields}>"

    cdef int assign(self, int i, object value) except -1:
        cdef Py_buffer view
        if self.ranks[i] == 0:
            put_scalar(value, self.types[i], self.cells + 8 * i, self.about, self.about.fields[i][0])
        elif self.types[i] == CHARSTR:
            if not isinstance(value, (str, bytes)):
                raise FieldError(f"{self.about}.{self.about.fields[i][0]} is text", expected="str or bytes", found=type(value).__name__)
        else:
            self.take_buffer(i, value, &view)
            PyBuffer_Release(&view)
        self.values[i] = value
        if not self.is_set[i]:
            self.is_set[i] = 1
            self.n_set += 1
        return 0

    cdef int take_buffer(self, int i, object value, Py_buffer *view) except -1:
        """Hold the buffer of `value`, an array of exactly the declared type and rank."""
        cdef int found
        if not PyObject_CheckBuffer(value):
            raise self.misfit(i, value, "a numpy array")
        PyObject_GetBuffer(value, view, PyBUF_STRIDED_RO | PyBUF_FORMAT)
        found = type_of(view)
        if found != self.types[i] or view.ndim != self.ranks[i]:
            PyBuffer_Release(view)
            raise self.misfit(i, value, None)
        return 0

    cdef object misfit(self, int i, object value, object expected):
        name, dtype, rank = self.about.fields[i]
        wanted = f"{np.dtype(NUMPY_NAMES[int(dtype)])} of rank {rank}"
        if isinstance(value, np.ndarray):
            found = f"{value.dtype} of rank {value.ndim}"
        else:
            found = type(value).__name__
        hint = ""
        if isinstance(value, np.ndarray) and value.ndim == rank:
            hint = f"Convert it: .astype(np.{np.dtype(NUMPY_NAMES[int(dtype)])})"
        return FieldError(f"the value does not fit {self.about}.{name}", expected=expected or wanted, found=found, hint=hint)

    cdef int hold_arrays(self, uint64_t *total) except -1:
        """Hold the buffers of all arrays and add up the bytes of all fields. On an error nothing is held."""
        cdef int i
        cdef int held = 0
        cdef uint64_t n = 0
        try:
            for i in range(self.n_fields):
                if self.ranks[i] == 0:
                    n += self.sizes[i]
                elif self.types[i] == CHARSTR:
                    n += text_bytes(self.values[i])
                else:
                    self.take_buffer(i, self.values[i], self.views + held)
                    n += self.views[held].len
                    held += 1
        except BaseException:
            for i in range(held):
                PyBuffer_Release(self.views + i)
            raise
        total[0] = n
        return held

    cdef int write(self, Result result) except -1:
        cdef uint64_t total = 0
        cdef uint32_t *shapes = NULL
        cdef uint8_t *at
        cdef int held
        cdef int i, k
        cdef int v = 0
        cdef Py_buffer *view
        cdef bytes text
        if self.n_set != self.n_fields:
            missing = [name for name, place in self.index.items() if not self.is_set[<int>place]]
            raise FieldError(f"{self.about} is not complete", expected="every field assigned", found=f"nothing in {', '.join(missing)}")
        held = self.hold_arrays(&total)
        try:
            at = result.add(self.names_index, self.n_arrays, total, &shapes)
            if at != NULL:
                for i in range(self.n_fields):
                    if self.ranks[i] == 0:
                        memcpy(at, self.cells + 8 * i, self.sizes[i])
                        at += self.sizes[i]
                        continue
                    if self.types[i] == CHARSTR:
                        text = as_bytes(self.values[i])
                        shapes[0] = text_bytes(text)
                        memcpy(at, <const char *>text, len(text))
                        memset(at + len(text), 0, shapes[0] - len(text))
                        at += shapes[0]
                    else:
                        view = self.views + v
                        v += 1
                        for k in range(view.ndim):
                            shapes[k] = <uint32_t>view.shape[k]
                        copy_array(view, at)
                        at += view.len
                    shapes += 5
        finally:
            for i in range(held):
                PyBuffer_Release(self.views + i)
        for i in range(self.n_fields):
            if self.ranks[i]:
                self.values[i] = None
        memset(self.is_set, 0, <size_t>self.n_fields)
        self.n_set = 0
        return 0


NUMPY_NAMES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8", "S1")


cdef bytes as_bytes(object value):
    return (<str>value).encode("utf-8") if isinstance(value, str) else bytes(value)


cdef uint32_t text_bytes(object value) except? 0:
    """Stored bytes of a text: its UTF-8 and a NUL, rounded up."""
    cdef bytes text = as_bytes(value)
    return <uint32_t>((len(text) + TEXT_UNIT) // TEXT_UNIT * TEXT_UNIT)


cdef int type_of(Py_buffer *view) noexcept:
    """The DataType of a buffer's elements, or -1."""
    cdef const char *form = <const char *>view.format
    cdef int log2 = 0
    if form == NULL:
        return 0
    if form[0] in b"@=<|":
        form += 1
    if form[0] == 0 or form[1] != 0:
        return -1
    while log2 < 3 and (1 << log2) < view.itemsize:
        log2 += 1
    if (1 << log2) != view.itemsize:
        return -1
    if form[0] in b"BHILQN":
        return log2
    if form[0] in b"bhilqn":
        return 4 + log2
    if form[0] == c"f" and view.itemsize == 4:
        return FLOAT
    if form[0] == c"d" and view.itemsize == 8:
        return DOUBLE
    return -1


cdef void copy_array(Py_buffer *view, uint8_t *out) noexcept:
    """Copy the elements in C order, whatever their strides."""
    if PyBuffer_IsContiguous(view, b"C"):
        with nogil:
            memcpy(out, view.buf, view.len)
    elif view.len:
        with nogil:
            copy_dim(view, 0, <const uint8_t *>view.buf, out)


cdef uint8_t *copy_dim(Py_buffer *view, int dim, const uint8_t *at, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t k
    cdef Py_ssize_t n = view.shape[dim]
    cdef Py_ssize_t stride = view.strides[dim]
    cdef Py_ssize_t size = view.itemsize
    if dim < view.ndim - 1:
        for k in range(n):
            out = copy_dim(view, dim + 1, at + k * stride, out)
        return out
    if stride == size:
        memcpy(out, at, n * size)
    elif size == 1:
        for k in range(n):
            out[k] = at[k * stride]
    elif size == 2:
        for k in range(n):
            memcpy(out + 2 * k, at + k * stride, 2)
    elif size == 4:
        for k in range(n):
            memcpy(out + 4 * k, at + k * stride, 4)
    else:
        for k in range(n):
            memcpy(out + 8 * k, at + k * stride, 8)
    return out + n * size


cdef object whole_number(object value, object about, object name):
    """`value` as an int where that changes nothing, else a FieldError."""
    try:
        return PyNumber_Index(value)
    except TypeError:
        pass
    if isinstance(value, np.bool_):
        return int(value)
    if isinstance(value, (float, np.floating)):
        if np.isfinite(value) and float(value).is_integer():
            return int(value)
        raise FieldError(
            f"{about}.{name} holds whole numbers", expected="an int", found=repr(value), hint="Use int(...) to cut it off."
        )
    raise FieldError(f"{about}.{name} is one number", expected="an int", found=type(value).__name__)


cdef int put_scalar(object value, uint8_t dtype, uint8_t *out, object about, object name) except -1:
    """Encode one number, refusing what the type cannot hold."""
    cdef double real
    cdef float single
    cdef int64_t number
    cdef uint64_t bits
    cdef int overflow = 0
    cdef int width
    if dtype >= FLOAT:
        if PyFloat_CheckExact(value):
            real = <double>value
        else:
            try:
                real = PyFloat_AsDouble(value)
            except (TypeError, OverflowError):
                raise FieldError(f"{about}.{name} is one number", expected="a float", found=type(value).__name__) from None
        if dtype == DOUBLE:
            memcpy(out, &real, 8)
            return 0
        single = <float>real
        if isfinite(real) and not isfinite(single):
            raise FieldRangeError(f"{about}.{name} cannot hold {real!r}", expected="a float32")
        memcpy(out, &single, 4)
        return 0
    if not PyLong_CheckExact(value):
        value = whole_number(value, about, name)
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow == 0:
        bits = <uint64_t>number
        width = 8 << (dtype & 3)
        if dtype < 4:
            if number >= 0 and (width == 64 or bits >> width == 0):
                memcpy(out, &bits, 8)
                return 0
        elif width == 64 or (number >= -(<int64_t>1 << (width - 1)) and number < (<int64_t>1 << (width - 1))):
            memcpy(out, &bits, 8)
            return 0
    elif overflow > 0 and dtype == 3 and value < (1 << 64):
        bits = PyLong_AsUnsignedLongLong(value)
        memcpy(out, &bits, 8)
        return 0
    raise FieldRangeError(f"{about}.{name} cannot hold {value}", expected=f"the range of {np.dtype(NUMPY_NAMES[dtype])}")
