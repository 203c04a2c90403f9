"""A deck of premade dgrams, dealt in order into the slots of a batch.

It knows where its dgrams lie and how each is stamped; it knows no clock and no file. Four ways of
stamping, the first three rising strictly where they loop:

* as recorded: every dgram keeps its own timestamp and the pulse id it was given (0: unknown, and stays 0);
* looped (`loop`): part of the deck is dealt again and again, each lap later by the span of one lap;
* by event (`tick`): event number n, over all laps, has pulse id `pulse0 + n * ticks` and the time of that
  pulse;
* by trigger (`follow`): event after event gets pulse id, time stamp, keepRaw and readout groups of the trigger that it is dealt for.

The dgrams lie in buffers that the deck keeps alive; nothing is copied but into a slot, without the GIL.
What a slot batch does not take at C level (a transition that its gate must see, or any batch that is not
ours) is put through its Python method `put`.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from drp.shm._pebble cimport SlotBatch

cdef enum:
    DGRAM_BYTES = 24
    SLOW_UPDATE = 10
    END_OF_BATCH = 11
    L1_ACCEPT = 12
    BILLION = 1000000000
    TICK_NS_OVER = 14000             # a tick of the pulse id is 14/13 us
    TICK_NS_UNDER = 13

cdef packed struct Trigger:          # drp.core.wire.TRIGGER
    uint64_t pulse_id
    uint64_t timestamp
    uint32_t env
    uint32_t beam
    uint32_t[9] event_codes
    uint32_t number

cdef enum Stamp:
    AS_RECORDED
    LOOPED
    BY_EVENT

cdef struct Card:
    const uint8_t *at
    uint64_t timestamp               # its own
    uint64_t time_ns                 # of the first lap
    uint64_t pulse_id
    uint32_t size
    uint8_t service


cdef inline uint64_t to_timestamp(uint64_t time_ns) noexcept nogil:
    return (time_ns // BILLION) << 32 | time_ns % BILLION


cdef inline uint64_t pulse_ns(uint64_t ticks) noexcept nogil:
    return ticks * TICK_NS_OVER // TICK_NS_UNDER


cdef class Deck:
    """Premade dgrams: number i is `sizes[i]` bytes at `offsets[i]` of `buffers[which[i]]` (uint64 arrays),
    with `pulse_ids[i]`.

    ValueError: one of them does not lie in its buffer, or its header tells another size.
    """

    cdef Card *cards
    cdef Py_buffer *views
    cdef int n_views
    cdef Stamp stamp
    cdef readonly Py_ssize_t count       # dgrams in the deck
    cdef readonly Py_ssize_t position    # the next one to deal
    cdef readonly uint64_t lap           # laps of the loop that are done
    cdef readonly uint64_t events        # L1Accepts dealt so far, all laps
    cdef Py_ssize_t first
    cdef Py_ssize_t stop
    cdef uint64_t lap_ns
    cdef uint64_t lap_pulses
    cdef uint64_t pulse0
    cdef uint64_t ticks
    cdef uint64_t origin_pulse
    cdef uint64_t origin_ns

    def __cinit__(self, buffers, const uint64_t[::1] which, const uint64_t[::1] offsets, const uint64_t[::1] sizes,
                  const uint64_t[::1] pulse_ids):
        cdef Py_ssize_t i
        cdef Py_ssize_t n = offsets.shape[0]
        if which.shape[0] != n or sizes.shape[0] != n or pulse_ids.shape[0] != n:
            raise ValueError(f"which, offsets, sizes and pulse_ids have {which.shape[0]}, {n}, {sizes.shape[0]} and "
                             f"{pulse_ids.shape[0]} entries")
        self.cards = <Card *>calloc(max(n, 1), sizeof(Card))
        self.views = <Py_buffer *>calloc(max(len(buffers), 1), sizeof(Py_buffer))
        if self.cards == NULL or self.views == NULL:
            raise MemoryError(f"no memory for a deck of {n} dgrams")
        for buffer in buffers:
            PyObject_GetBuffer(buffer, &self.views[self.n_views], PyBUF_SIMPLE)
            self.n_views += 1
        self.stop = -1
        self.count = n
        for i in range(n):
            if which[i] >= <uint64_t>self.n_views:
                raise ValueError(f"dgram {i} lies in buffer {which[i]} of {self.n_views}")
            self._place(i, &self.views[which[i]], offsets[i], sizes[i])
            self.cards[i].pulse_id = pulse_ids[i]

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_views):
            PyBuffer_Release(&self.views[i])
        free(self.views)
        free(self.cards)

    cdef int _place(self, Py_ssize_t i, Py_buffer *view, uint64_t offset, uint64_t size) except -1:
        cdef Card *card = &self.cards[i]
        cdef uint64_t length = <uint64_t>view.len
        cdef uint32_t[6] header
        if size < DGRAM_BYTES or size > length or offset > length - size:
            raise ValueError(f"dgram {i}, {size} bytes at {offset}, does not lie in its buffer of {length} bytes")
        card.at = <const uint8_t *>view.buf + offset
        memcpy(header, card.at, DGRAM_BYTES)
        if <uint64_t>header[5] + 12 != size:
            raise ValueError(f"dgram {i} is given as {size} bytes, its header says {<uint64_t>header[5] + 12}")
        card.size = <uint32_t>size
        card.service = (header[2] >> 24) & 0xF
        if card.service == END_OF_BATCH:
            card.service = L1_ACCEPT
        card.timestamp = <uint64_t>header[1] << 32 | header[0]
        return 0

    def loop(self, Py_ssize_t first, Py_ssize_t stop, const uint64_t[::1] times_ns, const uint64_t[::1] pulse_ids,
             uint64_t lap_ns, uint64_t lap_pulses):
        """Deal dgrams [first, stop) for ever, lap k stamped `times_ns + k * lap_ns` and `pulse_ids + k *
        lap_pulses` (0 stays 0).

        Both arrays hold an entry for each dgram of the deck. What lies behind `stop` is never dealt.
        """
        cdef Py_ssize_t i
        self._check_range(first, stop)
        if times_ns.shape[0] != self.count or pulse_ids.shape[0] != self.count:
            raise ValueError(f"{times_ns.shape[0]} times and {pulse_ids.shape[0]} pulse ids for {self.count} dgrams")
        for i in range(self.count):
            self.cards[i].time_ns = times_ns[i]
            self.cards[i].pulse_id = pulse_ids[i]
        self.first, self.stop = first, stop
        self.lap_ns, self.lap_pulses = lap_ns, lap_pulses
        self.stamp = LOOPED

    def tick(self, uint64_t pulse0, uint64_t ticks, uint64_t origin_pulse, uint64_t origin_ns, Py_ssize_t first=0, Py_ssize_t stop=-1):
        """Deal dgrams [first, stop), the whole deck by default, for ever, event n (as `events` counts) stamped `pulse0 + n * ticks` and that
        pulse's time.

        `origin_ns` is the time of `origin_pulse`, which is not after `pulse0`. Called again, it changes stamps and range, and goes on dealing
        where it is; at `first` where it is not in the range.
        """
        if stop < 0:
            stop = self.count
        self._check_range(first, stop)
        if origin_pulse > pulse0:
            raise ValueError(f"the origin, pulse {origin_pulse}, is after pulse {pulse0}")
        self.first, self.stop = first, stop
        if not first <= self.position < stop:
            self.position = first
        self.pulse0, self.ticks, self.origin_pulse, self.origin_ns = pulse0, ticks, origin_pulse, origin_ns
        self.stamp = BY_EVENT

    cdef int _check_range(self, Py_ssize_t first, Py_ssize_t stop) except -1:
        if not 0 <= first < stop <= self.count:
            raise ValueError(f"a loop over dgrams {first} to {stop} of {self.count}")
        return 0

    @property
    def done(self) -> bool:
        """Whether everything was dealt; never true of a deck that loops."""
        return self.stop < 0 and self.position >= self.count

    @property
    def next_is_event(self) -> bool:
        """Whether the next dgram is an L1Accept."""
        return self.position < self.count and self.cards[self.position].service == L1_ACCEPT

    def deal(self, slots, uint64_t events, uint64_t enough_bytes) -> int:
        """Put dgrams into `slots` until `events` L1Accepts went, a slot is missing, the deck is done or
        `enough_bytes` were copied.

        Transitions between the events go with them; those before an L1Accept that may not go are put.
        Returns the number put.
        """
        cdef SlotBatch batch = slots if isinstance(slots, SlotBatch) else None
        cdef int put = 0
        cdef int state
        cdef uint64_t copied = 0
        while True:
            state = -1
            if batch is not None:
                with nogil:
                    state = self._deal(batch, &events, enough_bytes, &copied, &put)
            if state >= 0 or not self._may_go(events, copied, enough_bytes):
                return put
            if not self._put(slots):
                return put
            copied += self.cards[self.position].size
            events -= self._step()
            put += 1

    def turn(self, Py_ssize_t first=0, Py_ssize_t stop=-1):
        """Have `follow` deal dgrams [first, stop), the whole deck by default, for ever; the next one is `first`."""
        if stop < 0:
            stop = self.count
        self._check_range(first, stop)
        self.first, self.stop, self.position = first, stop, first

    def rewind(self):
        """Go back to the first dgram of the turn, or loop."""
        self.position = self.first

    def follow(self, slots, const uint8_t[::1] triggers, Py_ssize_t at, uint64_t enough_bytes) -> int:
        """Deal the next dgrams (`turn` says which), one for each of `triggers` (records of wire.TRIGGER) from number `at` on.

        Goes on until there are no more, a slot is missing, or `enough_bytes` were copied. Returns the number put. ValueError: what is to be dealt is no
        L1Accept.
        """
        cdef SlotBatch batch = slots if isinstance(slots, SlotBatch) else None
        cdef Py_ssize_t count = triggers.shape[0] // <Py_ssize_t>sizeof(Trigger)
        cdef Py_ssize_t first = at
        cdef int state
        cdef uint64_t copied = 0
        if self.stop < 0 or not 0 <= at <= count:
            raise ValueError(f"trigger {at} of {count}, and turns that end at {self.stop}")
        while at < count and copied < enough_bytes:
            if self.cards[self.position].service != L1_ACCEPT:
                raise ValueError(f"dgram {self.position} is no L1Accept")
            state = -1
            if batch is not None:
                with nogil:
                    state = self._follow(batch, <const Trigger *>&triggers[0], count, enough_bytes, &at, &copied)
            if state >= 0:
                break
            if at < count and copied < enough_bytes and not self._put_triggered(slots, (<const Trigger *>&triggers[0]) + at):
                break
            copied += self.cards[self.position].size
            self._step()
            at += 1
        return at - first

    cdef int _follow(self, SlotBatch batch, const Trigger *triggers, Py_ssize_t count, uint64_t enough_bytes, Py_ssize_t *at, uint64_t *copied) noexcept nogil:
        """0: stopped, -1: the next dgram must be put through Python."""
        cdef const Card *card
        cdef const Trigger *trigger
        cdef int answer
        while at[0] < count and copied[0] < enough_bytes:
            card = &self.cards[self.position]
            trigger = triggers + at[0]
            if card.service != L1_ACCEPT:
                return -1
            answer = batch.put_c(card.at, card.size, trigger.timestamp, trigger.pulse_id, trigger.env)
            if answer <= 0:
                return answer
            copied[0] += card.size
            self._step()
            at[0] += 1
        return 0

    cdef bint _put_triggered(self, slots, const Trigger *trigger) except -1:
        cdef Card *card = &self.cards[self.position]
        cdef uint32_t env = trigger.env
        cdef uint64_t timestamp = trigger.timestamp
        dgram = bytearray(card.at[:card.size])
        dgram[0:8] = timestamp.to_bytes(8, "little")
        dgram[8:11] = (env & 0xFFFFFF).to_bytes(3, "little")
        return slots.put(dgram, trigger.pulse_id)

    cdef bint _may_go(self, uint64_t events, uint64_t copied, uint64_t enough_bytes) noexcept nogil:
        if self.position >= self.count or copied >= enough_bytes:
            return False
        return events > 0 or self.cards[self.position].service != L1_ACCEPT

    cdef int _deal(self, SlotBatch batch, uint64_t *events, uint64_t enough_bytes, uint64_t *copied, int *put) noexcept nogil:
        """0: stopped, -1: the next dgram must be put through Python."""
        cdef Card *card
        cdef int answer
        while self._may_go(events[0], copied[0], enough_bytes):
            card = &self.cards[self.position]
            answer = batch.put_c(card.at, card.size, self._timestamp(card), self._pulse_id(card), 0)
            if answer <= 0:
                return answer
            copied[0] += card.size
            events[0] -= self._step()
            put[0] += 1
        return 0

    cdef uint64_t _timestamp(self, const Card *card) noexcept nogil:
        if self.stamp == BY_EVENT:
            return to_timestamp(self.origin_ns + pulse_ns(self._pulse_id(card) - self.origin_pulse))
        if self.stamp == LOOPED:
            return to_timestamp(card.time_ns + self.lap * self.lap_ns)
        return card.timestamp

    cdef uint64_t _pulse_id(self, const Card *card) noexcept nogil:
        if self.stamp == BY_EVENT:
            return self.pulse0 + self.events * self.ticks
        if self.stamp == LOOPED and card.pulse_id:
            return card.pulse_id + self.lap * self.lap_pulses
        return card.pulse_id

    cdef uint64_t _step(self) noexcept nogil:
        """Go on to the next dgram; 1 where this one was an L1Accept."""
        cdef uint64_t was_event = self.cards[self.position].service == L1_ACCEPT
        self.events += was_event
        self.position += 1
        if self.position == self.stop:
            self.position = self.first
            self.lap += 1
        return was_event

    cdef bint _put(self, slots) except -1:
        cdef Card *card = &self.cards[self.position]
        cdef uint64_t timestamp = self._timestamp(card)
        dgram = bytearray(card.at[:card.size])
        dgram[0:4] = (timestamp & 0xFFFFFFFF).to_bytes(4, "little")
        dgram[4:8] = (timestamp >> 32).to_bytes(4, "little")
        return slots.put(dgram, self._pulse_id(card))
