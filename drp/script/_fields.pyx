"""Reading a field of the event in hand: one call, one view, nothing copied.

A FieldReader is made once for a Configure and knows the NamesIds, layouts and field numbers of one field of one alg, for each segment. It asks the
stream where those ShapesData lie in the dgram in hand, and makes one array on the buffer that holds it.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

from drp.script._event cimport Event, Stream
from drp.script.errors import ScriptError, StaleEventError
from xtc._walk cimport MAX_DIMS, Layout, ShapesAt
from xtc._walk import WalkFault
from xtc.codes import DTYPES

cdef enum:
    CHARSTR = 10
    ENUMVAL = 11

cdef object ndarray = np.ndarray


class EnumValue(int):
    """The value of an enum field; `value` is the number, `names` maps numbers to labels."""

    names: dict[int, str]

    def __new__(cls, value, names):
        self = super().__new__(cls, value)
        self.names = names
        return self

    @property
    def value(self):
        """The number."""
        return int(self)

    @property
    def label(self):
        """The label of the number, or an empty text."""
        return self.names.get(int(self), "")

    def __repr__(self):
        return f"{self.label or '?'}({int(self)})"


cdef class FieldReader:
    """One field of one alg of a detector. `parts`: (segment, names_id, layout, field number) of each segment in order.

    `labels` are (field number, label) of the enum's dictionary, where the field is an enum value.
    """

    cdef Stream stream
    cdef str name
    cdef tuple segment_numbers
    cdef tuple layouts
    cdef tuple labels
    cdef uint32_t *ids
    cdef int *hints
    cdef int *places
    cdef int n
    cdef int dtype
    cdef int rank
    cdef object np_dtype
    cdef object shape                # the tuple handed out last, and its dims
    cdef uint32_t dims[MAX_DIMS]

    def __cinit__(self, Stream stream not None, str name, parts, int dtype, int rank, labels=()):
        cdef int k = 0
        self.stream = stream
        self.name = name
        self.n = len(parts)
        self.dtype = dtype
        self.rank = rank
        self.np_dtype = DTYPES[dtype]
        self.labels = tuple(labels)
        self.ids = <uint32_t *>calloc(self.n + 1, sizeof(uint32_t))
        self.hints = <int *>calloc(self.n + 1, sizeof(int))
        self.places = <int *>calloc(self.n + 1, sizeof(int))
        if not (self.ids and self.hints and self.places):
            raise MemoryError
        for _, names_id, _, place in parts:
            self.ids[k] = names_id
            self.hints[k] = k
            self.places[k] = place
            k += 1
        self.segment_numbers = tuple(part[0] for part in parts)
        self.layouts = tuple(part[2] for part in parts)

    def __dealloc__(self):
        free(self.ids)
        free(self.hints)
        free(self.places)

    cdef int must_be_current(self, evt) except -1:
        cdef Event event
        if type(evt) is not Event:
            raise ScriptError(f"{self.name} is read from an event", expected="an event of run.events()", found=type(evt).__name__)
        event = <Event>evt
        if event.serial != self.stream.link.serial or event.stream is not self.stream or not self.stream.link.pending:
            raise StaleEventError(
                f"{self.name}: this event is gone", hint="Its data can be read until the script asks for the next one; keep a copy."
            )
        return 0

    cdef ShapesAt *locate(self, int k, uint32_t *offset, uint32_t *dims) except? NULL:
        """Where segment k's value lies, or NULL where the event has none."""
        cdef ShapesAt *at = self.stream.find(self.ids[k], self.hints + k)
        cdef long long size
        if at == NULL:
            return NULL
        size = (<Layout>self.layouts[k]).field_at(self.stream.link.dgram, at, self.places[k], offset, dims)
        if size < 0:
            raise WalkFault(<int>size, at.offset)
        return at

    cdef object shape_of(self, uint32_t *dims):
        cdef int k
        cdef bint same = self.shape is not None
        for k in range(self.rank):
            if dims[k] != self.dims[k]:
                same = False
                self.dims[k] = dims[k]
        if not same:
            self.shape = tuple([dims[k] for k in range(self.rank)])
        return self.shape

    cdef object one(self, int k, bint copy):
        """Segment k's value: an array, a number, a text, or None."""
        cdef uint32_t offset = 0
        cdef uint32_t[MAX_DIMS] dims
        cdef ShapesAt *at = self.locate(k, &offset, dims)
        if at == NULL:
            return None
        if self.rank == 0:
            return self.scalar(self.stream.link.dgram + offset, k)
        if self.dtype == CHARSTR:
            return bytes(self.stream.link.dgram[offset:offset + dims[0]]).partition(b"\0")[0].decode("utf-8", "replace")
        array = ndarray(self.shape_of(dims), self.np_dtype, self.stream.link.source, self.stream.link.source_offset + offset)
        if copy or self.stream.check_views:
            return self.stream.hand_out(array, copy)
        return array

    cdef object scalar(self, const uint8_t *at, int k):
        cdef double real
        cdef float single
        cdef uint64_t bits = 0
        if self.dtype == 9:
            memcpy(&real, at, 8)
            return real
        if self.dtype == 8:
            memcpy(&single, at, 4)
            return <double>single
        if self.dtype >= ENUMVAL:
            memcpy(&bits, at, 4)
            return EnumValue(<int32_t>bits, self.dictionary(k))
        memcpy(&bits, at, 1 << (self.dtype & 3))
        if self.dtype < 4:
            return bits
        if self.dtype == 4:
            return <int8_t>bits
        if self.dtype == 5:
            return <int16_t>bits
        if self.dtype == 6:
            return <int32_t>bits
        return <int64_t>bits

    cdef dict dictionary(self, int k):
        """The labels of an enum, which are data of the same ShapesData."""
        cdef uint32_t offset = 0
        cdef uint32_t[MAX_DIMS] dims
        cdef int32_t number = 0
        cdef ShapesAt *at = self.stream.find(self.ids[k], self.hints + k)
        names = {}
        for place, label in self.labels:
            if (<Layout>self.layouts[k]).field_at(self.stream.link.dgram, at, place, &offset, dims) >= 0:
                memcpy(&number, self.stream.link.dgram + offset, 4)
                names[number] = label
        return names

    def value(self, evt, copy=None):
        """Return the field: of the only segment, or `{segment: value}` where the detector has several; None where it is missing.

        Arrays are read-only views of the event, valid until the script asks for the next one, unless `copy`.
        """
        cdef bint own = self.stream.copy_views if copy is None else copy
        cdef int k
        if evt is None:
            return None
        self.must_be_current(evt)
        if self.n == 1:
            return self.one(0, own)
        found = {}
        for k in range(self.n):
            one = self.one(k, own)
            if one is not None:
                found[self.segment_numbers[k]] = one
        return found or None

    def segments(self, evt, copy=None):
        """Return one C-contiguous read-only array per segment, in the order of segments; None where one is missing."""
        cdef bint own = self.stream.copy_views if copy is None else copy
        cdef int k
        if evt is None:
            return None
        self.must_be_current(evt)
        out = []
        for k in range(self.n):
            one = self.one(k, own)
            if one is None:
                return None
            out.append(one)
        return out

    def stack(self, evt, copy=None):
        """Return all segments as one array: the segment itself, or a strided view where segments lie evenly in the event, else a copy.

        Shape (segments, rows, columns) for several segments; what the segment has for one. None where a segment is missing. A view is read-only and
        valid until the script asks for the next event, unless `copy`. Raises ScriptError where segments differ in shape.
        """
        cdef bint own = self.stream.copy_views if copy is None else copy
        if evt is None:
            return None
        self.must_be_current(evt)
        if self.n == 1:
            return self.one(0, own)
        return self.stacked(own)

    cdef object stacked(self, bint own):
        cdef uint32_t first = 0
        cdef uint32_t offset = 0
        cdef uint32_t before = 0
        cdef int64_t step = 0
        cdef uint32_t[MAX_DIMS] dims
        cdef bint even = True
        cdef int k
        shape = None
        for k in range(self.n):
            if self.locate(k, &offset, dims) == NULL:
                return None
            if k == 0:
                first = offset
                shape = self.shape_of(dims)
            elif self.shape_of(dims) != shape:
                raise ScriptError(f"{self.name}: the segments differ in shape", expected=shape, found=self.shape,
                                  hint="Use segments(evt), which gives one array for each.")
            elif k == 1:
                step = <int64_t>offset - <int64_t>first
            elif <int64_t>offset - <int64_t>before != step:
                even = False
            before = offset
        cut = max(len(shape) - 2, 0)
        lead = 1
        for size in shape[:cut]:
            lead *= size
        inner = shape[cut:]
        if even and step > 0 and lead == 1:
            size = self.np_dtype.itemsize
            strides = (step, inner[1] * size, size) if len(inner) == 2 else (step, size)
            array = ndarray((self.n, *inner), self.np_dtype, self.stream.link.source, self.stream.link.source_offset + first, strides)
            if own or self.stream.check_views:
                return self.stream.hand_out(array, own)
            return array
        array = np.empty((self.n, *shape), self.np_dtype)
        for k in range(self.n):
            array[k] = self.one(k, False)
        self.stream.stacked_copies += 1
        return array.reshape(self.n * lead, *inner)
