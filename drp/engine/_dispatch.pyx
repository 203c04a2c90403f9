"""Who gets what: events by credit, transitions to everybody.

Credit is time: a worker has as many events in flight as it does in 2 ms, at least 2. An event goes to an idle worker, else to the one with the most left of it; one
whose event in hand has run ten times its median gets none, so a hung worker holds few events and starves nobody.

Every transition but SlowUpdate is a barrier: it goes out when all earlier events are answered, and nothing goes out after it until everybody
has answered it. So while events are in flight all workers stand in the same run and step, and an event may be done again by any of them; only the
SlowUpdate in force can differ, and a worker that last got another one is shown the right one first (ENTRY_REPLAY). That there is none in force
cannot be shown, so the first SlowUpdate after Configure waits for earlier events too.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove, memset

from drp.engine._order cimport ITEM_DONE, ITEM_FILLED, ITEM_SENT, Item, Order
from drp.shm._layout cimport ENTRY_REPLAY, InEntry
from drp.shm._pebble cimport CONFIGURE, L1_ACCEPT, SLOW_UPDATE, UNCONFIGURE, Slot
from drp.shm._port cimport MAX_CREDIT, PortState, port_look, port_push, port_ring, port_ring_arena, port_room

cdef enum:
    CREDIT_NS = 2000000
    STUCK_MEDIANS = 10
    STUCK_NS = 2000000               # the wake-up of a worker is no reason to pass it by
    CAUSE_NO_WORKER = 7


cdef class Dispatch(Order):
    """The ports of all workers, and what goes out to them."""

    def __cinit__(self, *args, **kwargs):
        self.ports = <PortState **>calloc(MAX_PORTS, sizeof(PortState *))
        self.redo = <uint64_t *>calloc(self.n_items + 1, sizeof(uint64_t))
        if self.ports == NULL or self.redo == NULL:
            raise MemoryError("no memory for the tables of workers")

    def __dealloc__(self):
        free(self.ports)
        free(self.redo)

    cdef int dispatch(self, uint64_t now_ns) noexcept nogil:
        """Send out all that may go; 1 where anything did."""
        cdef Item *item
        cdef PortState *p
        cdef int i
        cdef int moved = 0
        while self.n_redo:
            if not self._give_event(self.item(self.redo[0]), now_ns):
                break
            self.n_redo -= 1
            memmove(self.redo, self.redo + 1, self.n_redo * sizeof(uint64_t))
            moved = 1
        while self.n_redo == 0 and self.barrier == 0 and self.dispatch_next < self.submit_next:
            item = self.item(self.dispatch_next)
            if item.service == L1_ACCEPT:
                if not self._give_event(item, now_ns):
                    break
            elif item.service == SLOW_UPDATE:
                if self.in_flight and not self.slow_out:
                    break
                self.slow_out = 1
                for i in range(self.n_ports):
                    p = self.ports[i]
                    if p != NULL and p.open:
                        self.send(p, item.slot, 0)
                item.state = ITEM_DONE
            else:
                if self.in_flight:
                    break
                if item.service == CONFIGURE or item.service == UNCONFIGURE:
                    self.slow_out = 0
                self.barrier = item.seq
                self.owing = 0
                item.state = ITEM_SENT
                for i in range(self.n_ports):
                    p = self.ports[i]
                    if p != NULL and p.open:
                        self.send(p, item.slot, 0)
                        p.owes = item.seq
                        self.owing += 1
            self.dispatch_next += 1
            moved = 1
        for i in range(self.n_ports):
            p = self.ports[i]
            if p != NULL and p.rung:
                port_ring(p)
            if p != NULL and p.freed:
                port_ring_arena(p)
        return moved

    cdef int _give_event(self, Item *item, uint64_t now_ns) noexcept nogil:
        cdef int32_t slow = self.slots[item.slot].slow
        cdef PortState *p = self._pick(now_ns)
        if p == NULL:
            if not self.pass_raw:
                return 0
            item.state = ITEM_DONE
            item.cause = CAUSE_NO_WORKER
            self.n_unworked += 1
            return 1
        if p.slow != slow and slow >= 0:
            self.send(p, slow, ENTRY_REPLAY)
        self.send(p, item.slot, 0)
        item.state = ITEM_SENT
        item.worker = p.worker
        p.events += 1
        self.in_flight += 1
        return 1

    cdef PortState *_pick(self, uint64_t now_ns) noexcept nogil:
        """An idle worker, else the one with the most credit left, or NULL. Where several are idle the one with the most credit gets it.

        Credit alone would starve one that has just begun: its credit is 2 until its time is known, less than a quick one has left with some in flight.
        """
        cdef PortState *best = NULL
        cdef PortState *p
        cdef int most = 0
        cdef int left, i
        for i in range(self.n_ports):
            p = self.ports[i]
            if p == NULL or not p.fed:
                continue
            left = <int>p.credit - <int>p.events
            if p.events == 0:
                left += MAX_CREDIT
            if left <= most or port_room(p) < ROOM_FOR_TRANSITIONS:
                continue
            if p.events and self.stuck(p, now_ns):
                continue
            best = p
            most = left
        return best

    cdef bint stuck(self, const PortState *p, uint64_t now_ns) noexcept nogil:
        """Whether what a worker has in hand has run far longer than its events do."""
        cdef double limit_ns = STUCK_MEDIANS * p.service_ns
        if limit_ns < STUCK_NS:
            limit_ns = STUCK_NS
        return p.taken > p.answered and now_ns > p.taken_ns + <uint64_t>limit_ns

    cdef void send(self, PortState *p, int32_t slot, uint8_t flags) noexcept nogil:
        """Push one dgram to a worker; a transition's slot is held until it is answered."""
        cdef Slot *s = &self.slots[slot]
        cdef InEntry entry
        memset(&entry, 0, sizeof(entry))
        entry.seq = 0 if flags & ENTRY_REPLAY else s.seq
        entry.pulse_id = s.pulse_id
        entry.index = s.index
        entry.offset = s.offset
        entry.size_bytes = s.size
        entry.bound_bytes = s.bound
        entry.service = s.service
        entry.flags = flags
        if s.service != L1_ACCEPT:
            self.hold(slot)
            if s.service == SLOW_UPDATE:
                p.slow = slot
        port_push(p, &entry, slot)

    cdef void again(self, uint64_t seq) noexcept nogil:
        """Note an event to be done again, before all that is newer."""
        cdef uint32_t i = self.n_redo
        while i > 0 and self.redo[i - 1] > seq:
            self.redo[i] = self.redo[i - 1]
            i -= 1
        self.redo[i] = seq
        self.n_redo += 1
        self.item(seq).state = ITEM_FILLED
