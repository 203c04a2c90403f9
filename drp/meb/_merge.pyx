"""One dgram from those of several contributors, as psana sees streams side by side.

What each contributor has below its top Xtc stands one after the other below one top Xtc. NamesIds say which Names a ShapesData belongs to; they
are unique in a stream only, so a contributor whose node number (bits 8 to 19) another one has too is given a free one, in its Configure and
in all that follows. Payloads whose extents do not add up are left out, and DroppedContribution says so.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from xtc._load cimport load16, load32
from xtc._walk cimport WALK_TOO_MANY, Child, walk_children

cdef enum:
    DGRAM_BYTES = 24
    XTC_BYTES = 12
    MAX_EXTENT = 0x7fffffff
    TYPE_SHAPESDATA = 1
    TYPE_NAMES = 4
    N_NODES = 4096
    NODE_SHIFT = 8
    CORRUPTED = 8
    DROPPED = 16
    USER = 0xf000
    FIRST_ROOM = 256


cdef class Nodes:
    """Which node number each of a contributor's is shown as: `changes` {node: shown}, the others as they are."""

    cdef uint16_t[N_NODES] shown
    cdef readonly bint changed

    def __init__(self, changes=()):
        cdef int i
        for i in range(N_NODES):
            self.shown[i] = i
        for node, other in dict(changes).items():
            if not (0 <= node < N_NODES and 0 <= other < N_NODES):
                raise ValueError(f"node {node} as {other}: there are {N_NODES}")
            self.shown[<int>node] = other
            self.changed = True


cdef class Scratch:
    """Room for a list of children, as much as the largest dgram needed."""

    cdef Child *children
    cdef int room

    def __dealloc__(self):
        free(self.children)

    cdef int walk(self, const uint8_t *dgram, size_t size) except? -99:
        """How many children there are; below 0: they do not add up."""
        cdef uint32_t where = 0
        cdef int n = WALK_TOO_MANY
        cdef Child *place
        while n == WALK_TOO_MANY and (not self.room or <size_t>self.room <= size // XTC_BYTES):
            place = <Child *>realloc(self.children, max(4 * self.room, <int>FIRST_ROOM) * sizeof(Child))
            if place == NULL:
                raise MemoryError
            self.children = place
            self.room = max(4 * self.room, <int>FIRST_ROOM)
            n = walk_children(dgram, size, self.children, self.room, &where)
        return n if n != WALK_TOO_MANY else walk_children(dgram, size, self.children, self.room, &where)


def nodes_of(configure) -> set:
    """Return the node numbers that the Names of a Configure bear; empty where it cannot be read."""
    cdef const uint8_t[::1] view = memoryview(configure).cast("B")
    cdef Scratch scratch = Scratch()
    cdef int i, n
    if view.shape[0] < DGRAM_BYTES:
        return set()
    n = scratch.walk(&view[0], view.shape[0])
    return {(scratch.children[i].src >> NODE_SHIFT) & (N_NODES - 1) for i in range(n) if scratch.children[i].type == TYPE_NAMES}


def merge(parts, size_t hole=0, uint16_t damage=0) -> bytearray:
    """Return `hole` zeros and one dgram of `parts` [(dgram, Nodes)], at least one: time and env of the first, damage of all, and `damage`."""
    cdef const uint8_t[::1] view
    cdef Scratch scratch = Scratch()
    cdef Nodes nodes
    cdef bytearray out
    cdef uint8_t *to
    cdef uint8_t *at
    cdef uint32_t src, extent
    cdef uint16_t own
    cdef uint64_t size = DGRAM_BYTES
    cdef size_t payload
    cdef int i, n
    taken = []
    for dgram, nodes in parts:
        view = memoryview(dgram).cast("B")
        if view.shape[0] < DGRAM_BYTES:
            damage |= DROPPED
            continue
        own = load16(&view[0] + 16)
        damage |= own & ~<uint16_t>(USER | CORRUPTED)
        if not damage & USER:
            damage |= own & USER
        extent = load32(&view[0] + 20)
        payload = view.shape[0] - DGRAM_BYTES
        if own & CORRUPTED or extent < XTC_BYTES or extent - XTC_BYTES != payload or size + payload > MAX_EXTENT:
            damage |= DROPPED
            payload = 0
        elif scratch.walk(&view[0], view.shape[0]) < 0:
            damage |= DROPPED
            payload = 0
        size += payload
        taken.append((view, nodes, payload))
    if not taken:
        raise ValueError("there is no dgram to merge")
    out = bytearray(hole + size)
    to = <uint8_t *><char *>out + hole
    view = taken[0][0]
    memcpy(to, &view[0], DGRAM_BYTES)
    memcpy(to + 16, &damage, 2)
    extent = <uint32_t>(size - DGRAM_BYTES + XTC_BYTES)
    memcpy(to + 20, &extent, 4)
    at = to + DGRAM_BYTES
    for dgram, nodes, count in taken:
        view = dgram
        payload = count
        if payload == 0:
            continue
        with nogil:
            memcpy(at, &view[0] + DGRAM_BYTES, payload)
        if nodes.changed:
            n = scratch.walk(&view[0], view.shape[0])
            for i in range(n):
                if scratch.children[i].type == TYPE_SHAPESDATA or scratch.children[i].type == TYPE_NAMES:
                    src = scratch.children[i].src
                    src = (src & ~<uint32_t>((N_NODES - 1) << NODE_SHIFT)) | (
                        <uint32_t>nodes.shown[(src >> NODE_SHIFT) & (N_NODES - 1)] << NODE_SHIFT)
                    memcpy(at + scratch.children[i].offset - DGRAM_BYTES, &src, 4)
        at += payload
    return out


def split(dgrams):
    """Yield the dgrams that stand one after the other; ValueError where the last is cut off."""
    cdef const uint8_t[::1] view = dgrams
    cdef size_t at = 0
    cdef size_t left
    while at < <size_t>view.shape[0]:
        left = view.shape[0] - at
        if left < DGRAM_BYTES or load32(&view[at] + 20) < XTC_BYTES or left < DGRAM_BYTES - XTC_BYTES + load32(&view[at] + 20):
            raise ValueError(f"{left} bytes at {at} are no dgram")
        yield dgrams[at:at + DGRAM_BYTES - XTC_BYTES + load32(&view[at] + 20)]
        at += DGRAM_BYTES - XTC_BYTES + load32(&view[at] + 20)
