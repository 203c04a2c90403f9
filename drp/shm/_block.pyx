"""The result block of `_layout.pxd`: its descriptor checked before use, and an encoder and decoder for
Python.

A descriptor comes from a process that may have gone mad. It is copied to private memory first; then
`check_block` walks it once, with every count, index, length and product compared with a limit before it
is used, and says in one number what is wrong. Nothing here knows of rings, dgrams or files.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memset

from drp.shm._layout cimport (
    BLOCK_HEADER_BYTES,
    BLOCK_WORDS,
    MAX_ADDS,
    MAX_DESC_BYTES,
    MAX_DROPS,
    MAX_L1_DESC_BYTES,
)
from xtc._load cimport load16, load32, load64

import struct

cdef uint64_t SIZE_BOUND = <uint64_t>1 << 62         # as of xtc's walk

CHARSTR = 10
MAX_RANK = 4
SIZES = (1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1, 4, 4)    # bytes of one element, by DataType
TEXTS = {
    BLOCK_OK: "nothing wrong",
    BLOCK_SHORT: "the descriptor is shorter than its header",
    BLOCK_DESC_LIMIT: "the descriptor is larger than the limit",
    BLOCK_DAMAGE: "damage bits above bit 11 are set",
    BLOCK_USER: "the user damage value is above 15",
    BLOCK_FLAGS: "unknown flags are set",
    BLOCK_DROPS: "more dropped NamesIds than the limit",
    BLOCK_ADDS: "more added ShapesData than the limit",
    BLOCK_DROP_ID: "a dropped NamesId has more than 28 bits",
    BLOCK_CUT: "the descriptor ends before what its counts promise",
    BLOCK_INDEX: "an added ShapesData names none of the declared Names",
    BLOCK_ARRAYS: "the number of arrays is not that of the declared Names",
    BLOCK_SHAPE: "a shape comes to more bytes than a dgram can hold",
    BLOCK_DATA_BYTES: "the bytes of an added ShapesData are not those of its shapes",
    BLOCK_PADDING: "the descriptor has another length than its contents",
    BLOCK_TOTAL: "the block has another length than its descriptor says",
    BLOCK_NO_WORDS: "trigger words are announced, and the last added ShapesData is not the trigger's",
    BLOCK_TEXT: "a text field holds no NUL",
}


def describe(code: int) -> str:
    """Say what a code of `check_block` means."""
    return TEXTS.get(code, f"unknown block error {code}")


class BlockError(ValueError):
    """A result block that cannot be trusted: `code` says why, `wrong` which drop or added ShapesData
    it is about.
    """

    def __init__(self, code: int, wrong: int = 0) -> None:
        super().__init__(code, wrong)
        self.code = code
        self.wrong = wrong

    def __str__(self) -> str:
        return f"result block: {describe(self.code)} (item {self.wrong})"


cdef class NamesTable:
    """What `check_block` and the recorder know of the declared Names.

    `names` are objects with `names_id` and `fields`, each field with `dtype` and `rank` (as `xtc.Names`),
    in the order of declaration. `trigger` is the names_index of the trigger words, -1 where there are
    none. Raises ValueError for a rank or a data type the format does not have, or a `trigger` that is
    none of them.
    """

    def __cinit__(self, names=(), trigger: int = -1):
        names = tuple(names)
        if not -1 <= trigger < len(names):
            raise ValueError(f"trigger names_index {trigger} with {len(names)} Names")
        cdef size_t n_fields = sum(len(item.fields) for item in names)
        self.slots = <NamesSlot *>calloc(len(names) + 1, sizeof(NamesSlot))
        self.fields = <FieldSlot *>calloc(n_fields + 1, sizeof(FieldSlot))
        if self.slots == NULL or self.fields == NULL:
            raise MemoryError
        self.n_names = len(names)
        self.trigger = trigger
        cdef uint32_t first = 0
        cdef uint32_t i
        for i, item in enumerate(names):
            self.slots[i].names_id = item.names_id
            self.slots[i].first = first
            self.slots[i].n_fields = len(item.fields)
            for field in item.fields:
                dtype = int(field.dtype)
                if not 0 <= dtype < len(SIZES):
                    raise ValueError(f"field {field.name!r}: no data type {dtype}")
                if not 0 <= field.rank <= MAX_RANK:
                    raise ValueError(f"field {field.name!r}: rank {field.rank} is outside 0..{MAX_RANK}")
                if dtype == CHARSTR and field.rank != 1:
                    raise ValueError(f"field {field.name!r}: text has rank 1, not {field.rank}")
                self.fields[first].size = SIZES[dtype]
                self.fields[first].rank = field.rank
                self.fields[first].text = dtype == CHARSTR
                self.slots[i].n_arrays += field.rank > 0
                self.slots[i].has_text |= dtype == CHARSTR
                first += 1

    def __dealloc__(self):
        free(self.slots)
        free(self.fields)

    def __len__(self) -> int:
        return self.n_names

    def names_ids(self) -> tuple[int, ...]:
        """Return the NamesIds in the order of declaration."""
        return tuple(self.slots[i].names_id for i in range(self.n_names))


cdef int check_texts(
    const NamesSlot *slot, const FieldSlot *fields, const uint8_t *shapes, const uint8_t *data
) noexcept nogil:
    """Look for the NUL of each text field; the shapes were checked."""
    cdef uint32_t i
    cdef int k
    cdef int array = 0
    cdef uint64_t size
    for i in range(slot.n_fields):
        size = fields[i].size
        if fields[i].rank:
            for k in range(fields[i].rank):
                size *= load32(shapes + SHAPE_BYTES * array + 4 * k)
            array += 1
        if fields[i].text and (size == 0 or memchr(data, 0, size) == NULL):
            return BLOCK_TEXT
        data += size
    return BLOCK_OK


cdef long long shapes_come_to(
    const NamesSlot *slot, const FieldSlot *fields, const uint8_t *shapes
) noexcept nogil:
    """Bytes of the values, or -1 where they are more than a dgram can hold.

    A zero dim makes zero bytes, but the other dims must still multiply, or no reader can make an array of them.
    """
    cdef uint64_t total = 0
    cdef uint64_t size
    cdef uint32_t i, dim
    cdef int k
    cdef bint empty
    for i in range(slot.n_fields):
        size = fields[i].size
        empty = False
        for k in range(fields[i].rank):
            dim = load32(shapes + 4 * k)
            if dim == 0:
                empty = True
            elif size > SIZE_BOUND // dim:
                return -1
            else:
                size *= dim
        if fields[i].rank:
            shapes += SHAPE_BYTES
        total += 0 if empty else size
        if total > MAX_DGRAM_BYTES:
            return -1
    return total


cdef int check_block(
    const uint8_t *desc, uint32_t desc_bytes, uint64_t block_bytes, uint32_t max_desc_bytes,
    const uint8_t *data, NamesTable table, EditInfo *info,
) noexcept nogil:
    """Check a descriptor and fill `info`; returns a BlockFault. `desc_bytes` and `block_bytes` 0 is
    the empty edit.
    """
    cdef uint64_t at
    cdef uint64_t data_bytes = 0
    cdef uint32_t i, n_arrays
    cdef uint32_t index = 0
    cdef long long size
    cdef const NamesSlot *slot
    cdef const FieldSlot *fields
    cdef int code
    memset(info, 0, sizeof(EditInfo))
    if desc_bytes == 0 and block_bytes == 0:
        return BLOCK_OK
    if desc_bytes < BLOCK_HEADER_BYTES:
        return BLOCK_SHORT
    if desc_bytes > max_desc_bytes:
        return BLOCK_DESC_LIMIT
    info.n_drop = load32(desc)
    info.n_add = load32(desc + 4)
    info.damage = load16(desc + 8)
    info.user = desc[10]
    info.flags = desc[11]
    info.json_bytes = load32(desc + 12)
    if info.damage & 0xf000:
        return BLOCK_DAMAGE
    if info.user > 15:
        return BLOCK_USER
    if info.flags & ~<uint8_t>BLOCK_WORDS:
        return BLOCK_FLAGS
    if info.n_drop > MAX_DROPS:
        return BLOCK_DROPS
    if info.n_add > MAX_ADDS:
        return BLOCK_ADDS
    at = BLOCK_HEADER_BYTES + ((<uint64_t>info.json_bytes + 3) & ~<uint64_t>3)
    if at + 4 * <uint64_t>info.n_drop > desc_bytes:
        return BLOCK_CUT
    info.drops_at = at
    for i in range(info.n_drop):
        if load32(desc + at) >> 28:
            info.wrong = i
            return BLOCK_DROP_ID
        at += 4
    info.adds_at = at
    for i in range(info.n_add):
        info.wrong = i
        if at + ADD_HEADER_BYTES > desc_bytes:
            return BLOCK_CUT
        index = load32(desc + at)
        n_arrays = load32(desc + at + 4)
        data_bytes = load64(desc + at + 8)
        at += ADD_HEADER_BYTES
        if index >= table.n_names:
            return BLOCK_INDEX
        slot = table.slots + index
        fields = table.fields + slot.first
        if n_arrays != slot.n_arrays:
            return BLOCK_ARRAYS
        if at + SHAPE_BYTES * <uint64_t>n_arrays > desc_bytes:
            return BLOCK_CUT
        size = shapes_come_to(slot, fields, desc + at)
        if size < 0:
            return BLOCK_SHAPE
        if <uint64_t>size != data_bytes:
            return BLOCK_DATA_BYTES
        if desc_bytes + info.data_bytes + data_bytes > block_bytes:
            return BLOCK_TOTAL
        if data != NULL and slot.has_text:
            code = check_texts(slot, fields, desc + at, data + info.data_bytes)
            if code != BLOCK_OK:
                return code
        info.header_bytes += SHAPESDATA_HEADERS + SHAPE_BYTES * <uint64_t>n_arrays
        info.data_bytes += data_bytes
        at += SHAPE_BYTES * <uint64_t>n_arrays
    info.wrong = info.n_add
    if ((at + 7) & ~<uint64_t>7) != desc_bytes:
        return BLOCK_PADDING
    if desc_bytes + info.data_bytes != block_bytes:
        return BLOCK_TOTAL
    if info.flags & BLOCK_WORDS:
        if info.n_add == 0 or table.trigger < 0 or index != <uint32_t>table.trigger:
            return BLOCK_NO_WORDS
        info.words_bytes = data_bytes
    info.wrong = 0
    return BLOCK_OK


def check(desc, block_bytes: int, table: NamesTable, data=None, max_desc_bytes: int = MAX_DESC_BYTES) -> dict:
    """Check a descriptor as drp does; return what it says (`EditInfo` as a dict), raise BlockError
    where it is wrong.

    `data`: the block's bytes after the descriptor, for the check of texts.
    """
    cdef const uint8_t[::1] view = memoryview(desc).cast("B") if len(desc) else memoryview(b"\0")
    cdef const uint8_t[::1] values
    cdef const uint8_t *values_at = NULL
    cdef EditInfo info
    if data is not None:
        values = memoryview(data if len(data) else b"\0").cast("B")
        if len(desc) + len(data) < block_bytes:
            raise BlockError(BLOCK_TOTAL)
        values_at = &values[0]
    cdef int code = check_block(&view[0], len(desc), block_bytes, max_desc_bytes, values_at, table, &info)
    if code != BLOCK_OK:
        raise BlockError(code, info.wrong)
    return info


def encode_block(
    *, drops=(), adds=(), damage: int = 0, user: int = 0, words: bool = False, json: bytes = b""
) -> tuple[bytes, bytes]:
    """Encode a result block; returns (descriptor, data).

    `adds`: (names_index, shapes, data) each, `shapes` one tuple of dims for each field of rank > 0,
    `data` the values in field order, C order, little-endian, nothing between. Nothing is checked here, so
    that tests can encode nonsense.
    """
    flags = BLOCK_WORDS if words else 0
    parts = [struct.pack("<IIHBBI", len(drops), len(adds), damage, user, flags, len(json))]
    parts.append(json + bytes((4 - len(json) % 4) % 4))
    parts.append(struct.pack(f"<{len(drops)}I", *drops))
    for index, shapes, data in adds:
        parts.append(struct.pack("<IIQ", index, len(shapes), len(data)))
        for shape in shapes:
            parts.append(struct.pack("<5I", *(tuple(shape) + (0,) * (5 - len(shape)))))
    desc = b"".join(parts)
    desc += bytes((8 - len(desc) % 8) % 8)
    return desc, b"".join(bytes(data) for _, _, data in adds)


def decode_block(desc, data, table: NamesTable) -> dict:
    """Check and decode a block; the inverse of `encode_block`, as a dict of its keyword arguments, the data of
    adds as slices of `data` (of a memoryview they are views). Raises BlockError.
    """
    desc = bytes(desc)
    info = check(desc, len(desc) + len(data), table, data)
    at = info["adds_at"]
    begin = 0
    adds = []
    for _ in range(info["n_add"]):
        index, n_arrays, size = struct.unpack_from("<IIQ", desc, at)
        at += ADD_HEADER_BYTES
        ranks = [table.fields[table.slots[index].first + i].rank for i in range(table.slots[index].n_fields)]
        shapes = []
        for rank in (rank for rank in ranks if rank):
            shapes.append(struct.unpack_from(f"<{rank}I", desc, at))
            at += SHAPE_BYTES
        adds.append((index, tuple(shapes), data[begin:begin + size]))
        begin += size
    return {
        "drops": struct.unpack_from(f"<{info['n_drop']}I", desc, info["drops_at"]),
        "adds": tuple(adds),
        "damage": info["damage"],
        "user": info["user"],
        "words": bool(info["flags"] & BLOCK_WORDS),
        "json": desc[BLOCK_HEADER_BYTES:BLOCK_HEADER_BYTES + info["json_bytes"]],
    }
