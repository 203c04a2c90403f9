"""Walk a dgram's bytes: where its Xtcs, its ShapesData and their fields lie.

It knows headers and extents only; names, files and numpy are the business of others. Nothing here allocates,
takes the GIL or follows a number it has not checked: every cursor stays inside its parent, every parent
inside the dgram, the dgram inside the buffer. The walk is a loop with one small stack of parents instead of a
recursion, so its depth has a bound.

The functions for Python at the end exist for readers that want the whole list at once, and for tests.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from xtc._load cimport load16, load32

cdef enum:
    DGRAM_HEADER = 24
    XTC_HEADER = 12
    SHAPE_BYTES = 20
    CORRUPTED = 1 << 3
    TYPE_PARENT = 0
    TYPE_SHAPES_DATA = 1
    TYPE_SHAPES = 2
    TYPE_DATA = 3
    EXTENT_BOUND = 0x7FFFFFF0        # extents are signed 32-bit in every reader
    NO_PARENT = 0xFFFFFFFF

cdef uint64_t SIZE_BOUND = <uint64_t>1 << 62

cdef uint8_t[13] ELEMENT_BYTES
ELEMENT_BYTES[:] = [1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1, 4, 4]


cdef inline int check_top(const uint8_t *dgram, size_t size, uint32_t *end, uint32_t *where) noexcept nogil:
    """Put the end of the top Xtc in `end`; 0, or a WalkError."""
    cdef uint32_t extent
    where[0] = 0
    if size < DGRAM_HEADER:
        return WALK_DGRAM_SHORT
    extent = load32(dgram + 20)
    if extent < XTC_HEADER:
        where[0] = 12
        return WALK_EXTENT_SMALL
    if extent > EXTENT_BOUND:
        where[0] = 12
        return WALK_EXTENT_LARGE
    if <size_t>extent + 12 > size:
        return WALK_DGRAM_SHORT
    end[0] = extent + 12
    return 0


cdef inline int check_child(const uint8_t *dgram, uint32_t cursor, uint32_t end,
                            uint32_t *extent) noexcept nogil:
    """Put the extent of the child at `cursor` of a parent that ends at `end`; 0, or a WalkError."""
    if end - cursor < XTC_HEADER:
        return WALK_EXTENT_LARGE
    extent[0] = load32(dgram + cursor + 8)
    if extent[0] < XTC_HEADER:
        return WALK_EXTENT_SMALL
    if extent[0] > end - cursor:
        return WALK_EXTENT_LARGE
    return 0


cdef int walk_children(const uint8_t *dgram, size_t size, Child *out, int room,
                       uint32_t *where) noexcept nogil:
    """List every Xtc below the top one in byte order, those in nested Parents after their Parent."""
    cdef uint32_t[MAX_DEPTH + 1] ends
    cdef uint32_t[MAX_DEPTH + 1] parents
    cdef int depth = 0
    cdef int count = 0
    cdef int rc
    cdef uint32_t cursor = DGRAM_HEADER
    cdef uint32_t extent = 0
    cdef Child *child

    rc = check_top(dgram, size, &ends[0], where)
    if rc < 0:
        return rc
    if load16(dgram + 16) & CORRUPTED:
        return 0
    parents[0] = NO_PARENT
    while True:
        while cursor == ends[depth]:
            if depth == 0:
                return count
            depth -= 1
        where[0] = cursor
        rc = check_child(dgram, cursor, ends[depth], &extent)
        if rc < 0:
            return rc
        if count >= room:
            return WALK_TOO_MANY
        child = out + count
        child.src = load32(dgram + cursor)
        child.damage = load16(dgram + cursor + 4)
        child.type = load16(dgram + cursor + 6) & 0x0FFF
        child.offset = cursor
        child.extent = extent
        child.parent = parents[depth]
        if child.type == TYPE_PARENT and not child.damage & CORRUPTED:
            if depth == MAX_DEPTH:
                return WALK_TOO_DEEP
            depth += 1
            ends[depth] = cursor + extent
            parents[depth] = count
            cursor += XTC_HEADER
        else:
            cursor += extent
        count += 1


cdef inline int open_shapes(const uint8_t *dgram, uint32_t start, uint32_t extent, ShapesAt *at,
                            uint32_t *where) noexcept nogil:
    """Fill `at` for the ShapesData at `start`; its Shapes and Data are told apart by type, never by position.
    """
    cdef uint32_t cursor = start + XTC_HEADER
    cdef uint32_t end = start + extent
    cdef uint32_t inner = 0
    cdef uint16_t kind
    cdef int rc
    cdef bint has_data = False
    cdef bint has_shapes = False

    at.names_id = load32(dgram + start) & 0x0FFFFFFF
    at.damage = load16(dgram + start + 4)
    at.pad = 0
    at.offset = start
    at.extent = extent
    at.shapes_offset = 0
    at.shapes_bytes = 0
    at.data_offset = 0
    at.data_bytes = 0
    while cursor < end:
        where[0] = cursor
        rc = check_child(dgram, cursor, end, &inner)
        if rc < 0:
            return rc
        kind = load16(dgram + cursor + 6) & 0x0FFF
        if kind == TYPE_DATA:
            if has_data:
                return WALK_NO_DATA
            has_data = True
            at.data_offset = cursor + XTC_HEADER
            at.data_bytes = inner - XTC_HEADER
        elif kind == TYPE_SHAPES:
            if has_shapes:
                return WALK_SHAPES
            has_shapes = True
            at.shapes_offset = cursor + XTC_HEADER
            at.shapes_bytes = inner - XTC_HEADER
        cursor += inner
    if not has_data:
        where[0] = start
        return WALK_NO_DATA
    return 0


cdef int walk_shapes(const uint8_t *dgram, size_t size, ShapesAt *out, int room,
                     uint32_t *where) noexcept nogil:
    """List every ShapesData in byte order, those in nested Parents too."""
    cdef uint32_t[MAX_DEPTH + 1] ends
    cdef int depth = 0
    cdef int count = 0
    cdef int rc
    cdef uint32_t cursor = DGRAM_HEADER
    cdef uint32_t extent = 0
    cdef uint16_t kind

    rc = check_top(dgram, size, &ends[0], where)
    if rc < 0:
        return rc
    if load16(dgram + 16) & CORRUPTED:
        return 0
    while True:
        while cursor == ends[depth]:
            if depth == 0:
                return count
            depth -= 1
        where[0] = cursor
        rc = check_child(dgram, cursor, ends[depth], &extent)
        if rc < 0:
            return rc
        kind = load16(dgram + cursor + 6) & 0x0FFF
        if kind == TYPE_PARENT and not load16(dgram + cursor + 4) & CORRUPTED:
            if depth == MAX_DEPTH:
                return WALK_TOO_DEEP
            depth += 1
            ends[depth] = cursor + extent
            cursor += XTC_HEADER
            continue
        if kind == TYPE_SHAPES_DATA:
            if count >= room:
                return WALK_TOO_MANY
            rc = open_shapes(dgram, cursor, extent, out + count, where)
            if rc < 0:
                return rc
            count += 1
        cursor += extent


cdef class Layout:
    """How the fields of one Names follow each other in Data.

    Built from anything with a `fields` sequence whose items have a `dtype` (0..12) and a `rank` (0..4), as
    `xtc.Names` has.
    """

    def __cinit__(self, names):
        cdef int i = 0
        fields = tuple(names.fields)
        cdef int n = len(fields)
        self.n_fields = 0
        self.n_arrays = 0
        self.types = <uint8_t *>calloc(n + 1, 1)
        self.ranks = <uint8_t *>calloc(n + 1, 1)
        self.sizes = <uint8_t *>calloc(n + 1, 1)
        self.array_index = <int *>calloc(n + 1, sizeof(int))
        if not self.types or not self.ranks or not self.sizes or not self.array_index:
            raise MemoryError
        for field in fields:
            dtype = int(field.dtype)
            rank = int(field.rank)
            if not 0 <= dtype < 13 or not 0 <= rank < MAX_DIMS:
                raise ValueError(f"field {i}: DataType {dtype} (0..12) or rank {rank} (0..4) out of range")
            self.types[i] = dtype
            self.ranks[i] = rank
            self.sizes[i] = ELEMENT_BYTES[dtype]
            self.array_index[i] = self.n_arrays if rank else -1
            self.n_arrays += 1 if rank else 0
            i += 1
        self.n_fields = n

    def __dealloc__(self):
        free(self.types)
        free(self.ranks)
        free(self.sizes)
        free(self.array_index)

    cdef long long field_at(self, const uint8_t *dgram, const ShapesAt *at, int i, uint32_t *offset,
                            uint32_t *dims) noexcept nogil:
        """Put offset and dims of field `i`; its bytes, or a WalkError. Fields before it are measured, and
        checked, on the way.
        """
        cdef uint64_t cursor = 0
        cdef long long size
        cdef int k
        if i < 0 or i >= self.n_fields:
            return WALK_FIELD
        for k in range(i):
            size = field_bytes(self, dgram, at, k, dims)
            if size < 0:
                return size
            cursor += size
            if cursor > at.data_bytes:
                return WALK_FIELD
        size = field_bytes(self, dgram, at, i, dims)
        if size < 0:
            return size
        if cursor + size > at.data_bytes:
            return WALK_FIELD
        offset[0] = at.data_offset + <uint32_t>cursor
        return size

    cdef int fields_at(self, const uint8_t *dgram, const ShapesAt *at, uint32_t *offsets, uint32_t *dims,
                       int *bad) noexcept nogil:
        """Put offsets and dims of all fields; their number, or a WalkError with the field in `bad`."""
        cdef uint64_t cursor = 0
        cdef long long size
        cdef int k
        for k in range(self.n_fields):
            bad[0] = k
            size = field_bytes(self, dgram, at, k, dims + k * MAX_DIMS)
            if size < 0:
                return <int>size
            offsets[k] = at.data_offset + <uint32_t>cursor
            cursor += size
            if cursor > at.data_bytes:
                return WALK_FIELD
        return self.n_fields


cdef inline long long field_bytes(Layout layout, const uint8_t *dgram, const ShapesAt *at, int i,
                                  uint32_t *dims) noexcept nogil:
    """Bytes of field `i` by its Shape, or a WalkError. A zero dim makes zero bytes, but the other dims must
    still multiply.
    """
    cdef int rank = layout.ranks[i]
    cdef uint64_t total = layout.sizes[i]
    cdef uint32_t at_shape
    cdef bint empty = False
    cdef int k
    memset(dims, 0, MAX_DIMS * sizeof(uint32_t))
    if rank == 0:
        return <long long>total
    at_shape = <uint32_t>layout.array_index[i] * SHAPE_BYTES
    if <uint64_t>layout.array_index[i] * SHAPE_BYTES + SHAPE_BYTES > at.shapes_bytes:
        return WALK_SHAPES
    memcpy(dims, dgram + at.shapes_offset + at_shape, rank * sizeof(uint32_t))
    for k in range(rank):
        if dims[k] == 0:
            empty = True
        elif total > SIZE_BOUND / dims[k]:
            return WALK_FIELD
        else:
            total *= dims[k]
    return 0 if empty else <long long>total


MAX_CHILDREN = 1 << 20
ERRORS = {
    WALK_DGRAM_SHORT: "the dgram is longer than its buffer",
    WALK_EXTENT_SMALL: "an extent is below the 12 bytes of its own header",
    WALK_EXTENT_LARGE: "an Xtc ends beyond what encloses it",
    WALK_TOO_DEEP: "Parents are nested more than 8 deep",
    WALK_TOO_MANY: "a dgram holds more than 2^20 Xtcs",
    WALK_NO_DATA: "a ShapesData has no Data, or two",
    WALK_SHAPES: "a ShapesData has two Shapes, or too few bytes of them",
    WALK_FIELD: "a field reaches beyond its Data",
}


class WalkFault(ValueError):
    """Bytes that do not walk. Fields: `code` (a WalkError), `where` (byte offset from the dgram's first
    byte).

    The layer that knows file and dgram turns it into an `XtcError`.
    """

    def __init__(self, code: int, where: int) -> None:
        super().__init__(code, where)
        self.code = code
        self.where = where

    def __str__(self) -> str:
        return f"{ERRORS.get(self.code, 'unknown fault')} (at byte {self.where} of the dgram)"


cdef void *listed(const uint8_t *dgram, size_t size, bint every_xtc, int *count) except NULL:
    """A list, for the caller to free, of the Child of every Xtc or the ShapesAt of every ShapesData; raise WalkFault."""
    cdef size_t item_bytes = sizeof(Child) if every_xtc else sizeof(ShapesAt)
    cdef int room = 64
    cdef uint32_t where = 0
    cdef void *found = NULL
    while True:
        free(found)
        found = calloc(room, item_bytes)
        if not found:
            raise MemoryError
        with nogil:
            if every_xtc:
                count[0] = walk_children(dgram, size, <Child *>found, room, &where)
            else:
                count[0] = walk_shapes(dgram, size, <ShapesAt *>found, room, &where)
        if count[0] != WALK_TOO_MANY or room >= MAX_CHILDREN:
            break
        room *= 4
    if count[0] < 0:
        free(found)
        raise WalkFault(count[0], where)
    return found


def children(const uint8_t[::1] dgram not None):
    """List the Xtcs of one dgram as (src, damage, type, offset, extent, parent index or -1); raise WalkFault.
    """
    cdef int count = 0
    cdef Child *found = <Child *>listed(&dgram[0] if dgram.shape[0] else NULL, dgram.shape[0], True, &count)
    try:
        return [(found[i].src, found[i].damage, found[i].type, found[i].offset, found[i].extent,
                 -1 if found[i].parent == NO_PARENT else found[i].parent) for i in range(count)]
    finally:
        free(found)


def shapes(const uint8_t[::1] dgram not None):
    """List the ShapesData of one dgram as (names_id, damage, offset, extent, shapes_offset, shapes_bytes,
    data_offset, data_bytes); raise WalkFault.
    """
    cdef int count = 0
    cdef ShapesAt *found = <ShapesAt *>listed(&dgram[0] if dgram.shape[0] else NULL, dgram.shape[0], False, &count)
    try:
        return [(found[i].names_id, found[i].damage, found[i].offset, found[i].extent, found[i].shapes_offset,
                 found[i].shapes_bytes, found[i].data_offset, found[i].data_bytes) for i in range(count)]
    finally:
        free(found)
