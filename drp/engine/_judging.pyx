"""What the judge is asked, and what it says, between collecting and recording.

The judge's thread takes contributions and gives verdicts, a batch at a time. Its stretch of the road is [judged_next, retire_next): what it has
not been shown yet cannot be recorded, so it is read there without the lock. A verdict is believed for an event that was asked for, once, and
under the pulse id that was told; any other is counted and dropped. SlowUpdates are shown in their place among the events and wait for no
verdict; all other transitions are barriers, and the main thread tells the judge of them.

The judge sleeps on an eventfd, which goes with what else it waits for (sockets). Before it does it says so, and is refused while there is something.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport write

from drp.engine._order cimport ITEM_ASKED, ITEM_DONE, ITEM_JUDGED, RULED_NONE, RULED_VERDICT, Item
from drp.engine._recording cimport Recording, cause_damage
from drp.shm._layout cimport BLOCK_WORDS
from drp.shm._pebble cimport L1_ACCEPT, SLOW_UPDATE, Slot
from drp.shm._sys cimport sys_fence, sys_load32, sys_store32

cdef enum:
    CONTRIBUTED_WORDS = 1            # as drp.core.wire
    CONTRIBUTED_FAILED = 2
    DAMAGE_BITS = 0xfff              # the others are the value of whoever damaged it first
    WORDS_ALIGN = 8
    MAX_WORDS_BYTES = 65536
    RULE_BATCH = 1024                # verdicts under one hold of the lock


cdef class Judging(Recording):
    """The judge's end of the flow. All calls but `judge`, `set_words` and `judge_off` come from its thread."""

    def __cinit__(self, *args, **kwargs):
        self.judge_fd = -1
        self.ask_next = 1
        self.stride = sizeof(Contribution)

    def judge(self, uint32_t groups, int fd, alone=False) -> None:
        """Have the events with one of these bits in their env judged; the eventfd is written to when there are some and the judge sleeps.

        Of a drp that is `alone` it is told what a partition of one has: events in readout group 0, and pulse ids that rise strictly, also where those of the source
        do not, or are not known. Before anything is handed in.
        """
        if self.submit_next != 1:
            raise ValueError("there are dgrams on their way already")
        self.alone = alone
        self.judge_fd = fd
        self.judged_groups = groups

    def judge_off(self) -> None:
        """Keep what is not judged yet, and all that comes: nobody decides any more. Not while the judge's thread is in here."""
        cdef uint64_t before
        with nogil:
            self.enter_main()
            before = self.judged_next
            self.judged_groups = 0
            self.pass_judged()
            self._passed(before)
            self.leave()

    def set_words(self, uint32_t size_bytes) -> None:
        """Say how long the trigger words of an event are from now on; only while no event is in flight."""
        if size_bytes > MAX_WORDS_BYTES:
            raise ValueError(f"{size_bytes} bytes of trigger words, at most {MAX_WORDS_BYTES}")
        with nogil:
            self.enter_main()
        self.words_bytes = size_bytes
        self.stride = sizeof(Contribution) + (size_bytes + WORDS_ALIGN - 1) // WORDS_ALIGN * WORDS_ALIGN
        self.leave()

    cdef void call_judge(self) noexcept nogil:
        """Wake the judge where it sleeps."""
        cdef uint64_t one = 1
        sys_fence()
        if sys_load32(&self.judge_asleep):
            sys_store32(&self.judge_asleep, 0)
            write(self.judge_fd, &one, 8)

    def judge_may_sleep(self) -> bool:
        """Announce a sleep; False where there is something to be taken. Who sleeps all the same is not woken for it."""
        cdef bint waits
        with nogil:
            sys_store32(&self.judge_asleep, 1)
            sys_fence()
            self.enter()
            waits = max(self.ask_next, self.judged_next) < self.retire_next
            self.leave()
            if waits:
                sys_store32(&self.judge_asleep, 0)
        return not waits

    def take_contributions(self, uint32_t most=4096) -> bytes:
        """The contributions of the next events, `most` of them and of SlowUpdates at most, in order: CONTRIBUTION and words each; empty: there are none."""
        cdef uint64_t first, last
        cdef int n
        cdef bytes out
        cdef uint8_t *to
        with nogil:
            self.enter()
            first = max(self.ask_next, self.judged_next)
            last = min(self.retire_next, first + most)
            self.leave()
        if first >= last:
            return b""
        out = PyBytes_FromStringAndSize(NULL, (last - first) * self.stride)
        to = <uint8_t *>PyBytes_AS_STRING(out)
        with nogil:
            n = self._ask(first, last, to)
        return out if <uint64_t>n == last - first else out[:n * self.stride]

    cdef int _ask(self, uint64_t first, uint64_t last, uint8_t *to) noexcept nogil:
        """Write down all that is to be asked; returns how many that are."""
        cdef uint64_t seq, before
        cdef Item *item
        cdef int n = 0
        cdef int events = 0
        for seq in range(first, last):
            item = self.item(seq)
            if item.state == ITEM_DONE:
                events += self._put_contribution(item, to + n * self.stride)
                n += 1
        self.enter()
        for seq in range(first, last):
            item = self.item(seq)
            if item.state == ITEM_DONE:
                item.state = ITEM_ASKED if item.service == L1_ACCEPT else ITEM_JUDGED
        self.ask_next = last
        self.n_asked += events
        before = self.judged_next
        self.pass_judged()
        self._passed(before)
        self.leave()
        return n

    cdef int _put_contribution(self, Item *item, uint8_t *to) noexcept nogil:
        """Write one down; returns whether it is an event's."""
        cdef Slot *s = &self.slots[item.slot]
        cdef Contribution *c = <Contribution *>to
        cdef uint64_t size = self.stride - sizeof(Contribution)
        item.asked_pulse = self._told_pulse(s.pulse_id)
        c.seq = item.seq
        c.pulse_id = item.asked_pulse
        c.timestamp = s.timestamp
        c.env = s.env | self.alone
        c.damage = s.damage
        c.flags = 0
        memset(to + sizeof(Contribution), 0, size)
        if item.service != L1_ACCEPT:
            return 0
        if item.cause:
            c.damage |= cause_damage(item.cause)
            c.flags = CONTRIBUTED_FAILED
        elif item.desc_bytes:
            c.damage |= item.info.damage | <uint16_t>item.info.user << 12
            if item.info.flags & BLOCK_WORDS and item.info.words_bytes == self.words_bytes:
                c.flags = CONTRIBUTED_WORDS
                memcpy(to + sizeof(Contribution), item.data + item.data_bytes - self.words_bytes, self.words_bytes)
        return 1

    cdef uint64_t _told_pulse(self, uint64_t pulse_id) noexcept nogil:
        """The pulse id that the judge is told."""
        if self.alone:
            if pulse_id <= self.last_pulse:
                pulse_id = self.last_pulse + 1
            self.last_pulse = pulse_id
        return pulse_id

    def told_pulse(self, uint64_t pulse_id) -> int:
        """The pulse id of a transition as the judge is to be told; while nothing is in flight."""
        return self._told_pulse(pulse_id)

    def give_verdicts(self, verdicts, bint decided=True) -> int:
        """Take verdicts, an array of VERDICT (any buffer); returns how many were believed. Not `decided`: these events are kept, since nobody decides.

        ValueError: the buffer holds no whole records.
        """
        cdef Py_buffer view
        cdef size_t n
        cdef size_t at = 0
        cdef int taken = 0
        PyObject_GetBuffer(verdicts, &view, PyBUF_SIMPLE)
        try:
            if view.len % sizeof(Verdict):
                raise ValueError(f"{view.len} bytes are no records of {sizeof(Verdict)}")
            n = view.len // sizeof(Verdict)
            with nogil:
                while at < n:
                    taken += self._rule(
                        <const Verdict *>view.buf + at, min(n - at, <size_t>RULE_BATCH), RULED_VERDICT if decided else RULED_NONE)
                    at += RULE_BATCH
        finally:
            PyBuffer_Release(&view)
        return taken

    cdef int _rule(self, const Verdict *verdicts, size_t n, uint8_t ruling) noexcept nogil:
        """Take some verdicts; returns how many were believed."""
        cdef const Verdict *one
        cdef Item *item
        cdef uint64_t before
        cdef size_t i
        cdef int taken = 0
        self.enter()
        for i in range(n):
            one = &verdicts[i]
            if one.seq == 0 or one.seq >= self.ask_next:
                self.n_unknown += 1
                continue
            item = self.item(one.seq)
            if one.seq < self.judged_next or item.state != ITEM_ASKED:
                self.n_repeated += 1
                continue
            if one.pulse_id != item.asked_pulse:
                self.n_unknown += 1
                continue
            item.ruling = ruling
            if ruling == RULED_VERDICT:
                item.result = one.result
                item.ruled_damage = one.damage & DAMAGE_BITS
            item.state = ITEM_JUDGED
            taken += 1
        self.n_ruled += taken
        before = self.judged_next
        self.pass_judged()
        self._passed(before)
        self.leave()
        return taken

    cdef void _passed(self, uint64_t before) noexcept nogil:
        """Wake the recorder where something may be recorded now."""
        if self.judged_next != before:
            self.ring(&self.recorder_bell)
