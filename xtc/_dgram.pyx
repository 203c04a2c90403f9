# cython: nonecheck=True
"""Dgrams as views on bytes that somebody keeps: header, ShapesData, values. Nothing is copied but scalars and
text.

It reads the layout through `xtc._walk` and the schema through `xtc.config`; it knows no files. Arrays are
read-only numpy views; each keeps the bytes it looks at alive, whatever becomes of the dgram or the reader it
came from.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy

from typing import NamedTuple

import numpy as np

from xtc import codes
from xtc.config import Config
from xtc.errors import XtcError
from xtc.kinds import Damage, DataType, TransitionId
from xtc._walk import ERRORS, MAX_CHILDREN, WalkFault, children

from xtc._load cimport load32, load64
from xtc._walk cimport MAX_DIMS, WALK_TOO_MANY, Layout, ShapesAt, walk_shapes

cdef enum:
    HEADER = 24
    STACK_SHAPES = 32
    EXTENT_BOUND = 0x7FFFFFF0
    TYPE_UINT64 = 3
    TYPE_CHARSTR = 10
    CONFIGURE = 2
    FIRST_FREQUENT = 10              # SlowUpdate
    LAST_SERVICE = 12

cdef tuple SERVICES = tuple(TransitionId)
cdef tuple DTYPES = tuple(codes.DTYPES[kind] for kind in DataType)
cdef object ndarray = np.ndarray
cdef uint8_t[HEADER] BLANK           # what a Dgram shows that was never opened


class Xtc(NamedTuple):
    """One Xtc of a dgram. `offset` counts from the dgram's first byte; `parent` is an index in the same list,
    or -1.
    """

    src: int
    damage: int
    type: int
    offset: int
    extent: int
    parent: int


class Value(NamedTuple):
    """One field's value: a read-only array, int, float or str. `damage` is that of its ShapesData."""

    names: object
    field: object
    value: object
    damage: int


class Tail(NamedTuple):
    """A file's last dgram, cut off: its byte offset, the bytes there are and the bytes it needs (24 for a cut
    header).
    """

    offset: int
    have: int
    need: int


@cython.no_gc                        # a collector's clear would drop `raw.obj` without releasing the buffer
cdef class Held:
    def __cinit__(self, buffer):
        self.view = memoryview(buffer).toreadonly().cast("B")
        PyObject_GetBuffer(self.view, &self.raw, PyBUF_SIMPLE)
        self.base = <const uint8_t *>self.raw.buf
        self.size = self.raw.len

    def __dealloc__(self):
        PyBuffer_Release(&self.raw)


cdef int open_dgram(Dgram dgram, Held held, size_t start, uint64_t base, object path, object index,
                    object config_source) except -1:
    """Make `dgram` that whose header is at `start` of the held bytes, once checked; raise XtcError."""
    cdef uint32_t extent
    cdef int service
    cdef size_t room = held.size - start if held.size > start else 0
    if room < HEADER:
        raise XtcError("the header of a dgram is cut off", path=path, offset=base + start, expected=HEADER,
                       found=room)
    dgram.held = held
    dgram.start = start
    dgram.at = held.base + start
    dgram.base = base
    dgram.path = path
    dgram.index = index
    extent = load32(dgram.at + 20)
    service = dgram.at[11] & 0xF
    dgram.config_source = None if service == CONFIGURE else config_source
    if extent < 12 or extent > EXTENT_BOUND:
        raise XtcError("the extent of a dgram is out of range", path=path, offset=base + start + 12,
                       inside=(place(dgram),), expected="12..2^31-16", found=extent)
    if <size_t>extent + 12 > room:
        raise XtcError("a dgram is cut off", path=path, offset=base + start, inside=(place(dgram),),
                       expected=extent + 12, found=room)
    if service >= len(SERVICES):
        raise XtcError("the service of a dgram is unknown", path=path, offset=base + start + 8,
                       inside=(place(dgram),), expected="0..12", found=service)
    dgram.size = extent + 12
    return 0


cdef str place(Dgram dgram):
    cdef int service = dgram.at[11] & 0xF
    name = SERVICES[service].name if service < len(SERVICES) else f"service {service}"
    return f"{name} dgram" if dgram.index is None else f"{name} dgram {dgram.index}"


