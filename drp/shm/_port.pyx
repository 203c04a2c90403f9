"""drp's end of one worker's rings and arena.

The worker may write anything anywhere in its segment at any time. So all that drp decides by lies in private memory (what was sent,
how far it was answered, which blocks are kept), an answer is copied out once before it is looked at, and every number in it is
checked before it is used. All functions here run under the flow's lock.

Blocks of the arena are freed in the order in which they stand there, though they may be recorded in another: `ends` and `released` are a
ring of the blocks kept, and arena_tail moves up over those released at its front. So one block that is kept long holds up those after it,
and more may be held up than there are slots: where the ring is full the caller copies the block out, and passes it instead of keeping it.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from drp.shm._layout cimport (
    ENTRY_BYTES, HEADER_BYTES, InEntry, LAYOUT_COOKIE, LAYOUT_VERSION, OutEntry, RING_DEPTH, STATE_WAITS_ARENA, WorkerHeader)
from drp.shm._sys cimport sys_add32, sys_fence, sys_futex_wake, sys_load32, sys_load64, sys_store64

from drp.shm._segment import create

cdef enum:
    ARENA_ALIGN = 8                  # what a worker asks of its arena


def describe(int code) -> str:
    """Return in words what a PeekError, or a worker's answer that has no BlockFault, is about."""
    return {
        PEEK_HEAD: "its count of answers moved back, or by more than it was sent",
        PEEK_SEQ: "it answered something else than what came next",
        PEEK_BLOCK: "its result does not lie in its arena",
        -100: "its answer has an unknown status",
        -101: "the descriptor of its result is too long",
        -102: "no memory for the descriptor of its result",
    }.get(code, f"fault {code}")


cdef class Port:
    """The rings and arena of one incarnation of a worker. `n_blocks` is how many results may wait to be recorded."""

    def __cinit__(self, int worker, int incarnation, uint64_t arena_bytes, uint32_t n_blocks):
        cdef PortState *p = &self.state
        if arena_bytes == 0 or arena_bytes % ARENA_ALIGN:
            raise ValueError(f"an arena of {arena_bytes} bytes: it must be a multiple of {ARENA_ALIGN}")
        if n_blocks == 0:
            raise ValueError("no result block could wait to be recorded")
        self.worker = worker
        self.incarnation = incarnation
        self.segment = create(HEADER_BYTES + 2 * RING_DEPTH * ENTRY_BYTES + arena_bytes)
        p.header = <WorkerHeader *>self.segment.base
        p.entries = <InEntry *>(self.segment.base + HEADER_BYTES)
        p.answers = <OutEntry *>(self.segment.base + HEADER_BYTES + RING_DEPTH * ENTRY_BYTES)
        p.arena = self.segment.base + HEADER_BYTES + 2 * RING_DEPTH * ENTRY_BYTES
        p.arena_bytes = arena_bytes
        p.n_blocks = n_blocks
        p.ends = <uint64_t *>calloc(n_blocks, sizeof(uint64_t))
        p.released = <uint8_t *>calloc(n_blocks, 1)
        if p.ends == NULL or p.released == NULL:
            raise MemoryError(f"no memory for the block table of worker {worker}")
        p.worker = worker
        p.slow = -1
        p.credit = 2
        p.header.cookie = LAYOUT_COOKIE
        p.header.version = LAYOUT_VERSION
        p.header.arena_bytes = arena_bytes
        p.header.worker = worker
        p.header.incarnation = incarnation

    def __dealloc__(self):
        free(self.state.ends)
        free(self.state.released)

    @property
    def in_flight(self) -> int:
        """Entries sent and not answered."""
        return self.state.pushed - self.state.answered

    @property
    def events(self) -> int:
        """L1Accepts among them."""
        return self.state.events

    @property
    def credit(self) -> int:
        """How many L1Accepts may be among them, 2 to MAX_CREDIT."""
        return self.state.credit

    @property
    def unrecorded(self) -> int:
        """Results in the arena that are still needed."""
        return self.state.next_block - self.state.first_block

    @property
    def rescued(self) -> int:
        """Sleeps of the worker that ended by their limit though there was an entry to take."""
        return self.state.header.rescued

    @property
    def counts(self) -> tuple[int, int]:
        """L1Accepts done well and failed."""
        return self.state.n_done, self.state.n_failed

    def take_unmerged(self) -> int:
        """Return how many L1Accepts were answered since reduced arrays were last handed over, and begin to count again.

        Call it while the worker has no event in flight.
        """
        n = self.state.unmerged
        self.state.unmerged = 0
        return n

    @property
    def service_ns(self) -> float:
        """Running median of the time from taking an event to answering it."""
        return self.state.service_ns


