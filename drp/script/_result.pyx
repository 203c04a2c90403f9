"""The result of one dgram in the making: a list of edits, with the bytes of what is added already in the arena.

The layout is that of a result block in `drp.shm._layout`. Data are written straight to where drp will read them: room for the descriptor
is kept before them, as much as the last one took or this one has by then, and the block begins where the descriptor then does; data move
only when that was too small, or when they would run over the end of the arena.

What does not fit the bound of its dgram, or the arena, makes the whole result an overflow: nothing is ever half written.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from drp.script._link cimport Link
from drp.script.errors import ScriptError
from drp.shm._layout cimport (
    BLOCK_HEADER_BYTES,
    MAX_ADDS,
    MAX_DESC_BYTES,
    MAX_DROPS,
    MAX_L1_DESC_BYTES,
    STATUS_OVERFLOW,
)

cdef enum:
    SHAPE_BYTES = 20
    ADD_BYTES = 16
    L1_ACCEPT = 12
    FIRST_RESERVE = 64


cdef class Result:
    """Edits of the dgram that `link` has in hand. Belongs to one link; cleared by every `finish`."""

    def __cinit__(self, Link link not None):
        self.link = link
        self.drops_room = 64
        self.drops = <uint32_t *>malloc(self.drops_room * sizeof(uint32_t))
        self.adds_room = 1024
        self.desc = <uint8_t *>malloc(self.adds_room)
        if not self.drops or not self.desc:
            raise MemoryError
        self.reserved = FIRST_RESERVE
        self.clear()

    def __dealloc__(self):
        free(self.drops)
        free(self.desc)

    cdef void clear(self) noexcept:
        self.n_drop = 0
        self.n_add = 0
        self.adds_bytes = 0
        self.data_bytes = 0
        self.base = NULL
        self.damage = 0
        self.user = 0
        self.block_flags = 0
        self.overflowed = False
        self.text = None

    cdef uint8_t *add(self, uint32_t names_index, uint32_t n_arrays, uint64_t n, uint32_t **shapes) except? NULL:
        cdef uint32_t size = ADD_BYTES + SHAPE_BYTES * n_arrays
        cdef uint8_t *head
        cdef uint8_t *at
        cdef void *grown
        if self.overflowed:
            return NULL
        if self.n_add >= MAX_ADDS:
            raise ScriptError("too much was added to one dgram", expected=f"at most {MAX_ADDS} times add_data")
        if self.data_bytes + n > self.link.bound:
            self.overflowed = True
            return NULL
        if self.adds_bytes + size > self.adds_room:
            grown = realloc(self.desc, 2 * self.adds_room + size)
            if grown == NULL:
                raise MemoryError
            self.desc = <uint8_t *>grown
            self.adds_room = 2 * self.adds_room + size
        if self.base == NULL:
            self.reserved = max(self.reserved, self.desc_bytes(size))
        self.base = self.link.room(self.reserved + self.data_bytes if self.base else 0, self.reserved + self.data_bytes + n)
        if self.base == NULL:
            self.overflowed = True
            return NULL
        head = self.desc + self.adds_bytes
        (<uint32_t *>head)[0] = names_index
        (<uint32_t *>head)[1] = n_arrays
        memcpy(head + 8, &n, 8)
        memset(head + ADD_BYTES, 0, SHAPE_BYTES * n_arrays)
        shapes[0] = <uint32_t *>(head + ADD_BYTES)
        at = self.base + self.reserved + self.data_bytes
        self.adds_bytes += size
        self.data_bytes += n
        self.n_add += 1
        return at

    cdef size_t desc_bytes(self, uint32_t more) noexcept:
        """How long the descriptor is, with `more` bytes of adds."""
        cdef size_t text = len(<bytes>self.text) if self.text else 0
        return (BLOCK_HEADER_BYTES + (text + 3) // 4 * 4 + 4 * <size_t>self.n_drop + self.adds_bytes + more + 7) // 8 * 8

    cdef int drop(self, const uint32_t *ids, uint32_t n) except -1:
        cdef void *grown
        if self.n_drop + n > MAX_DROPS:
            raise ScriptError("too much was removed from one dgram", expected=f"at most {MAX_DROPS} ShapesData")
        if self.n_drop + n > self.drops_room:
            grown = realloc(self.drops, 2 * (self.n_drop + n) * sizeof(uint32_t))
            if grown == NULL:
                raise MemoryError
            self.drops = <uint32_t *>grown
            self.drops_room = 2 * (self.n_drop + n)
        memcpy(self.drops + self.n_drop, ids, n * sizeof(uint32_t))
        self.n_drop += n
        return 0

    cdef int finish(self, uint32_t status) except -1:
        cdef uint32_t json_bytes = 0
        cdef uint32_t json_room = 0
        cdef size_t desc_bytes
        cdef size_t skip = 0
        cdef uint8_t *at
        cdef bytes text
        try:
            if self.overflowed:
                return self.link.answer(STATUS_OVERFLOW, 0, 0, 0)
            if not (self.n_add or self.n_drop or self.damage or self.user or self.text):
                return self.link.answer(status, 0, 0, 0)
            if self.text:
                text = self.text
                json_bytes = <uint32_t>len(text)
                json_room = (json_bytes + 3) // 4 * 4
            desc_bytes = self.desc_bytes(0)
            if desc_bytes > <size_t>(MAX_L1_DESC_BYTES if self.link.service == L1_ACCEPT and not json_bytes else MAX_DESC_BYTES):
                return self.link.answer(STATUS_OVERFLOW, 0, 0, 0)
            if self.base and desc_bytes <= self.reserved:
                skip = self.reserved - desc_bytes
                at = self.base + skip
            else:
                at = self.link.room(self.reserved + self.data_bytes if self.base else 0, desc_bytes + self.data_bytes)
                if at == NULL:
                    return self.link.answer(STATUS_OVERFLOW, 0, 0, 0)
                if self.data_bytes:
                    memmove(at + desc_bytes, at + self.reserved, self.data_bytes)
            self.write_desc(at, desc_bytes, json_bytes, json_room)
            self.link.answer(status, skip, <uint32_t>(desc_bytes + self.data_bytes), <uint32_t>desc_bytes)
            if self.n_add and not json_bytes:
                self.reserved = max(desc_bytes, <size_t>FIRST_RESERVE)
            return 0
        finally:
            self.clear()

    cdef int write_desc(self, uint8_t *at, size_t desc_bytes, uint32_t json_bytes, uint32_t json_room) except -1:
        cdef size_t used
        cdef const char *text
        (<uint32_t *>at)[0] = self.n_drop
        (<uint32_t *>at)[1] = self.n_add
        (<uint16_t *>at)[4] = self.damage
        at[10] = self.user
        at[11] = self.block_flags
        (<uint32_t *>at)[3] = json_bytes
        used = BLOCK_HEADER_BYTES
        if json_bytes:
            text = self.text
            memcpy(at + used, text, json_bytes)
            memset(at + used + json_bytes, 0, json_room - json_bytes)
            used += json_room
        memcpy(at + used, self.drops, 4 * <size_t>self.n_drop)
        used += 4 * <size_t>self.n_drop
        memcpy(at + used, self.desc, self.adds_bytes)
        used += self.adds_bytes
        memset(at + used, 0, desc_bytes - used)
        return 0