cdef object walk_error(Dgram dgram, int code, uint32_t where, tuple inside):
    return XtcError(ERRORS.get(code, "unknown fault"), path=dgram.path,
                    offset=dgram.base + dgram.start + where, inside=(*inside, place(dgram)))


cdef object take(Dgram dgram, int dtype, int rank, uint32_t offset, const uint32_t *dims,
                 object dtype_object):
    """The value at `offset`, whose extent has been checked."""
    cdef const uint8_t *at = dgram.at + offset
    cdef const void *nul
    cdef float single
    cdef double wide
    cdef int16_t i16
    cdef uint16_t u16
    cdef int32_t i32
    cdef int64_t i64
    if rank and dtype != TYPE_CHARSTR:
        if rank == 1:
            shape = (dims[0],)
        elif rank == 2:
            shape = (dims[0], dims[1])
        elif rank == 3:
            shape = (dims[0], dims[1], dims[2])
        else:
            shape = (dims[0], dims[1], dims[2], dims[3])
        return ndarray(shape, dtype_object, dgram.held.view, dgram.start + offset)
    if dtype == TYPE_CHARSTR:
        nul = memchr(at, 0, dims[0]) if dims[0] else NULL
        length = <const uint8_t *>nul - at if nul != NULL else dims[0]
        return (<const char *>at)[:length].decode("utf-8", "surrogateescape")
    if dtype == 0:
        return at[0]
    if dtype == 1:
        memcpy(&u16, at, 2)
        return u16
    if dtype == 2:
        return load32(at)
    if dtype == 3:
        return load64(at)
    if dtype == 4:
        return <int8_t>at[0]
    if dtype == 5:
        memcpy(&i16, at, 2)
        return i16
    if dtype == 7:
        memcpy(&i64, at, 8)
        return i64
    if dtype == 8:
        memcpy(&single, at, 4)
        return <double>single
    if dtype == 9:
        memcpy(&wide, at, 8)
        return wide
    memcpy(&i32, at, 4)
    return i32