cdef int port_room(const PortState *p) noexcept nogil:
    return <int>(RING_DEPTH - (p.pushed - p.answered))


cdef void port_push(PortState *p, const InEntry *entry, int32_t slot) noexcept nogil:
    """Send one entry. The caller has looked for room, and holds a reference on a transition's slot for it."""
    cdef uint32_t i = p.pushed % RING_DEPTH
    p.entries[i] = entry[0]
    p.sent[i].seq = entry.seq
    p.sent[i].slot = slot
    p.sent[i].service = entry.service
    p.sent[i].flags = entry.flags
    p.pushed += 1
    sys_store64(&p.header.in_head, p.pushed)
    p.rung = 1


cdef void port_ring(PortState *p) noexcept nogil:
    """Wake the worker if it sleeps, after something was pushed."""
    p.rung = 0
    sys_fence()
    if sys_load32(&p.header.asleep):
        sys_add32(&p.header.bell_word, 1)
        sys_futex_wake(&p.header.bell_word)


cdef void port_ring_arena(PortState *p) noexcept nogil:
    """Wake the worker if it sleeps until arena is freed; one that waits for its next entry is left alone."""
    p.freed = 0
    sys_fence()
    if sys_load32(&p.header.asleep) and sys_load32(&p.header.state) == STATE_WAITS_ARENA:
        sys_add32(&p.header.bell_word, 1)
        sys_futex_wake(&p.header.bell_word)


cdef int port_peek(PortState *p, OutEntry *answer) noexcept nogil:
    """Copy out the next answer and check what concerns rings and arena: a PeekError."""
    cdef uint64_t head = sys_load64(&p.header.out_head)
    cdef uint64_t position, offset
    if head == p.answered:
        return PEEK_NONE
    if head < p.answered or head > p.pushed:
        return PEEK_HEAD
    answer[0] = p.answers[p.answered % RING_DEPTH]
    if answer.seq != p.sent[p.answered % RING_DEPTH].seq:
        return PEEK_SEQ
    if answer.block_bytes:
        position = answer.position
        offset = position % p.arena_bytes
        if (position < p.block_end or answer.block_bytes > p.arena_bytes
                or position > p.block_end + p.arena_bytes
                or position + answer.block_bytes > p.tail + p.arena_bytes
                or offset + answer.block_bytes > p.arena_bytes or answer.desc_bytes > answer.block_bytes):
            return PEEK_BLOCK
    return PEEK_ONE


cdef void port_accept(PortState *p, const OutEntry *answer) noexcept nogil:
    """Count the answer that was just peeked at as given."""
    p.answered += 1
    if answer.block_bytes:
        p.block_end = answer.position + answer.block_bytes


cdef bint port_keep_block(PortState *p, uint64_t *block) noexcept nogil:
    """Keep the block just accepted until it is released, by the number it gets; 0: there is no room for one more."""
    if p.next_block - p.first_block == p.n_blocks:
        return 0
    block[0] = p.next_block
    p.ends[p.next_block % p.n_blocks] = p.block_end
    p.released[p.next_block % p.n_blocks] = 0
    p.next_block += 1
    return 1


cdef void port_pass_block(PortState *p) noexcept nogil:
    """Let go of the block just accepted: it is free with the last one kept, or at once."""
    if p.first_block != p.next_block:
        p.ends[(p.next_block - 1) % p.n_blocks] = p.block_end
        return
    p.tail = p.block_end
    sys_store64(&p.header.arena_tail, p.tail)
    p.freed = 1


cdef void port_release_block(PortState *p, uint64_t block) noexcept nogil:
    """Free a block, and the arena up to the first block that is still kept."""
    p.released[block % p.n_blocks] = 1
    while p.first_block != p.next_block and p.released[p.first_block % p.n_blocks]:
        p.tail = p.ends[p.first_block % p.n_blocks]
        p.first_block += 1
    sys_store64(&p.header.arena_tail, p.tail)
    p.freed = 1


cdef void port_look(PortState *p, uint64_t now_ns) noexcept nogil:
    """Note when the worker was first seen to have taken what it has in hand. What cannot be is not believed: its clock would stand still."""
    cdef uint64_t taken = sys_load64(&p.header.taken)
    if p.taken < taken <= p.pushed:
        p.taken = taken
        p.taken_ns = now_ns
