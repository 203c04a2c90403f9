"""The table of events that are being built: entries, chains, a list sorted by pulse id, and an index of it.

It is made once and knows nothing of what an event is for. An entry is free, in one of the chains, or in the list of pending ones, and in the
index from the time it gets its pulse id until it is free again.
"""

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset


cdef bint is_before(const Event *one, const Event *other) noexcept nogil:
    if one.pulse_id != other.pulse_id:
        return one.pulse_id < other.pulse_id
    return one.transition and not other.transition


cdef void empty(Chain *chain) noexcept nogil:
    chain.first = chain.last = NONE
    chain.n = 0


cdef class EventTable:
    """`n_entries` entries, all free."""

    cdef int make(self, int32_t n_entries) except -1:
        """Have room for so many events; MemoryError."""
        cdef int32_t k
        self.n_entries = n_entries
        self.index_mask = 2
        while self.index_mask < 2 * <uint64_t>n_entries:
            self.index_mask *= 2
        self.events = <Event *>calloc(n_entries, sizeof(Event))
        self.index = <int32_t *>calloc(self.index_mask, sizeof(int32_t))
        if self.events == NULL or self.index == NULL:
            raise MemoryError(f"no memory to build {n_entries} events")
        memset(self.index, 0xff, self.index_mask * sizeof(int32_t))
        self.index_mask -= 1
        for k in range(n_entries):
            self.events[k].after = k + 1 if k + 1 < n_entries else NONE
        self.free_entry = 0
        empty(&self.pending)
        empty(&self.ready)
        empty(&self.taken)
        empty(&self.owed)
        empty(&self.done)
        return 0

    def __dealloc__(self):
        free(self.events)
        free(self.index)

    cdef void append(self, Chain *chain, int32_t slot) noexcept nogil:
        self.events[slot].after = NONE
        if chain.first == NONE:
            chain.first = slot
        else:
            self.events[chain.last].after = slot
        chain.last = slot
        chain.n += 1

    cdef int32_t pop(self, Chain *chain) noexcept nogil:
        cdef int32_t slot = chain.first
        chain.first = self.events[slot].after
        chain.n -= 1
        return slot

    cdef void sort_in(self, int32_t slot, int32_t near) noexcept nogil:
        """Put an event among the pending ones; its place is sought from `near`, one of them, or from the nearer end."""
        cdef Event *event = &self.events[slot]
        cdef int32_t before = near if near != NONE else self.pending.last
        cdef int32_t after
        cdef uint64_t first, last
        if near == NONE and before != NONE:
            first = self.events[self.pending.first].pulse_id
            last = self.events[before].pulse_id
            if event.pulse_id < last and (event.pulse_id < first or event.pulse_id - first < last - event.pulse_id):
                before = self.pending.first
        while before != NONE and is_before(event, &self.events[before]):
            before = self.events[before].before
        after = self.pending.first if before == NONE else self.events[before].after
        while after != NONE and is_before(&self.events[after], event):
            before = after
            after = self.events[after].after
        event.before = before
        event.after = after
        if before == NONE:
            self.pending.first = slot
        else:
            self.events[before].after = slot
        if after == NONE:
            self.pending.last = slot
        else:
            self.events[after].before = slot
        self.pending.n += 1

    cdef void unsort(self, int32_t slot) noexcept nogil:
        cdef Event *event = &self.events[slot]
        if event.before == NONE:
            self.pending.first = event.after
        else:
            self.events[event.before].after = event.after
        if event.after == NONE:
            self.pending.last = event.before
        else:
            self.events[event.after].before = event.before
        self.pending.n -= 1

    cdef uint64_t home(self, uint64_t pulse_id, bint transition) noexcept nogil:
        return ((pulse_id * <uint64_t>0x9E3779B97F4A7C15) >> 20 ^ transition) & self.index_mask

    cdef int32_t find(self, uint64_t pulse_id, bint transition) noexcept nogil:
        cdef uint64_t at = self.home(pulse_id, transition)
        cdef int32_t slot
        while True:
            slot = self.index[at]
            if slot == NONE or (self.events[slot].pulse_id == pulse_id and self.events[slot].transition == transition):
                return slot
            at = (at + 1) & self.index_mask

    cdef void index_in(self, int32_t slot) noexcept nogil:
        cdef uint64_t at = self.home(self.events[slot].pulse_id, self.events[slot].transition)
        while self.index[at] != NONE:
            at = (at + 1) & self.index_mask
        self.index[at] = slot

    cdef void index_out(self, int32_t slot) noexcept nogil:
        """Take an event out of the index, and move up those behind it that would not be found any more."""
        cdef uint64_t at = self.home(self.events[slot].pulse_id, self.events[slot].transition)
        cdef uint64_t hole, home
        while self.index[at] != slot:
            at = (at + 1) & self.index_mask
        hole = at
        while True:
            self.index[hole] = NONE
            while True:
                at = (at + 1) & self.index_mask
                if self.index[at] == NONE:
                    return
                home = self.home(self.events[self.index[at]].pulse_id, self.events[self.index[at]].transition)
                if ((at - home) & self.index_mask) >= ((at - hole) & self.index_mask):
                    break
            self.index[hole] = self.index[at]
            hole = at