cdef class Dgram:
    """One dgram: a view on the bytes of `buffer` that begin at `offset`.

    `base` is the file offset of the buffer's first byte, `path` and `index` say in errors where it came from;
    `config` is the Config its ShapesData follow (a Configure has its own, whatever is given). The buffer is kept, and must
    not change while the dgram is used. Raises XtcError where the header does not fit its bytes.
    """

    def __cinit__(self):
        self.at = BLANK

    def __init__(self, buffer, size_t offset=0, *, path=None, index=None, uint64_t base=0, config=None):
        if self.held is not None:
            raise TypeError("a Dgram is opened once")
        open_dgram(self, Held(buffer), offset, base, path, index, config)

    @property
    def timestamp(self) -> int:
        """seconds << 32 | nanoseconds, as in the bytes."""
        return load64(self.at)

    @property
    def env(self) -> int:
        """The whole env word."""
        return load32(self.at + 8)

    @property
    def service(self) -> TransitionId:
        """What kind of dgram it is."""
        return SERVICES[self.at[11] & 0xF]

    @property
    def keepraw(self) -> bool:
        """The L0Raw bit of an L1Accept's env."""
        return self.at[10] >> 6 & 1 == 1

    @property
    def src(self) -> int:
        """src of the top Xtc: the DAQ node, often 0."""
        return load32(self.at + 12)

    @property
    def damage(self) -> Damage:
        """Damage of the top Xtc."""
        return Damage(load32(self.at + 16) & 0xFFFF)

    @property
    def contains(self) -> int:
        """The `contains` word of the top Xtc, normally 0 (Parent)."""
        return load32(self.at + 16) >> 16

    @property
    def extent(self) -> int:
        """Bytes of the top Xtc, its header included; `size` is 12 more."""
        return load32(self.at + 20)

    @property
    def offset(self) -> int:
        """Byte offset of the dgram in its file."""
        return self.base + self.start

    @property
    def view(self) -> memoryview:
        """The dgram's bytes, read-only, not copied."""
        return self.held.view[self.start:self.start + self.size]

    @property
    def config(self):
        """The Config in force: its own for a Configure, else what it was given, or None."""
        source = self.config_source
        if source is None and self.at[11] & 0xF == CONFIGURE:
            source = self.config_source = Config(self)
        elif isinstance(source, Dgram):
            source = self.config_source = (<Dgram>source).config
        return source

    def __bytes__(self):
        return bytes(self.view)

    def __repr__(self):
        return (f"<{place(self)}: {self.size} bytes at {self.offset:#x}, time {self.timestamp >> 32}."
                f"{self.timestamp & 0xFFFFFFFF:09d}, damage {int(self.damage):#x}>")

    def xtcs(self) -> list:
        """List every Xtc below the top one in byte order; those in a Parent follow it. A Corrupted Parent is
        not entered.
        """
        try:
            return [Xtc._make(one) for one in children(self.view)]
        except WalkFault as fault:
            raise walk_error(self, fault.code, fault.where, ()) from None

    def shapes_data(self) -> list:
        """List the ShapesData in byte order, those in nested Parents too."""
        cdef int room = STACK_SHAPES
        cdef int count
        cdef uint32_t where = 0
        cdef ShapesAt *found = NULL
        cdef ShapesData one
        while True:
            free(found)
            found = <ShapesAt *>calloc(room, sizeof(ShapesAt))
            if found == NULL:
                raise MemoryError
            count = walk_shapes(self.at, self.size, found, room, &where)
            if count != WALK_TOO_MANY or room >= MAX_CHILDREN:
                break
            room *= 8
        try:
            if count < 0:
                raise walk_error(self, count, where, ())
            out = []
            for i in range(count):
                one = ShapesData.__new__(ShapesData)
                one.dgram = self
                one.found = found[i]
                out.append(one)
            return out
        finally:
            free(found)

    def fields(self) -> list:
        """List every field of every ShapesData as a Value, in byte order, enum dictionaries included.

        Raises XtcError where there is no Config, or a ShapesData follows no Names of it or does not hold what
        they say.
        """
        out = []
        for shapes in self.shapes_data():
            names = shapes.names
            damage = shapes.damage
            out.extend([Value(names, field, value, damage)
                        for field, value in zip(names.fields, shapes.values(), strict=True)])
        return out


cdef class ShapesData:
    """One ShapesData of a dgram, its inner extents checked. Values come out as numpy views, int, float or
    str.
    """

    @property
    def names_id(self) -> int:
        """The NamesId of the Names it follows."""
        return self.found.names_id

    @property
    def damage(self) -> Damage:
        """Its own damage; no bit of it stops it being read."""
        return Damage(self.found.damage)

    @property
    def offset(self) -> int:
        """Byte offset of its Xtc header from the dgram's first byte."""
        return self.found.offset

    @property
    def extent(self) -> int:
        """Bytes of its Xtc."""
        return self.found.extent

    @property
    def shapes(self) -> memoryview:
        """The bytes of its Shapes without the header; empty where there are none."""
        return self._part(self.found.shapes_offset, self.found.shapes_bytes)

    @property
    def data(self) -> memoryview:
        """The bytes of its Data without the header."""
        return self._part(self.found.data_offset, self.found.data_bytes)

    @property
    def names(self):
        """The Names of the dgram's Config that it follows; raises XtcError where there is none."""
        return self._config().names[self.found.names_id]

    def values(self) -> list:
        """The values of all fields in Names order; raises XtcError where one does not fit."""
        cdef Layout layout = self._config().layouts[self.found.names_id]
        cdef int n = layout.n_fields
        cdef int bad = 0
        cdef int rc
        cdef uint32_t *offsets = <uint32_t *>calloc(n + 1, sizeof(uint32_t))
        cdef uint32_t *dims = <uint32_t *>calloc(n + 1, MAX_DIMS * sizeof(uint32_t))
        try:
            if offsets == NULL or dims == NULL:
                raise MemoryError
            rc = layout.fields_at(self.dgram.at, &self.found, offsets, dims, &bad)
            if rc < 0:
                raise self._field_error(rc, self.names.fields[bad])
            return [take(self.dgram, layout.types[i], layout.ranks[i], offsets[i], dims + i * MAX_DIMS,
                         DTYPES[layout.types[i]]) for i in range(n)]
        finally:
            free(offsets)
            free(dims)

    def _config(self):
        config = self.dgram.config
        if config is None:
            raise XtcError("there is no Configure that says what a ShapesData holds", path=self.dgram.path,
                           offset=self.dgram.offset + self.found.offset, inside=(place(self.dgram),),
                           hint="A chunk after the first needs the first one's Config.")
        if self.found.names_id not in config.names:
            raise XtcError("a ShapesData follows no Names of its Configure", path=self.dgram.path,
                           offset=self.dgram.offset + self.found.offset, inside=(place(self.dgram),),
                           found=hex(self.found.names_id))
        return config

    def _field_error(self, int code, field):
        return walk_error(self.dgram, code, self.found.data_offset,
                          (f"field {field.name!r}", f"ShapesData {self.found.names_id:#x}"))

    def _part(self, uint32_t offset, uint32_t size):
        first = self.dgram.start + offset
        return self.dgram.held.view[first:first + size]


