"""Who contributes to events, what of theirs has no verdict yet, and the verdicts that they have not been given.

A contribution that waits for its verdict lies in a block; there are as many for each contributor as its window allows, and verdicts that were not
collected count against it too.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from cpython.bytes cimport PyBytes_FromStringAndSize

from drp.core._event_table cimport NONE, Event

from drp.core.building import DEFAULT_WINDOW, MAX_EVENTS, MAX_STRIDE
from drp.core.wire import MAX_DRPS

cdef enum:
    N_GROUPS = 16


cdef class Contributors(EventTable):
    """`contributors` {id: number of its readout group}, each with `window` blocks; `max_events` entries of the table, 0: what they can need."""

    def __cinit__(
        self, contributors, uint64_t timeout_ns, uint64_t transition_timeout_ns=0, uint32_t window=DEFAULT_WINDOW, int32_t max_events=0,
    ):
        cdef int i, group
        self.n = len(contributors)
        if not 1 <= self.n <= MAX_DRPS:
            raise ValueError(f"{self.n} contributors: a partition has 1 to {MAX_DRPS}")
        if not 1 <= window <= MAX_EVENTS or not 0 <= max_events <= MAX_EVENTS:
            raise ValueError(f"a window of {window} and {max_events} events: there may be {MAX_EVENTS}")
        self.window = window
        self.make(max_events or min(MAX_EVENTS, 2 * self.n * window))
        self.blocks_of = <int32_t *>calloc(<size_t>self.n_entries * self.n, sizeof(int32_t))
        self.blocks = <Block *>calloc(<size_t>self.n * window, sizeof(Block))
        self.who = <Contributor *>calloc(self.n, sizeof(Contributor))
        if self.blocks_of == NULL or self.blocks == NULL or self.who == NULL:
            raise MemoryError(f"no memory to build {self.n_entries} events of {self.n} contributors")
        for i in range(MAX_CONTRIBUTORS):
            self.ids[i] = NONE
        for i, (number, group) in enumerate(contributors.items()):
            if not 0 <= number < MAX_DRPS or not 0 <= group < N_GROUPS:
                raise ValueError(f"contributor {number} of readout group {group}: ids are below {MAX_DRPS}, groups below {N_GROUPS}")
            self.ids[number] = i
            self.who[i].id = number
            self.who[i].group = group
            self.who[i].hint = NONE
            self.who[i].stride = CONTRIBUTION_BYTES
            self.who[i].out = <Verdict *>calloc(window, sizeof(Verdict))
            if self.who[i].out == NULL:
                raise MemoryError(f"no memory for {window} verdicts")
            self.chain_blocks(i)
            self.make_room(&self.who[i], CONTRIBUTION_BYTES)
    def __dealloc__(self):
        cdef int i
        if self.who != NULL:
            for i in range(self.n):
                free(self.who[i].data)
                free(self.who[i].out)
        free(self.blocks_of)
        free(self.blocks)
        free(self.who)

    def declare(self, int contributor, uint32_t stride) -> None:
        """Give out rows of `stride` bytes for this contributor from now on; shorter contributions are filled up with zeros, longer ones cut."""
        cdef Contributor *who = &self.who[self.position(contributor)]
        if not CONTRIBUTION_BYTES <= stride <= MAX_STRIDE:
            raise ValueError(f"a contribution of {stride} bytes: there may be {CONTRIBUTION_BYTES} to {MAX_STRIDE}")
        self.make_room(who, stride)
        who.stride = stride

    def verdicts(self, int contributor) -> bytes:
        """Return, once, the verdicts for this contributor: wire.VERDICT records, in the order in which they were made."""
        cdef Contributor *who = &self.who[self.position(contributor)]
        if who.n_out == 0:
            return b""
        out = PyBytes_FromStringAndSize(<char *>who.out, who.n_out * sizeof(Verdict))
        who.n_out = 0
        return out

    cdef int position(self, int contributor) except -2:
        if not 0 <= contributor < MAX_CONTRIBUTORS or self.ids[contributor] == NONE:
            raise KeyError(f"there is no contributor {contributor}")
        return self.ids[contributor]

    cdef void chain_blocks(self, int i) noexcept nogil:
        cdef uint32_t k
        for k in range(self.window):
            self.blocks[i * self.window + k].next = <int32_t>k + 1 if k + 1 < self.window else NONE
        self.who[i].free_block = 0

    cdef int make_room(self, Contributor *who, uint32_t stride) except -1:
        """Have each block of a contributor hold `stride` bytes."""
        cdef uint8_t *data
        cdef uint32_t k
        if stride <= who.room:
            return 0
        data = <uint8_t *>calloc(self.window, stride)
        if data == NULL:
            raise MemoryError(f"no memory for {self.window} contributions of {stride} bytes")
        for k in range(self.window if who.data != NULL else 0):
            memcpy(data + <size_t>k * stride, who.data + <size_t>k * who.room, who.room)
        free(who.data)
        who.data = data
        who.room = stride
        return 0

    cdef int32_t keep(self, int i, const uint8_t *at, uint32_t stride, uint16_t own) noexcept nogil:
        """Copy a contribution into a block of its own; there is one, for there are as many as the window allows."""
        cdef Contributor *who = &self.who[i]
        cdef int32_t block = who.free_block
        cdef Block *b = &self.blocks[<size_t>i * self.window + block]
        cdef uint8_t *to = who.data + <size_t>block * who.room
        cdef uint32_t n = stride if stride < who.room else who.room
        who.free_block = b.next
        who.in_use += 1
        b.next = NONE
        b.era = who.era
        b.damage = own
        memcpy(to, at, n)
        if n < who.room:
            memset(to + n, 0, who.room - n)
        return block

    cdef void answer(self, Contributor *who, uint64_t seq, uint64_t pulse_id, uint32_t result, uint16_t damage, uint16_t flags) noexcept nogil:
        cdef Verdict *out = &who.out[who.n_out]
        who.n_out += 1
        out.seq = seq
        out.pulse_id = pulse_id
        out.result = result
        out.damage = damage
        out.flags = flags

    cdef int32_t settle_block(self, int i, int32_t block, const Event *event, uint16_t flags) noexcept nogil:
        """Answer the contribution in a block and free that; returns the next one in the chain."""
        cdef Contributor *who = &self.who[i]
        cdef Block *b = &self.blocks[<size_t>i * self.window + block]
        cdef int32_t after = b.next
        cdef uint64_t seq
        if b.era == who.era:
            memcpy(&seq, who.data + <size_t>block * who.room, 8)
            self.answer(who, seq, event.pulse_id, event.result, event.damage | b.damage, flags)
        else:
            self.n_undelivered += 1
        b.next = who.free_block
        who.free_block = block
        who.in_use -= 1
        return after
