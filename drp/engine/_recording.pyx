"""Recording what has come back in order: the recorder's thread, and what it counts.

The lock of all tables lives here, since the recorder shares them with everybody; `writing` beside it is held while the files are touched,
so that the main thread can open, roll and close them. The recorder reads its own stretch of the road, [record_next, judged_next), without the lock.

An event that the trigger refuses is not written. What it has monitored is copied for the mebs, written or not (`drp.engine._copies`). One that only the prescale keeps is written with all its raw data, whatever the script removed.

What it cannot write (disk full, input/output error) it tries again every 0.1 s: the dgrams wait in the pebble, and the source with them.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.errno cimport ETIMEDOUT
from libc.string cimport memset
from posix.unistd cimport write

from drp.engine._collect cimport N_BUCKETS, N_NOTICES, NOTICE_OVERFLOW, Collect, Notice, bucket
from drp.engine._copies cimport CopyRing
from drp.engine._order cimport RULED_BYPASS, RULED_VERDICT, Item
from drp.shm._layout cimport BLOCK_WORDS, Bell
from drp.shm._pebble cimport L1_ACCEPT, SLOW_UPDATE, Pebble, Slot
from drp.shm._port cimport PortState, port_release_block, port_ring_arena
from drp.shm._sys cimport (
    sys_add32, sys_fence, sys_futex_wait, sys_futex_wake, sys_load32, sys_now_ns, sys_sleep_ns, sys_store32)
from drp.sink._l1 cimport RECORD_MALFORMED, RECORD_PAUSED, RECORD_TRUNCATED, L1Recorder

cdef enum:
    SLEEP_NS = 20000000
    RECORD_BATCH = 256
    RETRY_NS = 100000000
    CAUSE_TIMED_OUT = 2
    CAUSE_TRUNCATED = 4
    DAMAGE_TIMED_OUT = 64
    DAMAGE_TRUNCATED = 1
    NO_PORT = -1
    RESULT_PRESCALE = 1              # as drp.core.wire
    RESULT_PERSIST = 2
    MONITOR_SHIFT = 2
    MONITOR_BITS = 15

cdef enum Fate:                      # as drp.core.ledger
    FATE_VERDICT = 0
    FATE_PRESCALE = 1
    FATE_NO_VERDICT = 2
    FATE_BYPASS = 3
    FATE_NOT_RECORDED = 4
    FATE_FILTERED = 5


cdef int fate_of(const Item *item) noexcept nogil:
    """What becomes of a judged event."""
    if item.ruling == RULED_VERDICT:
        return (FATE_VERDICT if item.result & RESULT_PERSIST else
                FATE_PRESCALE if item.result & RESULT_PRESCALE else FATE_FILTERED)
    return FATE_BYPASS if item.ruling == RULED_BYPASS else FATE_NO_VERDICT


cdef uint16_t cause_damage(uint8_t cause) noexcept nogil:
    """The damage word of a failure: its code, and TimedOut or Truncated where true."""
    return <uint16_t>cause << 12 | (
        DAMAGE_TIMED_OUT if cause == CAUSE_TIMED_OUT else DAMAGE_TRUNCATED if cause == CAUSE_TRUNCATED else 0)


cdef void count_damage(Damages *counts, uint16_t damage) noexcept nogil:
    cdef int bit
    counts.events += 1
    for bit in range(N_BITS):
        counts.bits[bit] += (damage >> bit) & 1
    counts.codes[damage >> 12] += 1


cdef tuple damages(const Damages *counts):
    """(events, by bit, by code) of one origin."""
    return (counts.events, [counts.bits[i] for i in range(N_BITS)], [counts.codes[i] for i in range(N_CODES)])


cdef class Recording(Collect):
    """What may be recorded goes to `recorder`; `notify_fd` is an eventfd written to when the main thread should look."""

    def __cinit__(self, Pebble pebble, L1Recorder recorder, int notify_fd):
        pthread_mutex_init(&self.lock, NULL)
        pthread_mutex_init(&self.writing, NULL)
        self.writer = recorder
        self.notify_fd = notify_fd

    def __dealloc__(self):
        pthread_mutex_destroy(&self.lock)
        pthread_mutex_destroy(&self.writing)

    cdef void enter_main(self) noexcept nogil:
        sys_add32(&self.wanted, 1)
        self.enter()
        sys_add32(&self.wanted, <uint32_t>-1)

    cdef void enter(self) noexcept nogil:
        pthread_mutex_lock(&self.lock)

    cdef void leave(self) noexcept nogil:
        pthread_mutex_unlock(&self.lock)

    cdef void ring(self, Bell *bell) noexcept nogil:
        sys_fence()
        if sys_load32(&bell.asleep):
            sys_add32(&bell.word, 1)
            sys_futex_wake(&bell.word)

    cdef void notify(self) noexcept nogil:
        cdef uint64_t one = 1
        write(self.notify_fd, &one, 8)

    def record_turn(self) -> int:
        """Do one round of the recorder's loop; returns how many dgrams were recorded."""
        return self._record_some()

    def run_recorder(self) -> None:
        """Write what may be recorded until stop(), and free it. Run it in a thread of its own; the GIL is never taken."""
        cdef uint32_t word
        cdef int done
        with nogil:
            while True:
                if self._record_some():
                    continue
                if sys_load32(&self.stopping):
                    break
                pthread_mutex_lock(&self.writing)
                self.writer.tick()
                pthread_mutex_unlock(&self.writing)
                word = sys_load32(&self.recorder_bell.word)
                sys_store32(&self.recorder_bell.asleep, 1)
                sys_fence()
                if not self._may_record():
                    if sys_futex_wait(&self.recorder_bell.word, word, SLEEP_NS) == ETIMEDOUT and self._may_record():
                        self.rescued[1] += 1
                sys_store32(&self.recorder_bell.asleep, 0)

    cdef bint _may_record(self) noexcept nogil:
        cdef bint waits
        self.enter()
        waits = self.record_next != self.judged_next
        self.leave()
        return waits

    cdef int _record_some(self) noexcept nogil:
        """Record what may be, a batch at most; returns how many dgrams that were."""
        cdef uint64_t first, last, seq
        self.enter()
        first = self.record_next
        last = self.judged_next
        self.leave()
        if last > first + RECORD_BATCH:
            last = first + RECORD_BATCH
        for seq in range(first, last):
            if not self._record_or_wait(self.item(seq)):
                last = seq
                break
        self._release(first, last)
        return <int>(last - first)

    cdef bint _record_or_wait(self, Item *item) noexcept nogil:
        """Write one item; while the disk is full try again. 0: told to stop before it could be written."""
        cdef int result
        while True:
            pthread_mutex_lock(&self.writing)
            result = self._record(item)
            pthread_mutex_unlock(&self.writing)
            if result == 0:
                if self.paused:
                    self.paused = 0
                    self.notify()
                return 1
            if not self.paused:
                self.paused = 1
                self.paused_errno = result
                self.notify()
            if sys_load32(&self.giving_up):
                return 0
            sys_sleep_ns(RETRY_NS)

    cdef int _record(self, Item *item) noexcept nogil:
        """Write one item; 0, or the errno of what keeps the recorder from it."""
        cdef Slot *s = &self.slots[item.slot]
        cdef int fate, outcome
        if item.service == L1_ACCEPT:
            fate = fate_of(item)
            if fate == FATE_FILTERED:
                if self.copies is not None:
                    self._copy(item, s, 0)
                return 0
            outcome = self.writer.record(
                self.pebble.base + s.offset, s.size, item.desc if item.desc_bytes else NULL,
                &item.info if item.desc_bytes and item.cause == 0 else NULL, item.data, cause_damage(item.cause) | item.ruled_damage,
                item.cause, item.worker, s.pulse_id, s.capacity, fate == FATE_PRESCALE)
            if outcome == RECORD_TRUNCATED and item.cause == 0:
                item.cause = CAUSE_TRUNCATED
                self.n_cut += 1
            elif outcome == RECORD_MALFORMED:
                self.n_malformed += 1
            if self.copies is not None and outcome != RECORD_PAUSED:
                self._copy(item, s, 1)
        elif item.big != NULL:
            outcome = self.writer.record_pair(item.big, item.big_bytes, item.smd, item.smd_bytes)
        elif item.service == SLOW_UPDATE:
            outcome = self.writer.record_pair(
                self.pebble.base + s.offset, s.size, self.pebble.base + s.offset, s.size)
            if self.copies is not None and outcome != RECORD_PAUSED:
                self.copies.put_slow(item.seq, s.pulse_id, self.pebble.base + s.offset, s.size)
        else:
            return 0
        return self.writer.error if outcome == RECORD_PAUSED else 0

    cdef void _copy(self, Item *item, Slot *s, bint recorded) noexcept nogil:
        """Copy an event for the mebs that get it: as it was just recorded, or would have been."""
        cdef uint32_t mebs = self.copies.always
        if item.ruling == RULED_VERDICT:
            mebs |= item.result >> MONITOR_SHIFT & MONITOR_BITS
        if mebs == 0:
            return
        mebs = self.copies.admit(mebs)
        if mebs and (recorded or self.writer.gather_only(
                self.pebble.base + s.offset, s.size, item.desc if item.desc_bytes else NULL,
                &item.info if item.desc_bytes and item.cause == 0 else NULL, item.data, cause_damage(item.cause) | item.ruled_damage,
                item.cause, item.worker, s.pulse_id, s.capacity)):
            self.copies.put_event(item.seq, s.pulse_id, item.result, mebs, self.writer.gather)

    cdef void _release(self, uint64_t first, uint64_t last) noexcept nogil:
        """Count what was recorded and give back what it held."""
        cdef uint64_t seq
        cdef uint64_t now_ns = sys_now_ns()
        cdef Item *item
        cdef Slot *s
        cdef PortState *p
        cdef bint enough, told
        cdef int i
        if first == last:
            return
        self.enter()
        for seq in range(first, last):
            item = self.item(seq)
            s = &self.slots[item.slot]
            self._count(item, s, now_ns)
            if item.port != NULL:
                port_release_block(item.port, item.block)
            if item.service == L1_ACCEPT:
                self.drop(s.slow)
                self.free_events[self.n_free_events] = item.slot
                self.n_free_events += 1
            else:
                self.drop(item.slot)
            self.free_item(item)
        self.record_next = last
        for i in range(self.n_ports):
            p = self.ports[i]
            if p != NULL and p.freed and not p.dead:
                port_ring_arena(p)
        enough = self.n_free_events >= self.lacks_events and self.n_free_transitions >= self.lacks_transitions
        told = self.waits_recorded and last >= self.waits_recorded
        if told:
            self.waits_recorded = 0
        if self.n_cut and not self.cut_told and self.notice_room() > 1:
            self.cut_told = 1
            self._tell_cut()
            told = 1
        self.leave()
        if enough:
            self.ring(&self.source_bell)
        if told:
            self.notify()

    cdef void _tell_cut(self) noexcept nogil:
        """Tell the main loop of the first result that only here, beside the raw data it keeps, turned out not to fit."""
        cdef Notice *notice = &self.notices[self.next_notice % N_NOTICES]
        memset(notice, 0, sizeof(Notice))
        notice.kind = NOTICE_OVERFLOW
        notice.cause = CAUSE_TRUNCATED
        notice.service = L1_ACCEPT
        notice.port = NO_PORT
        self.next_notice += 1

    cdef void _count(self, Item *item, Slot *s, uint64_t now_ns) noexcept nogil:
        cdef int fate
        self.bytes_in += s.size
        if item.service != L1_ACCEPT:
            self.n_transitions += 1
            self.n_synthesised += s.synthesised
            return
        if self.began_ns == 0:
            self.began_ns = s.filled_ns
        self.ended_ns = now_ns
        self.n_events += 1
        fate = fate_of(item)
        if fate != FATE_FILTERED:
            if self.writer.big is None:
                fate = FATE_NOT_RECORDED
            self.recent[self.n_recorded % N_RECENT] = fate
            self.n_recorded += 1
        self.fates[fate] += 1
        if item.ruled_damage:
            count_damage(&self.trigger, item.ruled_damage)
        self.latency[bucket(now_ns - s.filled_ns)] += 1
        if s.damage:
            count_damage(&self.incoming, s.damage)
        if item.cause:
            count_damage(&self.ours, cause_damage(item.cause))
        elif item.desc_bytes:
            if item.info.flags & BLOCK_WORDS:
                self.n_words += 1
            if item.info.damage or item.info.user:
                count_damage(&self.script, item.info.damage | <uint16_t>item.info.user << 12)

    def copy_to(self, CopyRing copies not None) -> None:
        """Copy monitored events, and every SlowUpdate, into this ring from now on; only before the recorder's thread runs."""
        self.copies = copies

    def hold_files(self) -> None:
        """Keep the recorder's thread from the files until release_files()."""
        with nogil:
            pthread_mutex_lock(&self.writing)

    def release_files(self) -> None:
        """Let the recorder's thread write again."""
        pthread_mutex_unlock(&self.writing)

    @property
    def rescues(self) -> tuple[int, int, int]:
        """Sleeps of engine, recorder and source that ended by their limit though there was news: doorbells that were not heard."""
        return self.rescued[0], self.rescued[1], self.rescued[2]

    def last_fates(self, uint64_t n) -> list:
        """How many of the last `n` events that were not filtered have each fate."""
        cdef uint64_t i
        cdef uint64_t most = N_RECENT
        out = [0] * N_FATES
        with nogil:
            self.enter_main()
        n = min(n, self.n_recorded, most)
        for i in range(self.n_recorded - n, self.n_recorded):
            out[self.recent[i % N_RECENT]] += 1
        self.leave()
        return out

    def counts(self) -> dict:
        """What was counted as it was recorded."""
        with nogil:
            self.enter_main()
        out = {
            "events": self.n_events, "words": self.n_words, "transitions": self.n_transitions,
            "synthesised": self.n_synthesised, "bytes_in": self.bytes_in, "overflows": self.n_overflows,
            "run_ns": self.ended_ns - self.began_ns, "malformed": self.n_malformed, "unworked": self.n_unworked,
            "incoming": damages(&self.incoming), "drp": damages(&self.ours), "script": damages(&self.script),
            "trigger": damages(&self.trigger), "fates": [self.fates[i] for i in range(N_FATES)],
            "latency": [self.latency[i] for i in range(N_BUCKETS)], "service": [self.service[i] for i in range(N_BUCKETS)],
        }
        self.leave()
        return out
