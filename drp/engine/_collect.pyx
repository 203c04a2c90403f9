"""What comes back from workers, checked, and what the main loop must know of it.

An answer is copied out once and checked before it is used. An event's answer stays in the arena, but for its descriptor, until it is recorded. What
drp's policy decides (failures, transitions) goes to the main loop as notices, in order; while their ring is nearly full nothing is collected.

Only the event a worker had taken and not answered is lost with it: the rings of a dead worker are drained first, then `bury_port` blames that
one event, and gives back all others that were queued.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from drp.engine._dispatch cimport Dispatch
from drp.engine._order cimport INLINE_DESC, ITEM_DONE, ITEM_FILLED, ITEM_SENT, Item
from drp.shm._block cimport BLOCK_OK, NamesTable, check_block
from drp.shm._layout cimport (
    ENTRY_REPLAY, ENTRY_STOP, MAX_DESC_BYTES, MAX_L1_DESC_BYTES, OutEntry, RING_DEPTH, STATE_WAITS_ARENA, STATUS_LEFT, STATUS_OK,
    STATUS_OVERFLOW, STATUS_RAISED)
from drp.shm._pebble cimport BEGIN_RUN, CONFIGURE, END_RUN, END_STEP, L1_ACCEPT, SLOW_UPDATE
from drp.shm._port cimport (
    MAX_CREDIT, PEEK_NONE, PEEK_ONE, PortState, Sent, port_accept, port_keep_block, port_look, port_pass_block,
    port_peek, port_release_block)
from drp.shm._sys cimport sys_load32, sys_load64, sys_malloc

cdef enum:
    CREDIT_NS = 2000000
    CAUSE_RAISED = 1
    CAUSE_TRUNCATED = 4
    CAUSE_NONSENSE = 5
    CAUSE_LEFT = 6
    NOTICES_KEPT_FREE = 4096
    FAILED_ANSWERED = 1              # its last answer was a failure: nothing is in hand
    FAILED_UNANSWERED = 2            # rings or arena were not as they must be: the event in hand is to blame


cdef extern from * nogil:
    int __builtin_clzll(unsigned long long value)


cdef int bucket(uint64_t value) noexcept nogil:
    """Index in the latency histogram: 16 sub-buckets for each power of two, as drp.core.quantiles has it."""
    cdef int exponent
    if value < 16:
        return <int>value
    exponent = 63 - __builtin_clzll(value)
    return (exponent - 3) * 16 + <int>((value >> (exponent - 4)) & 15)


cdef bint waits_for_arena(const PortState *p) noexcept nogil:
    """Whether a worker waits for room in its arena: it says so, and there is something in it."""
    return (p.first_block != p.next_block and sys_load64(&p.header.taken) > p.answered
            and sys_load32(&p.header.state) == STATE_WAITS_ARENA)


cdef class Collect(Dispatch):
    """Answers in, items done and notices out."""

    def __cinit__(self, *args, **kwargs):
        self.notices = <Notice *>calloc(N_NOTICES, sizeof(Notice))
        if self.notices == NULL:
            raise MemoryError("no memory for notices")
        self.table = NamesTable([])

    def __dealloc__(self):
        if self.notices != NULL:
            while self.first_notice != self.next_notice:
                free(self.notices[self.first_notice % N_NOTICES].text)
                self.first_notice += 1
        free(self.notices)

    cdef int notice_room(self) noexcept nogil:
        return <int>(N_NOTICES - (self.next_notice - self.first_notice))

    cdef int collect(self, uint64_t now_ns) noexcept nogil:
        """Take in all answers; returns how many."""
        cdef int i
        cdef int n = 0
        for i in range(self.n_ports):
            if self.ports[i] != NULL and not self.ports[i].dead:
                n += self._collect_port(i, now_ns)
        return n

    cdef int _collect_port(self, int number, uint64_t now_ns) noexcept nogil:
        cdef PortState *p = self.ports[number]
        cdef OutEntry answer
        cdef Sent sent
        cdef int code
        cdef int n = 0
        while not p.failed and self.notice_room() > NOTICES_KEPT_FREE:
            code = port_peek(p, &answer)
            if code == PEEK_NONE:
                break
            sent = p.sent[p.answered % RING_DEPTH]
            if code != PEEK_ONE:
                self._fault(number, CAUSE_NONSENSE, sent.seq, sent.service, code, NULL)
                break
            port_accept(p, &answer)
            n += 1
            if sent.service == L1_ACCEPT:
                self._answer_event(number, &sent, &answer)
            else:
                self._answer_transition(number, &sent, &answer)
                if sent.slot >= 0:
                    self.drop(sent.slot)
        if n or sys_load64(&p.header.taken) != p.taken:
            port_look(p, now_ns)
        if waits_for_arena(p):
            p.taken_ns = now_ns      # it waits for us: its clock stands still
            if self._held_up(p, now_ns):
                self._spill(p, self.retire_next)
        return n

    cdef void _answer_event(self, int number, const Sent *sent, const OutEntry *answer) noexcept nogil:
        cdef PortState *p = self.ports[number]
        cdef Item *item = self.item(sent.seq)
        cdef double x = answer.service_ns
        cdef double credit
        cdef int code
        p.events -= 1
        self.in_flight -= 1
        item.state = ITEM_DONE
        item.worker = p.worker
        if answer.status == STATUS_OK:
            code = self._edited(p, item, answer)
            if code != BLOCK_OK:
                item.cause = CAUSE_NONSENSE
                self._fault(number, CAUSE_NONSENSE, sent.seq, sent.service, code, NULL)
                return
            p.n_done += 1
            p.unmerged += 1
            self.service[bucket(answer.service_ns)] += 1
            if p.service_ns == 0:
                p.service_ns = x
            elif x > p.service_ns:
                p.service_ns *= 1.0625
            else:
                p.service_ns *= 0.9375
            credit = CREDIT_NS / (p.service_ns + 1)
            p.credit = MAX_CREDIT if credit > MAX_CREDIT else 2 if credit < 2 else <uint32_t>credit
        elif answer.status == STATUS_OVERFLOW:
            item.cause = CAUSE_TRUNCATED
            self.n_overflows += 1
            p.n_failed += 1
            p.unmerged += 1
            if self.n_overflows == 1 or p.n_failed == 1:
                self._fault(number, CAUSE_TRUNCATED, sent.seq, sent.service, 0, NULL)
        else:
            item.cause = self._failure(number, sent, answer)

    cdef int _edited(self, PortState *p, Item *item, const OutEntry *answer) noexcept nogil:
        """Copy out and check the descriptor of an event's result; keep its data where it is. A BlockFault."""
        cdef const uint8_t *block
        cdef int code
        memset(&item.info, 0, sizeof(item.info))
        if answer.block_bytes == 0:
            return BLOCK_OK
        block = p.arena + answer.position % p.arena_bytes
        item.data = block + answer.desc_bytes
        item.data_bytes = answer.block_bytes - answer.desc_bytes
        if not self._keep(p, item):
            return -102
        if answer.desc_bytes > MAX_L1_DESC_BYTES:
            return -101
        item.desc = item.inline_desc
        if answer.desc_bytes > INLINE_DESC:
            item.desc = <uint8_t *>malloc(answer.desc_bytes)
            if item.desc == NULL:
                return -102
        memcpy(item.desc, block, answer.desc_bytes)
        item.desc_bytes = answer.desc_bytes
        code = check_block(item.desc, item.desc_bytes, answer.block_bytes, MAX_L1_DESC_BYTES, item.data, self.table, &item.info)
        if code != BLOCK_OK:
            item.desc_bytes = 0
            item.data_bytes = 0
        return code

    cdef bint _keep(self, PortState *p, Item *item) noexcept nogil:
        """Keep a result in the arena until it is recorded, or outside where too many are kept; 0: there is no memory."""
        if port_keep_block(p, &item.block):
            item.port = p
            return 1
        port_pass_block(p)
        return self._move_out(item)

    cdef bint _move_out(self, Item *item) noexcept nogil:
        """Copy an item's data out of the arena; 0: there is no memory."""
        if item.data_bytes:
            item.spilled = <uint8_t *>malloc(item.data_bytes)
            if item.spilled == NULL:
                return 0
            memcpy(item.spilled, item.data, item.data_bytes)
            item.data = item.spilled
        return 1

    cdef void _answer_transition(self, int number, const Sent *sent, const OutEntry *answer) noexcept nogil:
        cdef PortState *p = self.ports[number]
        cdef Notice *notice
        cdef const uint8_t *block
        cdef bint replay = sent.flags & ENTRY_REPLAY
        if answer.status != STATUS_OK and answer.status != STATUS_OVERFLOW:
            self._failure(number, sent, answer)
            return
        if sent.service != SLOW_UPDATE and not sent.flags & ENTRY_STOP and (not replay or sent.service in (CONFIGURE, BEGIN_RUN)):
            notice = &self.notices[self.next_notice % N_NOTICES]
            memset(notice, 0, sizeof(Notice))
            notice.kind = NOTICE_REPLAY if replay else NOTICE_ANSWER
            notice.cause = CAUSE_TRUNCATED if answer.status == STATUS_OVERFLOW else 0
            notice.service = sent.service
            notice.port = number
            notice.seq = self.slots[sent.slot].seq
            if answer.block_bytes:
                notice.text = <uint8_t *>sys_malloc(answer.block_bytes)
                if notice.text != NULL:
                    block = p.arena + answer.position % p.arena_bytes
                    memcpy(notice.text, block, answer.block_bytes)
                    notice.text_bytes = answer.block_bytes
                    notice.desc_bytes = answer.desc_bytes
            self.next_notice += 1
        if answer.block_bytes:
            port_pass_block(p)
        if sent.service in (END_STEP, END_RUN) and not replay and answer.status == STATUS_OK:
            p.unmerged = 0
        if sent.seq == p.owes:
            self._settle(p)

    cdef void _settle(self, PortState *p) noexcept nogil:
        """The port no longer owes the transition it was asked."""
        if p.owes:
            p.owes = 0
            self.owing -= 1

    cdef int _failure(self, int number, const Sent *sent, const OutEntry *answer) noexcept nogil:
        """Tell the main loop of an answer that is a failure, or has no status that there is; returns its cause."""
        cdef int cause = CAUSE_RAISED if answer.status == STATUS_RAISED else CAUSE_LEFT
        if answer.status != STATUS_RAISED and answer.status != STATUS_LEFT:
            self._fault(number, CAUSE_NONSENSE, sent.seq, sent.service, -100, NULL)
            return CAUSE_NONSENSE
        self._fault(number, cause, sent.seq, sent.service, 0, answer)
        return cause

    cdef void _fault(self, int number, int cause, uint64_t seq, uint8_t service, int code, const OutEntry *answer) noexcept nogil:
        """Tell the main loop of a failure; but for an overflow the worker gets nothing more and will be buried."""
        cdef PortState *p = self.ports[number]
        cdef Notice *notice = &self.notices[self.next_notice % N_NOTICES]
        memset(notice, 0, sizeof(Notice))
        notice.kind = NOTICE_OVERFLOW if cause == CAUSE_TRUNCATED else NOTICE_FAILED
        notice.cause = cause
        notice.service = service
        notice.code = code
        notice.port = number
        notice.seq = seq
        if answer != NULL and answer.block_bytes and answer.block_bytes <= MAX_DESC_BYTES:
            notice.text = <uint8_t *>malloc(answer.block_bytes)
            if notice.text != NULL:
                memcpy(notice.text, p.arena + answer.position % p.arena_bytes, answer.block_bytes)
                notice.text_bytes = answer.block_bytes
                notice.desc_bytes = answer.desc_bytes
        self.next_notice += 1
        if cause == CAUSE_TRUNCATED:
            return
        if service == L1_ACCEPT:
            p.n_failed += 1
        p.failed = FAILED_UNANSWERED if answer == NULL and code < 0 and code > -100 else FAILED_ANSWERED
        p.open = 0
        p.fed = 0
        self._settle(p)

    cdef bint _held_up(self, PortState *waiting, uint64_t now_ns) noexcept nogil:
        """Whether recording waits for an event that this worker has, or nobody, or one that is stuck.

        Then a full arena would stay full: what is in it comes later.
        """
        cdef Item *item = self.item(self.retire_next)
        cdef PortState *p
        cdef uint64_t n
        cdef int i
        if self.retire_next == self.dispatch_next:
            return 0
        if item.state != ITEM_SENT:
            return item.state == ITEM_FILLED
        for i in range(self.n_ports):
            p = self.ports[i]
            if p == NULL:
                continue
            for n in range(p.answered, p.pushed):
                if p.sent[n % RING_DEPTH].seq == self.retire_next:
                    return p == waiting or self.stuck(p, now_ns)
        return 0

    cdef void _spill(self, PortState *p, uint64_t above) noexcept nogil:
        """Move a worker's results newer than `above` out of its arena. They are no more than there are slots, nor larger."""
        cdef uint64_t seq
        cdef Item *item
        for seq in range(above + 1, self.dispatch_next):
            item = self.item(seq)
            if item.port != p or item.state != ITEM_DONE:
                continue
            if not self._move_out(item):
                return
            port_release_block(p, item.block)
            item.port = NULL

    cdef bint in_hand(self, int number) noexcept nogil:
        """Whether a worker had taken an entry and not answered it; one that broke the protocol has the one it should have answered."""
        cdef PortState *p = self.ports[number]
        if p.answered == p.pushed or p.failed == FAILED_ANSWERED:
            return 0
        return p.failed or p.taken > p.answered or sys_load64(&p.header.taken) > p.answered

    cdef uint64_t bury_port(self, int number, int cause) noexcept nogil:
        """Settle all that a dead worker leaves: the event in hand goes out raw with `cause` (0: is done again); returns its number, or 0.

        Call it once, when nothing of the process runs any more and its answers are collected.
        """
        cdef PortState *p = self.ports[number]
        cdef uint64_t n
        cdef Sent sent
        cdef Item *item
        cdef uint64_t lost = 0
        cdef bint held
        if p == NULL or p.dead:
            return 0
        held = self.in_hand(number)
        for n in range(p.answered, p.pushed):
            sent = p.sent[n % RING_DEPTH]
            if sent.service != L1_ACCEPT:
                if sent.slot >= 0:
                    self.drop(sent.slot)
                continue
            p.events -= 1
            self.in_flight -= 1
            if held and cause and n == p.answered:
                item = self.item(sent.seq)
                item.state = ITEM_DONE
                item.cause = cause
                item.worker = p.worker
                p.n_failed += 1
                lost = sent.seq
            else:
                self.again(sent.seq)
        p.answered = p.pushed
        p.open = 0
        p.fed = 0
        p.dead = 1
        # Its segment goes when its results are out of it, and an event that hangs may keep those from the record for long.
        self._spill(p, self.retire_next - 1)
        self._settle(p)
        return lost