cdef class Column:
    """One field of one Names, to be read from dgram after dgram: the short way for loops over events.

    Raises XtcError where the Names has no such field. An enum value is asked for by its label, the part
    before the colon.
    """

    def __init__(self, names, Layout layout not None, str field):
        found = [i for i, one in enumerate(names.fields) if field in (one.name, one.label)]
        if not found:
            known = ", ".join(one.name for one in names.fields[:20])
            raise XtcError("a Names has no such field", expected=known, found=repr(field),
                           inside=(f"Names {names.names_id:#x} {names.detname}.{names.alg.name}",))
        if layout.n_fields != len(names.fields):
            raise ValueError("the layout is of other Names")
        self.i = found[len(found) - 1]
        self.names = names
        self.field = names.fields[self.i]
        self.layout = layout
        self.names_id = names.names_id
        self.dtype = layout.types[self.i]
        self.rank = layout.ranks[self.i]
        self.dtype_object = DTYPES[self.dtype]

    def read(self, Dgram dgram not None):
        """Return the field's value in `dgram`, or None where it holds no such ShapesData; of two the last
        counts.
        """
        cdef ShapesAt[STACK_SHAPES] found
        cdef uint32_t[MAX_DIMS] dims
        cdef uint32_t offset = 0
        cdef uint32_t where = 0
        cdef long long rc
        cdef int k
        cdef int count = walk_shapes(dgram.at, dgram.size, found, STACK_SHAPES, &where)
        if count == WALK_TOO_MANY:
            return self._read_long(dgram)
        if count < 0:
            raise walk_error(dgram, count, where, ())
        for k in range(count - 1, -1, -1):
            if found[k].names_id == self.names_id:
                rc = self.layout.field_at(dgram.at, &found[k], self.i, &offset, dims)
                if rc < 0:
                    raise walk_error(dgram, <int>rc, found[k].data_offset,
                                     (f"field {self.field.name!r}", f"ShapesData {self.names_id:#x}"))
                return take(dgram, self.dtype, self.rank, offset, dims, self.dtype_object)
        return None

    cdef uint64_t number(self, const uint8_t *dgram, const ShapesAt *found, int count) noexcept nogil:
        """The value, a UINT64, in a dgram of `count` ShapesData; 0 where it is not there or cannot be read."""
        cdef uint32_t[MAX_DIMS] dims
        cdef uint32_t offset = 0
        cdef int k
        for k in range(count - 1, -1, -1):
            if found[k].names_id == self.names_id:
                return 0 if self.layout.field_at(dgram, found + k, self.i, &offset, dims) < 0 else load64(dgram + offset)
        return 0

    def _read_long(self, Dgram dgram):
        cdef uint32_t[MAX_DIMS] dims
        cdef uint32_t offset = 0
        cdef ShapesData one
        for one in reversed(dgram.shapes_data()):
            if one.found.names_id == self.names_id:
                rc = self.layout.field_at(dgram.at, &one.found, self.i, &offset, dims)
                if rc < 0:
                    raise one._field_error(rc, self.field)
                return take(dgram, self.dtype, self.rank, offset, dims, self.dtype_object)
        return None


