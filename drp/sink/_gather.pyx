"""A recorded L1Accept as a gather list: kept ranges of the raw dgram, headers drp writes, arrays where
the script left them.

Nothing is copied to build the list, and nothing is allocated once the scratch has the size the largest
dgram needs. The size is known before the first range is put, so what does not fit is never half made.
Nothing here knows of files or rings.

The record: the raw dgram's 24 bytes with damage and extent rewritten; its children in their order,
without the dropped ShapesData, a Parent that lost one with a smaller extent (an emptied one stays); the
added ShapesData; `drpinfo`.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from drp.shm._block cimport (
    ADD_HEADER_BYTES,
    MAX_DGRAM_BYTES,
    SHAPE_BYTES,
    SHAPESDATA_HEADERS,
    BLOCK_OK,
    FieldSlot,
    NamesSlot,
    check_block,
)
from drp.shm._layout cimport MAX_ADDS, MAX_DESC_BYTES, MAX_DROPS
from xtc._load cimport load16, load32, load64
from xtc._walk cimport WALK_TOO_MANY, walk_children

from drp.shm._block import BlockError

cdef enum:
    TYPE_PARENT = 0
    TYPE_SHAPESDATA = 1
    TYPE_SHAPES = 2
    TYPE_DATA = 3
    TYPE_NAMES = 4
    TRUNCATED = 1
    CORRUPTED = 8
    ID_MASK = 0x0fffffff
    FIRST_ROOM = 256
    FEW_DROPS = 8                    # up to here looking at each is faster than a search
    SLACK_BYTES = 256                # dgram header, drpinfo


cdef inline void store16(uint8_t *to, uint16_t value) noexcept nogil:
    memcpy(to, &value, 2)


cdef inline void store32(uint8_t *to, uint32_t value) noexcept nogil:
    memcpy(to, &value, 4)


cdef inline void store64(uint8_t *to, uint64_t value) noexcept nogil:
    memcpy(to, &value, 8)


cdef inline void put_xtc(
    uint8_t *to, uint32_t src, uint16_t damage, uint16_t type, uint32_t extent
) noexcept nogil:
    store32(to, src)
    store16(to + 4, damage)
    store16(to + 6, type)
    store32(to + 8, extent)


cdef int compare_ids(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const uint32_t *>a)[0]
    cdef uint32_t y = (<const uint32_t *>b)[0]
    return (x > y) - (x < y)


cdef inline bint is_dropped(const uint32_t *drops, int n, uint32_t names_id) noexcept nogil:
    """Look `names_id` up in a sorted list."""
    cdef int low = 0
    cdef int high = n
    cdef int middle
    if n <= FEW_DROPS:
        for low in range(n):
            if drops[low] == names_id:
                return True
        return False
    while low < high:
        middle = (low + high) >> 1
        if drops[middle] < names_id:
            low = middle + 1
        else:
            high = middle
    return low < n and drops[low] == names_id


cdef class Gather:
    """Scratch and settings of one recorder.

    `info_id`: NamesId of drpinfo, None to leave it out. `stripped`: NamesIds whose incoming ShapesData
    are never kept (an incoming drpinfo, smdinfo of a replayed file), `names`: those whose Names are not
    kept in a Configure; at most 16 each. Not to be used by two threads at once.
    """

    def __cinit__(self, info_id=None, stripped=(), names=()):
        stripped, names = tuple(stripped), tuple(sorted(names))
        if max(len(stripped), len(names)) > MAX_STRIPPED:
            raise ValueError(f"{len(stripped)} NamesIds, {len(names)} Names to strip, at most {MAX_STRIPPED}")
        self.n_names = len(names)
        for i, names_id in enumerate(names):
            self.names[i] = names_id
        self.info_id = NO_NAMES if info_id is None else info_id
        self.n_stripped = len(stripped)
        for i, names_id in enumerate(stripped):
            self.stripped[i] = names_id
        self.drops = <uint32_t *>malloc((MAX_DROPS + MAX_STRIPPED) * sizeof(uint32_t))
        if self.drops == NULL or self.grow(0) != 0:
            raise MemoryError

    def __dealloc__(self):
        free(self.children)
        free(self.removed)
        free(self.drops)
        free(self.head)
        free(self.ranges)

    cdef int grow(self, size_t size) noexcept nogil:
        """Make room for four times the children, at most for those that `size` bytes can hold; 0, or
        GATHER_NO_MEMORY.
        """
        cdef size_t room = FIRST_ROOM
        cdef void *place
        if self.room:
            room = min(4 * <size_t>self.room, size // XTC_HEADER_BYTES + 1)
        # Headers of adds are at most the descriptor again, and 36 bytes each; a Parent's 12 are the only
        # others.
        self.head_room = MAX_DESC_BYTES + MAX_ADDS * SHAPESDATA_HEADERS
        self.head_room += room * XTC_HEADER_BYTES + SLACK_BYTES
        place = realloc(self.children, room * sizeof(Child))
        if place == NULL:
            return GATHER_NO_MEMORY
        self.children = <Child *>place
        place = realloc(self.removed, room * sizeof(uint32_t))
        if place == NULL:
            return GATHER_NO_MEMORY
        self.removed = <uint32_t *>place
        place = realloc(self.head, self.head_room)
        if place == NULL:
            return GATHER_NO_MEMORY
        self.head = <uint8_t *>place
        place = realloc(self.ranges, (2 * room + 2 * MAX_ADDS + 4) * sizeof(Range))
        if place == NULL:
            return GATHER_NO_MEMORY
        self.ranges = <Range *>place
        self.room = room
        return 0

    cdef int sort_drops(self, const uint8_t *desc, const EditInfo *edit) noexcept nogil:
        """Collect what is to be left out; returns how many NamesIds that are."""
        cdef int n = self.n_stripped
        memcpy(self.drops, self.stripped, n * sizeof(uint32_t))
        if edit != NULL and edit.n_drop:
            memcpy(self.drops + n, desc + edit.drops_at, edit.n_drop * sizeof(uint32_t))
            n += edit.n_drop
        if n > FEW_DROPS:
            qsort(self.drops, n, sizeof(uint32_t), compare_ids)
        return n

    cdef uint64_t mark(self, int n_children, int n_drops) noexcept nogil:
        """Note in `removed` what each child loses, a dropped one all of itself; returns the sum."""
        cdef Child *child
        cdef uint32_t parent
        cdef uint64_t total = 0
        cdef int i
        memset(self.removed, 0, n_children * sizeof(uint32_t))
        if n_drops + self.n_names == 0:
            return 0
        for i in range(n_children):
            child = self.children + i
            if child.type == TYPE_SHAPESDATA:
                if not is_dropped(self.drops, n_drops, child.src & ID_MASK):
                    continue
            elif child.type != TYPE_NAMES or not is_dropped(self.names, self.n_names, child.src & ID_MASK):
                continue
            total += child.extent
            self.removed[i] = child.extent
            parent = child.parent
            while parent != NO_NAMES:
                self.removed[parent] += child.extent
                parent = self.children[parent].parent
        return total

    cdef inline void put_range(self, const uint8_t *at, size_t n) noexcept nogil:
        cdef Range *last = self.ranges + self.n_ranges - 1
        if n == 0:
            return
        if self.n_ranges and last.at + last.n == at:
            last.n += n
            return
        self.ranges[self.n_ranges].at = at
        self.ranges[self.n_ranges].n = n
        self.n_ranges += 1

    cdef inline uint8_t *put_head(self, size_t n) noexcept nogil:
        cdef uint8_t *at = self.head_at
        self.head_at += n
        self.put_range(at, n)
        return at

    cdef void put_kept(self, const uint8_t *raw, int n_children) noexcept nogil:
        cdef Child *child
        cdef uint32_t end = 0                            # everything before it is dealt with
        cdef int i
        for i in range(n_children):
            child = self.children + i
            if child.offset < end:
                continue
            if self.removed[i] == 0:
                self.put_range(raw + child.offset, child.extent)
                end = child.offset + child.extent
            elif child.type == TYPE_PARENT:
                put_xtc(
                    self.put_head(XTC_HEADER_BYTES), child.src, child.damage, load16(raw + child.offset + 6),
                    child.extent - self.removed[i],
                )

    cdef void put_added(
        self, const uint8_t *desc, const EditInfo *edit, const uint8_t *data, NamesTable table
    ) noexcept nogil:
        cdef const uint8_t *at = desc + edit.adds_at
        cdef const NamesSlot *slot
        cdef const FieldSlot *fields
        cdef uint64_t data_bytes
        cdef uint32_t shapes_bytes, i, k
        cdef uint8_t *to
        for i in range(edit.n_add):
            slot = table.slots + load32(at)
            fields = table.fields + slot.first
            data_bytes = load64(at + 8)
            at += ADD_HEADER_BYTES
            shapes_bytes = SHAPE_BYTES * slot.n_arrays
            to = self.put_head(SHAPESDATA_HEADERS + shapes_bytes)
            put_xtc(to, slot.names_id, 0, TYPE_SHAPESDATA, SHAPESDATA_HEADERS + shapes_bytes + data_bytes)
            put_xtc(to + 12, 0, 0, TYPE_SHAPES, XTC_HEADER_BYTES + shapes_bytes)
            to += 24
            memset(to, 0, shapes_bytes)
            for k in range(slot.n_fields):
                if fields[k].rank:                       # dims a field does not have stay 0, whatever came
                    memcpy(to, at, 4 * fields[k].rank)
                    to += SHAPE_BYTES
                    at += SHAPE_BYTES
            put_xtc(to, 0, 0, TYPE_DATA, XTC_HEADER_BYTES + data_bytes)
            self.put_range(data, data_bytes)
            data += data_bytes

    cdef int gather(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        NamesTable table, uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound,
        bint whole,
    ) noexcept nogil:
        cdef int result = GATHER_OK
        cdef uint64_t payload, kept, added
        cdef uint32_t where
        cdef int n_children
        cdef uint8_t *to
        cdef uint32_t info_bytes = 0 if self.info_id == NO_NAMES else DRPINFO_BYTES
        self.n_ranges = 0
        self.size = 0
        self.head_at = self.head
        if size < DGRAM_HEADER_BYTES:
            return GATHER_MALFORMED
        n_children = walk_children(raw, size, self.children, self.room, &where)
        while n_children == WALK_TOO_MANY and <size_t>self.room <= size // XTC_HEADER_BYTES:
            if self.grow(size) != 0:
                return GATHER_NO_MEMORY
            n_children = walk_children(raw, size, self.children, self.room, &where)
        self.head_at = self.head
        payload = <uint64_t>load32(raw + 20) - XTC_HEADER_BYTES
        damage |= load16(raw + 16) | (<uint16_t>cause << 12)
        if n_children < 0:
            result = GATHER_MALFORMED
            damage |= CORRUPTED
            n_children = 0
        if payload > size - DGRAM_HEADER_BYTES:
            payload = size - DGRAM_HEADER_BYTES
        kept = payload - self.mark(n_children, self.sort_drops(desc, <const EditInfo *>NULL if whole else edit))
        added = 0 if edit == NULL else edit.header_bytes + edit.data_bytes
        self.size = DGRAM_HEADER_BYTES + kept + added + info_bytes
        if edit != NULL and edit.n_add and self.size > min(bound, <uint64_t>MAX_DGRAM_BYTES):
            result = GATHER_TRUNCATED
            edit = NULL
            added = 0
            damage |= TRUNCATED | (CAUSE_TRUNCATED << 12)
            cause = CAUSE_TRUNCATED
            kept = payload - self.mark(n_children, self.sort_drops(desc, NULL))
        if edit != NULL:
            damage |= edit.damage | (<uint16_t>edit.user << 12)
        self.size = DGRAM_HEADER_BYTES + kept + added + info_bytes
        to = self.put_head(DGRAM_HEADER_BYTES)
        memcpy(to, raw, DGRAM_HEADER_BYTES)
        store16(to + 16, damage)
        store32(to + 20, self.size - XTC_HEADER_BYTES)
        if kept == payload:
            self.put_range(raw + DGRAM_HEADER_BYTES, payload)
        else:
            self.put_kept(raw, n_children)
        if edit != NULL and edit.n_add:
            self.put_added(desc, edit, data, table)
        if info_bytes:
            to = self.put_head(DRPINFO_BYTES)
            put_xtc(to, self.info_id, 0, TYPE_SHAPESDATA, DRPINFO_BYTES)
            put_xtc(to + 12, 0, 0, TYPE_SHAPES, XTC_HEADER_BYTES)
            put_xtc(to + 24, 0, 0, TYPE_DATA, XTC_HEADER_BYTES + 11)
            store64(to + 36, pulse_id)
            to[44] = cause
            store16(to + 45, worker if cause else NO_WORKER)
        return result

    cdef void copy(self, uint8_t *to) noexcept nogil:
        """Copy the ranges of the last `gather` to `size` bytes at `to`."""
        cdef int i
        for i in range(self.n_ranges):
            memcpy(to, self.ranges[i].at, self.ranges[i].n)
            to += self.ranges[i].n

    def assemble(
        self, raw, *, table: NamesTable = NamesTable(), desc=b"", data=b"", damage: int = 0, cause: int = 0,
        worker: int = NO_WORKER, pulse_id: int = 0, bound: int = MAX_DGRAM_BYTES, whole: bool = False,
    ) -> tuple[bytes, int]:
        """Return the recorded dgram and what came of it (GATHER_OK, _TRUNCATED, _MALFORMED).

        `raw` is a whole dgram, `desc` and `data` a result block, whose drops are ignored where `whole`; raises BlockError where that is wrong,
        ValueError for a `raw` shorter than its header.
        """
        cdef const uint8_t[::1] raw_view = memoryview(raw).cast("B")
        cdef const uint8_t[::1] desc_view = memoryview(desc or b"\0").cast("B")
        cdef const uint8_t[::1] data_view = memoryview(data if len(data) else b"\0").cast("B")
        cdef EditInfo edit
        cdef int code
        if raw_view.shape[0] < DGRAM_HEADER_BYTES:
            raise ValueError(f"a dgram of {raw_view.shape[0]} bytes")
        code = check_block(
            &desc_view[0], len(desc), len(desc) + len(data), MAX_DESC_BYTES, &data_view[0], table, &edit
        )
        if code != BLOCK_OK:
            raise BlockError(code, edit.wrong)
        code = self.gather(
            &raw_view[0], raw_view.shape[0], &desc_view[0], &edit if len(desc) else NULL, &data_view[0],
            table, damage, cause, worker, pulse_id, bound, whole,
        )
        if code < 0:
            raise MemoryError
        cdef bytearray record = bytearray(self.size)
        self.copy(<uint8_t *>record)
        return bytes(record), code


cdef void put_smd(
    uint8_t *to, const uint8_t *raw, uint16_t damage, uint32_t smdinfo_id, uint64_t offset, uint64_t size
) noexcept nogil:
    """Write the 76 bytes: time and env of `raw`, src 0, then one smdinfo ShapesData."""
    memcpy(to, raw, 12)
    put_xtc(to + 12, 0, damage, TYPE_PARENT, SMD_BYTES - 12)
    put_xtc(to + 24, smdinfo_id, 0, TYPE_SHAPESDATA, SMD_BYTES - 24)
    put_xtc(to + 36, 0, 0, TYPE_SHAPES, XTC_HEADER_BYTES)
    put_xtc(to + 48, 0, 0, TYPE_DATA, XTC_HEADER_BYTES + 16)
    store64(to + 60, offset)
    store64(to + 68, size)
