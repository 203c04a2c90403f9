"""Where every dgram is between the source and the record, in source order.

Each dgram handed in gets the next number, and one item in a ring that holds as many as there are slots, so a number never meets another's
item. Five numbers part the road: what is below `record_next` is recorded and its slot free, below `judged_next` may be recorded, below
`retire_next` may be judged, below `dispatch_next` was given to workers, below `submit_next` has come from the source. Without a judge
`judged_next` goes along with `retire_next`. An item is touched by its stage only, under the flow's lock; recorder and judge read those in
their own stretches without it.

Slots of transitions are counted: the road holds one reference, each entry in flight another, each event the SlowUpdate in force for it, and
the environment those that a replacement must be shown. Slots of events have one owner and are not counted.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from drp.shm._pebble cimport (
    BATCH, BEGIN_RUN, BEGIN_STEP, CONFIGURE, DISABLE, ENABLE, END_RUN, END_STEP, L1_ACCEPT, SLOW_UPDATE, UNCONFIGURE,
    Pebble, Slot, SlotBatch)


cdef class Order:
    """The items of all dgrams on their way, and the free slots."""

    def __cinit__(self, Pebble pebble, *args, **kwargs):
        cdef uint32_t i
        cdef uint32_t n = pebble.n_events + pebble.n_transitions
        self.pebble = pebble
        self.slots = pebble.slots
        self.n_items = n
        self.items = <Item *>calloc(n, sizeof(Item))
        self.free_events = <int32_t *>calloc(pebble.n_events, sizeof(int32_t))
        self.free_transitions = <int32_t *>calloc(pebble.n_transitions, sizeof(int32_t))
        if self.items == NULL or self.free_events == NULL or self.free_transitions == NULL:
            raise MemoryError(f"no memory for the tables of {n} slots")
        for i in range(pebble.n_events):
            self.free_events[i] = pebble.n_events - 1 - i
        for i in range(pebble.n_transitions):
            self.free_transitions[i] = n - 1 - i
        self.n_free_events = pebble.n_events
        self.n_free_transitions = pebble.n_transitions
        self.record_next = self.judged_next = self.retire_next = self.dispatch_next = self.submit_next = 1
        self.slow = -1

    def __dealloc__(self):
        cdef uint32_t i
        if self.items != NULL:
            for i in range(self.n_items):
                self.free_item(&self.items[i])
        free(self.items)
        free(self.free_events)
        free(self.free_transitions)

    cdef Item *item(self, uint64_t seq) noexcept nogil:
        return &self.items[seq % self.n_items]

    cdef void lend(self, SlotBatch batch) noexcept nogil:
        """Fill the batch up with free slots."""
        while batch.n_events < BATCH and self.n_free_events:
            self.n_free_events -= 1
            batch.events[batch.n_events] = self.free_events[self.n_free_events]
            batch.n_events += 1
        while batch.n_transitions < BATCH and self.n_free_transitions:
            self.n_free_transitions -= 1
            batch.transitions[batch.n_transitions] = self.free_transitions[self.n_free_transitions]
            batch.n_transitions += 1

    cdef uint64_t submit(self, SlotBatch batch, uint64_t now_ns) noexcept nogil:
        """Take what the source put, in order; returns how many dgrams that were."""
        cdef int i
        cdef int32_t slot
        cdef Slot *s
        cdef Item *item
        for i in range(batch.n_filled):
            slot = batch.filled[i]
            s = &self.slots[slot]
            s.seq = self.submit_next
            s.filled_ns = now_ns
            s.slow = -1
            item = self.item(s.seq)
            item.seq = s.seq
            item.slot = slot
            item.service = s.service
            item.state = ITEM_FILLED
            item.cause = 0
            item.ruling = RULED_NONE
            item.ruled_damage = 0
            item.result = 0
            item.worker = 0xffff
            if s.service == L1_ACCEPT:
                s.slow = self.slow
                self.hold(self.slow)
            else:
                s.refs = 1
                if s.service == SLOW_UPDATE:
                    self.hold(slot)
                    self.drop(self.slow)
                    self.slow = slot
                elif s.service == UNCONFIGURE or s.service == CONFIGURE:
                    self.drop(self.slow)
                    self.slow = -1
            self.submit_next += 1
        i = batch.n_filled
        batch.n_filled = 0
        return i

    cdef int retire(self) noexcept nogil:
        """Let pass to the judge, or without one to the recorder, what is done and next in order; 1 where anything was."""
        cdef uint64_t before = self.retire_next
        cdef Item *item
        while self.retire_next < self.dispatch_next:
            item = self.item(self.retire_next)
            if item.state != ITEM_DONE:
                break
            if not self.judged_groups or (item.service != L1_ACCEPT and item.service != SLOW_UPDATE):
                item.state = ITEM_JUDGED
            elif item.service == L1_ACCEPT and not self.slots[item.slot].env & self.judged_groups:
                item.ruling = RULED_BYPASS
                item.state = ITEM_JUDGED
            self.retire_next += 1
        self.pass_judged()
        return self.retire_next != before

    cdef void pass_judged(self) noexcept nogil:
        """Let pass to the recorder what is judged and next in order."""
        if not self.judged_groups:
            self.judged_next = self.retire_next
            return
        while self.judged_next < self.retire_next and self.item(self.judged_next).state == ITEM_JUDGED:
            self.judged_next += 1

    cdef void hold(self, int32_t slot) noexcept nogil:
        if slot >= 0:
            self.slots[slot].refs += 1

    cdef void drop(self, int32_t slot) noexcept nogil:
        """Give up a reference on a transition's slot; the last one frees it."""
        if slot < 0:
            return
        self.slots[slot].refs -= 1
        if self.slots[slot].refs == 0:
            self.free_transitions[self.n_free_transitions] = slot
            self.n_free_transitions += 1

    cdef void free_item(self, Item *item) noexcept nogil:
        """Free what an item holds beside its slot."""
        if item.desc != NULL and item.desc != item.inline_desc:
            free(item.desc)
        if item.spilled != NULL:
            free(item.spilled)
        item.desc = NULL
        item.spilled = NULL
        item.data = NULL
        item.port = NULL
        item.big = NULL
        item.smd = NULL
        item.desc_bytes = 0
        item.data_bytes = 0
        item.big_bytes = 0
        item.smd_bytes = 0

    cdef void enter_environment(self, int32_t slot) noexcept nogil:
        """Note that a transition is over for all: it, or what it ends, changes what a replacement must be shown."""
        cdef int service = self.slots[slot].service
        cdef int i, kept = 0
        cdef int32_t other
        cdef int lowest = 99
        if service == DISABLE:
            lowest = ENABLE
        elif service == END_STEP:
            lowest = BEGIN_STEP
        elif service == END_RUN:
            lowest = BEGIN_RUN
        elif service == UNCONFIGURE or service == CONFIGURE:
            lowest = 0
        for i in range(self.n_environment):
            other = self.environment[i]
            if self.slots[other].service >= lowest:
                self.drop(other)
            else:
                self.environment[kept] = other
                kept += 1
        self.n_environment = kept
        if service == CONFIGURE or service == BEGIN_RUN or service == BEGIN_STEP or service == ENABLE:
            if kept == MAX_ENVIRONMENT:  # a file may begin steps without end: the oldest step goes, Configure and BeginRun stay
                self.drop(self.environment[2])
                for i in range(2, kept - 1):
                    self.environment[i] = self.environment[i + 1]
                self.n_environment -= 1
            self.hold(slot)
            self.environment[self.n_environment] = slot
            self.n_environment += 1
