"""The pebble: one shared memory segment cut into slots, and the batch of free slots a source fills.

A slot belongs to one owner at a time: the free list, a batch (the source's, while it fills), or the flow. A batch is used by the
source's thread only and needs no lock. Memory of a slot is untouched until it is first used.

The batch also keeps the order of transitions: whatever is not an L1Accept or a SlowUpdate inside a step is shown to the gate (a
sequencer), which says what must be put before it. So every source, complete or not, gives a run that is.

With `await_enable` no event is taken from an Enable on until the flow says that everybody has answered it: no beamline sends triggers before.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from xtc._walk cimport WALK_TOO_MANY, walk_children

from drp.core.errors import SourceError
from drp.core.transitions import add_ns
from drp.shm._segment import create

cdef enum:
    LINE = 64                        # of a cache
    CORRUPTED = 8
    MAX_CHILDREN = 4096              # of a SlowUpdate that is looked into


cdef class Pebble:
    """`n_events` slots of `event_bytes` and `n_transitions` of `transition_bytes`.

    A transition may come to `result_bytes` (at least, and by default, those of its slot) with what workers add: that never lies in its slot.

    A slot begins an odd number of cache lines after the one before: at multiples of a page the headers of all would share a few sets of each cache.
    """

    def __cinit__(
        self, uint32_t n_events, uint32_t event_bytes, uint32_t n_transitions, uint32_t transition_bytes, uint32_t result_bytes=0
    ):
        cdef uint32_t i
        cdef uint64_t offset = 0
        cdef uint64_t event_stride = _stride(event_bytes)
        cdef uint64_t transition_stride = _stride(transition_bytes)
        self.slots = <Slot *>calloc(n_events + n_transitions, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError(f"no memory for the table of {n_events + n_transitions} slots")
        self.n_events = n_events
        self.n_transitions = n_transitions
        self.event_bytes = event_bytes
        self.transition_bytes = transition_bytes
        self.result_bytes = max(transition_bytes, result_bytes)
        self.segment = create(n_events * event_stride + n_transitions * transition_stride)
        self.base = self.segment.base
        for i in range(n_events + n_transitions):
            self.slots[i].offset = offset
            self.slots[i].capacity = event_bytes if i < n_events else transition_bytes
            self.slots[i].bound = event_bytes if i < n_events else self.result_bytes
            self.slots[i].slow = -1
            offset += event_stride if i < n_events else transition_stride

    def __dealloc__(self):
        free(self.slots)

    @property
    def size_bytes(self) -> int:
        """Bytes of address space; memory is used only as slots are touched."""
        return self.segment.size


cdef uint64_t _stride(uint32_t size) noexcept:
    return <uint64_t>((size + LINE - 1) // LINE | 1) * LINE


cdef uint64_t _timestamp(const uint8_t *dgram) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, dgram, 8)         # low word nanoseconds, high word seconds: the 64-bit value itself
    return value


cdef int _service(const uint8_t *dgram) noexcept nogil:
    """The service of a dgram, that of an L1Accept_EndOfBatch being L1Accept: readers take both for events."""
    cdef int service = dgram[11] & 0xf
    return L1_ACCEPT if service == END_OF_BATCH else service


cdef void _make_plain(uint8_t *dgram) noexcept nogil:
    """Make an L1Accept of an L1Accept_EndOfBatch, where it stands."""
    dgram[11] = (dgram[11] & 0xf0) | _service(dgram)


cdef void _stamp_env(uint8_t *dgram, uint32_t env) noexcept nogil:
    """Replace all of env but type and service."""
    memcpy(dgram + 8, &env, 3)


cdef size_t _dgram_bytes(const uint8_t *dgram) noexcept nogil:
    cdef uint32_t extent
    memcpy(&extent, dgram + 20, 4)
    return 12 + <size_t>extent


cdef class SlotBatch:
    """Free slots for a source to put dgrams into, in order."""

    def __cinit__(self, Pebble pebble, gate):
        self.pebble = pebble
        self.gate = gate
        self.events = <int32_t *>calloc(BATCH, sizeof(int32_t))
        self.transitions = <int32_t *>calloc(BATCH, sizeof(int32_t))
        self.filled = <int32_t *>calloc(2 * BATCH, sizeof(int32_t))
        self.children = <Child *>calloc(MAX_CHILDREN, sizeof(Child))
        if self.events == NULL or self.transitions == NULL or self.filled == NULL or self.children == NULL:
            raise MemoryError("no memory for a batch of slots")
        self.budget = -1

    def __dealloc__(self):
        free(self.events)
        free(self.transitions)
        free(self.filled)
        free(self.children)

    @property
    def events_free(self) -> int:
        """L1Accepts that can be put now: free slots, or what is left of the events wanted."""
        if self.held:
            return 0
        return self.n_events if self.budget < 0 else min(self.n_events, self.budget)

    @property
    def transitions_free(self) -> int:
        """Transitions that can be put now, those the gate adds included."""
        return self.n_transitions

    @property
    def first_not_rising(self) -> tuple[int, int, int]:
        """Of the first event that is not later than the one before it in its run: its number, from 1, its time stamp and that of the one before."""
        return self.not_rising_event, self.not_rising_at, self.not_rising_after

    def limit(self, long long events) -> None:
        """Take at most `events` more L1Accepts; -1: no limit."""
        self.budget = events

    def put(self, dgram, uint64_t pulse_id=0) -> bool:
        """Copy one whole dgram (bytes-like, header included) into the next slot of its kind.

        False: no slot is free now, offer it again later. SourceError: it is no dgram, or no slot can ever hold it.
        """
        cdef Py_buffer view
        cdef const uint8_t *start
        cdef int service
        cdef uint64_t timestamp
        cdef int32_t slot
        PyObject_GetBuffer(dgram, &view, PyBUF_SIMPLE)
        try:
            start = <const uint8_t *>view.buf
            if view.len < DGRAM_BYTES or _dgram_bytes(start) != <size_t>view.len:
                raise SourceError(f"what the source put is no dgram: {view.len} bytes, header asks for "
                                  f"{_dgram_bytes(start) if view.len >= DGRAM_BYTES else DGRAM_BYTES}")
            service = _service(start)
            timestamp = _timestamp(start)
            self._check_size(service, view.len)
            if not self._make_way(service, timestamp):
                return False
            slot = self._take(service)
            self._copy(slot, start, view.len, timestamp)
            self._enter(slot, pulse_id, False)
            self._passed(service, timestamp)
            return True
        finally:
            PyBuffer_Release(&view)

    def close_run(self) -> bool:
        """Put the transitions that end the run properly. False: not all have a slot now; call again later."""
        self._catch_up()
        steps = self.gate.closing()
        if len(steps) > self.n_transitions:
            return False
        for step in steps:
            self._synthesise(step.service, step.timestamp)
        return True

    def pause(self) -> bool:
        """Put a Disable and an Enable between two events, for whoever needs a transition there. False: not in a step, or no slots now."""
        if not self.open or self.n_transitions < 2:
            return False
        for service in (DISABLE, ENABLE):
            self._catch_up()
            self._synthesise(service, add_ns(self.last_timestamp, 1))
        return True

    cdef int put_c(self, const uint8_t *dgram, size_t size, uint64_t timestamp, uint64_t pulse_id, uint32_t env) noexcept nogil:
        """Copy an L1Accept or SlowUpdate: 1 put, 0 no slot now, -1 it needs put(). The copy gets `timestamp`, and groups and keepRaw of `env` where it
        is not 0.
        """
        cdef int service
        cdef int32_t slot
        if not self.open or size < DGRAM_BYTES or _dgram_bytes(dgram) != size:
            return -1
        service = _service(dgram)
        if service == L1_ACCEPT:
            if size > self.pebble.event_bytes:
                return -1
            if self.n_events == 0 or self.budget == 0 or self.held:
                return 0
        elif service == SLOW_UPDATE:
            if size > self.pebble.transition_bytes:
                return -1
            if self.n_transitions == 0:
                return 0
        else:
            return -1
        slot = self._take(service)
        self._copy(slot, dgram, size, timestamp)
        if env:
            _stamp_env(self.pebble.base + self.pebble.slots[slot].offset, env)
        self._enter(slot, pulse_id, False)
        return 1

    def _check_size(self, int service, size_t size):
        cdef size_t room = self.pebble.event_bytes if service == L1_ACCEPT else self.pebble.transition_bytes
        if size > room:
            option = "pebbleBufSize" if service == L1_ACCEPT else "trBufSize"
            raise SourceError(f"a dgram of {size} bytes (service {service}) does not fit its slot of {room} bytes; "
                              f"give -k {option}={size} or more")

    cdef int32_t _take(self, int service) noexcept nogil:
        if service == L1_ACCEPT:
            self.n_events -= 1
            return self.events[self.n_events]
        self.n_transitions -= 1
        return self.transitions[self.n_transitions]

    cdef int _make_way(self, int service, uint64_t timestamp) except -1:
        """Put what must go before a dgram that is to be put. 0: no room now, for that or for itself, and nothing was put."""
        if service == L1_ACCEPT and (self.n_events < 1 or self.budget == 0 or self.held):
            return 0
        if self.open and service in (L1_ACCEPT, SLOW_UPDATE):
            return 1 if service == L1_ACCEPT or self.n_transitions >= 1 else 0
        self._catch_up()
        steps = self.gate.before(service, timestamp)
        if len(steps) + (service != L1_ACCEPT) > self.n_transitions:
            return 0
        for step in steps:
            self._synthesise(step.service, step.timestamp)
        return 1

    def _synthesise(self, int service, uint64_t timestamp):
        cdef uint8_t dgram[DGRAM_BYTES]
        cdef uint32_t env = (<uint32_t>service << 24) | self.groups
        cdef uint32_t extent = 12
        cdef int32_t slot = self._take(service)
        memset(dgram, 0, DGRAM_BYTES)
        memcpy(dgram + 8, &env, 4)
        memcpy(dgram + 20, &extent, 4)
        self._copy(slot, dgram, DGRAM_BYTES, timestamp)
        self._enter(slot, 0, True)
        self._passed(service, timestamp, True)

    def _catch_up(self):
        """Tell the gate of the events that passed without asking it."""
        if self.n_passed:
            self.gate.accept_events(self.n_passed, self.last_timestamp)
            self.n_passed = 0

    def _passed(self, int service, uint64_t timestamp, bint synthesised=False):
        """Tell the gate, and learn whether events may now pass without asking it."""
        if self.open and service in (L1_ACCEPT, SLOW_UPDATE):
            return
        if service == L1_ACCEPT:
            self.n_passed = 0
        self.gate.accept(service, timestamp, synthesised=synthesised)
        self.open = self.gate.running
        self.held = self.await_enable and service == ENABLE
        if service == BEGIN_RUN:
            self.index = 0

    cdef void _copy(self, int32_t slot, const uint8_t *dgram, size_t size, uint64_t timestamp) noexcept nogil:
        cdef uint8_t *target = self.pebble.base + self.pebble.slots[slot].offset
        memcpy(target, dgram, size)
        memcpy(target, &timestamp, 8)
        _make_plain(target)

    cdef void _look_inside(self, Slot *s) noexcept nogil:
        """Mark a SlowUpdate Corrupted whose extents do not add up. It is recorded as it lies in its slot, and nobody else would."""
        cdef uint32_t where
        cdef int n = walk_children(self.pebble.base + s.offset, s.size, self.children, MAX_CHILDREN, &where)
        if n < 0 and n != WALK_TOO_MANY:
            s.damage |= CORRUPTED
            memcpy(self.pebble.base + s.offset + 16, &s.damage, 2)
            self.n_malformed += 1

    cdef void _follow(self, uint64_t timestamp) noexcept nogil:
        """Count an event that is not later than the one before it in its run, and keep what the first of those was."""
        if self.follows and timestamp <= self.event_timestamp:
            if self.n_not_rising == 0:
                self.not_rising_event = self.n_events_put
                self.not_rising_at = timestamp
                self.not_rising_after = self.event_timestamp
            self.n_not_rising += 1
        self.follows = True
        self.event_timestamp = timestamp

    cdef void _enter(self, int32_t slot, uint64_t pulse_id, bint synthesised) noexcept nogil:
        cdef Slot *s = &self.pebble.slots[slot]
        cdef const uint8_t *dgram = self.pebble.base + s.offset
        memcpy(&s.timestamp, dgram, 8)
        memcpy(&s.env, dgram + 8, 4)
        memcpy(&s.damage, dgram + 16, 2)
        s.size = <uint32_t>_dgram_bytes(dgram)
        s.service = (s.env >> 24) & 0xf
        s.pulse_id = pulse_id
        s.synthesised = synthesised
        if s.service == L1_ACCEPT:
            s.index = self.index
            self.index += 1
            self.n_events_put += 1
            self.n_passed += 1
            if self.budget > 0:
                self.budget -= 1
            self._follow(s.timestamp)
        elif s.service == SLOW_UPDATE:
            self._look_inside(s)
        elif s.service == BEGIN_RUN:
            self.follows = False
        self.groups = s.env & 0xffff
        self.last_timestamp = s.timestamp
        self.filled[self.n_filled] = slot
        self.n_filled += 1