cdef class Scan:
    """Iterate over the dgrams of `buffer`; each Configure's Config is that of the dgrams after it.

    A cut-off last dgram ends the iteration and stands in `tail`; any other fault is an XtcError, and the
    iteration is over.
    """

    def __init__(self, buffer, *, path=None, base=0, config=None):
        self.held = Held(buffer)
        self.cursor = 0
        self.count = 0
        self.tail = None
        self.path = path
        self.base = base
        self.config_source = config

    @property
    def config(self):
        """The Config in force for the next dgram, or None."""
        source = self.config_source
        return source.config if isinstance(source, Dgram) else source

    def __iter__(self):
        return self

    def __next__(self):
        cdef size_t room = self.held.size - self.cursor
        cdef size_t need = HEADER
        cdef uint32_t extent
        cdef const uint8_t *at = self.held.base + self.cursor
        cdef Dgram dgram = Dgram.__new__(Dgram)
        if room == 0 or self.tail is not None:
            raise StopIteration
        if room >= HEADER:
            extent = load32(at + 20)
            if 12 <= extent <= EXTENT_BOUND:
                need = <size_t>extent + 12
        if room < need:
            self.tail = Tail(self.base + self.cursor, room, need)
            raise StopIteration
        try:
            open_dgram(dgram, self.held, self.cursor, self.base, self.path, self.count, self.config_source)
        except XtcError:
            self.cursor = self.held.size
            raise
        if at[11] & 0xF == CONFIGURE:
            self.config_source = dgram
        self.cursor += dgram.size
        self.count += 1
        return dgram

    def index(self, uint64_t[::1] offsets not None, uint64_t[::1] sizes not None, uint64_t[::1] timestamps not None,
              uint8_t[::1] services not None, uint64_t[::1] numbers=None, Column column=None):
        """Pass over L1Accepts and SlowUpdates (services 10 to 12) by their headers, and note where they lie;
        return how many.

        It goes on until the arrays are full, or the next dgram is another one or not whole: iterate over that.
        `offsets` are those of the buffer. `numbers` takes the values of `column`, a UINT64 of rank 0, and 0
        where an event has none that can be read; a dgram of very many ShapesData is left to iteration too.
        """
        cdef ShapesAt[STACK_SHAPES] found
        cdef Py_ssize_t room = min(offsets.shape[0], sizes.shape[0], timestamps.shape[0], services.shape[0])
        cdef Py_ssize_t n = 0
        cdef const uint8_t *base = self.held.base
        cdef size_t end = self.held.size
        cdef size_t cursor = self.cursor
        cdef size_t size
        cdef uint32_t extent
        cdef uint32_t where = 0
        cdef uint8_t service
        cdef const uint8_t *at
        cdef int count
        if column is not None:
            if numbers is None or (column.dtype, column.rank) != (TYPE_UINT64, 0):
                raise ValueError("numbers are read from a UINT64 of rank 0, into an array")
            room = min(room, numbers.shape[0])
        with nogil:
            while n < room:
                if end - cursor < HEADER:
                    break
                at = base + cursor
                extent = load32(at + 20)
                service = at[11] & 0xF
                size = <size_t>extent + 12
                if not 12 <= extent <= EXTENT_BOUND or size > end - cursor or not FIRST_FREQUENT <= service <= LAST_SERVICE:
                    break
                if column is not None:
                    count = walk_shapes(at, size, found, STACK_SHAPES, &where)
                    if count == WALK_TOO_MANY:
                        break
                    numbers[n] = column.number(at, found, count)
                offsets[n] = cursor
                sizes[n] = size
                timestamps[n] = load64(at)
                services[n] = service
                cursor += size
                n += 1
        self.cursor = cursor
        self.count += n
        return n

    def at(self, size_t offset):
        """Return the dgram whose first byte is at `offset` of the buffer, with the Config in force."""
        cdef Dgram dgram = Dgram.__new__(Dgram)
        open_dgram(dgram, self.held, offset, self.base, self.path, None, self.config_source)
        return dgram
