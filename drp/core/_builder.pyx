"""Build events by pulse id out of what contributors say, in order, with a limit to how long anybody is waited for.

It knows no socket and no clock: contributions go in with the time they came at, built events come out, verdicts go in, and come out for each
contributor. What it must hold to, and why an event may be complete without all, is in docs/event_building.md. One thread uses it; while it
works on a batch it lets go of Python's lock.

An event is an entry of one table and goes through its states one way: pending (in a list sorted by pulse id), ready (built, to be taken), taken
(its verdict is awaited), judged (remembered for those who come late, until its entry is wanted). A contribution that has no verdict yet lies
in one of its contributor's blocks. Both tables are made once: nothing that comes in can make them grow.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from drp.core._contributors cimport CONTRIBUTION_BYTES, Contributor, Contributors
from drp.core._event_table cimport JUDGED, NONE, PENDING, READY, TAKEN, Event

import numpy as np

from drp.core.batch import EVENT
from drp.core.building import COUNTERS, DEFAULT_WINDOW, MAX_EVENTS, MAX_STRIDE, Batch, Transition

cdef enum:
    N_GROUPS = 16
    SAME_BITS = 0x0f40ffff            # service, keepRaw and readout groups: equal in all contributions of an event
    SLOW_UPDATE = 10
    L1_ACCEPT = 12
    FAILED = 2                        # wire.Contributed
    OUT_OF_ORDER = 2                  # damage
    OUT_OF_SYNCH = 4
    DROPPED = 16
    LATE = 1                          # building.Answer
    UNASKED = 2
    PERSIST = 2                       # wire

cdef enum:                            # building.COUNTERS
    EVENTS, INCOMPLETE, EXPIRED, NOT_RISING, TRANSITIONS, INCOMPLETE_TRANSITIONS, CONTRIBUTIONS, JOINED, LATE_ONES, REPEATED, UNASKED_ONES,
    OUT_OF_ORDER_ONES, OUT_OF_SYNCH_ONES, FORGOTTEN, BLOCKED, N_COUNTERS

cdef packed struct Contribution:      # wire.CONTRIBUTION
    uint64_t seq
    uint64_t pulse_id
    uint64_t timestamp
    uint32_t env
    uint16_t damage
    uint16_t flags

cdef packed struct Row:               # batch.EVENT
    uint64_t number
    uint64_t pulse_id
    uint64_t timestamp
    uint32_t env
    uint16_t damage
    uint16_t flags
    uint64_t present
    uint64_t missing

cdef class EventBuilder(Contributors):
    """Build events of `contributors`, {id: number of its readout group}: bit i of all masks is the i-th of them.

    `timeout_ns`: how long an event, or a SlowUpdate, waits for those who have not said whether they have it; `transition_timeout_ns` the same for
    other transitions. `window`: contributions that each may have without a verdict. `max_events`: entries of the table, what is remembered included.
    """

    cdef uint64_t groups[N_GROUPS]    # contributors by readout group
    cdef uint64_t gone_mask
    cdef uint64_t timeout_ns
    cdef uint64_t transition_timeout_ns
    cdef uint64_t due_ns              # no event is due before
    cdef bint hasty                   # something was opened that is due at once
    cdef uint64_t n_opened
    cdef uint64_t n_built
    cdef uint64_t built_last
    cdef bint built_transition
    cdef uint64_t counters[N_COUNTERS]

    def __cinit__(
        self, contributors, uint64_t timeout_ns, uint64_t transition_timeout_ns=0, uint32_t window=DEFAULT_WINDOW, int32_t max_events=0,
    ):
        cdef int i
        self.timeout_ns = timeout_ns
        self.transition_timeout_ns = transition_timeout_ns or timeout_ns
        self.due_ns = <uint64_t>-1
        for i in range(self.n):
            self.groups[self.who[i].group] |= <uint64_t>1 << i

    # What contributors say.

    def add(self, int contributor, const uint8_t[::1] payload, uint32_t count, uint32_t stride, uint64_t now_ns) -> int:
        """Take `count` contributions of `stride` bytes each (wire.CONTRIBUTION and words), in the order in which they were said.

        Returns how many were taken: those after it find no room and have to be offered again when verdicts were given or collected, or time has passed.
        """
        cdef int i = self.position(contributor)
        cdef uint32_t taken = 0
        if not CONTRIBUTION_BYTES <= stride <= MAX_STRIDE or <size_t>payload.shape[0] != <size_t>count * stride:
            raise ValueError(f"{payload.shape[0]} bytes are not {count} contributions of {stride}")
        if count == 0:
            return 0
        with nogil:
            while taken < count and self._take_in(i, &payload[taken * stride], stride, now_ns, 0):
                taken += 1
            self._settle(now_ns)
        self.counters[BLOCKED] += taken < count
        return taken

    def add_transition(self, int contributor, const uint8_t[::1] record, uint64_t now_ns) -> bool:
        """Take one contribution to a transition or SlowUpdate, whose service stands in its env; False: no room, offer it again."""
        cdef int i = self.position(contributor)
        cdef bint taken
        if record.shape[0] != CONTRIBUTION_BYTES:
            raise ValueError(f"{record.shape[0]} bytes are no contribution")
        with nogil:
            taken = self._take_in(i, &record[0], CONTRIBUTION_BYTES, now_ns, 1)
            self._settle(now_ns)
        self.counters[BLOCKED] += not taken
        return taken

    def gone(self, int contributor) -> None:
        """Wait for this contributor no longer, neither now nor in events to come. What it says all the same is answered, and part of no event."""
        cdef int i = self.position(contributor)
        self.who[i].gone = 1
        self.gone_mask |= <uint64_t>1 << i
        with nogil:
            self._build()

    def back(self, int contributor) -> None:
        """Wait for this contributor (again): it has begun anew, and awaits no verdict on what it said before."""
        cdef int i = self.position(contributor)
        cdef Contributor *who = &self.who[i]
        who.gone = who.astray = 0
        self.gone_mask &= ~(<uint64_t>1 << i)
        who.era += 1
        self.n_undelivered += who.n_out
        who.n_out = 0

    def expire(self, uint64_t now_ns) -> None:
        """Build what has waited for its time."""
        with nogil:
            self._expire(now_ns)

    # What comes of it.

    def take(self, int32_t limit=MAX_EVENTS) -> Batch | Transition | None:
        """Return the next built events, at most `limit` and none beyond a transition; or the transition that is next; or None."""
        cdef int32_t slot = self.ready.first
        cdef int32_t n = 0
        cdef uint8_t *rows[64]
        cdef uint8_t[:, ::1] row
        cdef uint8_t[::1] raw
        cdef int i
        if limit < 0:
            raise ValueError(f"a batch of at most {limit} events")
        if slot == NONE:
            return None
        if self.events[slot].transition:
            return self._take_transition()
        while slot != NONE and n < limit and not self.events[slot].transition:
            n += 1
            slot = self.events[slot].after
        if n == 0:
            return None
        raw = out = np.empty(n * EVENT.itemsize, np.uint8)
        blocks = tuple([np.zeros((n, self.who[i].stride), np.uint8) for i in range(self.n)])
        for i in range(self.n):
            row = blocks[i]
            rows[i] = &row[0, 0]
        with nogil:
            self._fill(<Row *>&raw[0], rows, n)
        return Batch(out.view(EVENT), blocks)

    def judge(self, const uint32_t[::1] results) -> None:
        """Give the results (wire.VERDICT) of the events that were taken and have none yet, the first of them first."""
        cdef Py_ssize_t i, n = results.shape[0]
        if n > self.taken.n:
            raise ValueError(f"{n} results for {self.taken.n} events")
        with nogil:
            for i in range(n):
                self._judge(results[i])

    def counts(self) -> dict:
        """Return what was counted, by the names of building.COUNTERS."""
        return {name: self.counters[i] for i, name in enumerate(COUNTERS)} | {"undelivered": self.n_undelivered}

    def counts_of(self, int contributor) -> dict:
        """Return, of one contributor, the events it was `missing` in, how often it was `late` or `out_of_order`, and whether its clock is `astray`."""
        cdef Contributor *who = &self.who[self.position(contributor)]
        return {"missing": who.n_missing, "late": who.n_late, "out_of_order": who.n_out_of_order, "astray": bool(who.astray)}

    @property
    def n_pending(self) -> int:
        """Events, and transitions, that somebody is waited for."""
        return self.pending.n

    @property
    def n_ready(self) -> int:
        """Events, and transitions, that can be taken."""
        return self.ready.n

    @property
    def next_service(self) -> int | None:
        """Service of what take() gives next, that of an L1Accept for events; None: nothing."""
        if self.ready.first == NONE:
            return None
        return self.events[self.ready.first].env >> 24 & 0xf if self.events[self.ready.first].transition else L1_ACCEPT

    @property
    def n_taken(self) -> int:
        """Events that were taken and have no verdict yet."""
        return self.taken.n

    @property
    def next_due_ns(self) -> int | None:
        """When expire() is to be called at the latest, None where nothing waits."""
        return self.due_ns if self.pending.n else None

    # Within.

    cdef void _settle(self, uint64_t now_ns) noexcept nogil:
        if self.hasty:
            self._expire(now_ns)
        else:
            self._build()

    cdef bint _take_in(self, int i, const uint8_t *at, uint32_t stride, uint64_t now_ns, bint transition) noexcept nogil:
        """Give one contribution its place; 0: there is none."""
        cdef Contributor *who = &self.who[i]
        cdef Contribution said
        cdef Event *event
        cdef int32_t slot
        cdef uint64_t bit = <uint64_t>1 << i
        cdef uint16_t own = 0
        memcpy(&said, at, sizeof(Contribution))
        if not transition and who.in_use + who.n_out >= self.window:
            return 0
        if who.begun and said.pulse_id <= who.last:
            own = OUT_OF_ORDER
        if said.pulse_id < who.astray_from:
            who.astray = 0
        slot = self.find(said.pulse_id, transition)
        if slot == NONE and not who.gone:
            slot = self._open(i, &said, now_ns, transition)
            if slot == NONE:
                return 0
        if slot == NONE:
            self.counters[UNASKED_ONES] += 1
            if not transition:
                self.answer(who, said.seq, said.pulse_id, PERSIST, own, UNASKED)
        else:
            event = &self.events[slot]
            if event.state == PENDING and not event.present & bit and not who.gone:
                self._join(i, slot, &said, at, stride, own)
            else:
                if who.gone:
                    self.counters[UNASKED_ONES] += 1
                elif event.present & bit:
                    self.counters[REPEATED] += 1
                    own = OUT_OF_ORDER
                else:
                    self.counters[LATE_ONES] += 1
                    who.n_late += 1
                if not transition:
                    self._come_late(i, event, &said, own)
        if own:
            self.counters[OUT_OF_ORDER_ONES] += 1
            who.n_out_of_order += 1
        self.counters[CONTRIBUTIONS] += 1
        who.last = said.pulse_id
        who.begun = 1
        return 1

    cdef void _join(self, int i, int32_t slot, const Contribution *said, const uint8_t *at, uint32_t stride, uint16_t own) noexcept nogil:
        cdef Event *event = &self.events[slot]
        cdef Contributor *who = &self.who[i]
        cdef int32_t block
        if said.timestamp != event.timestamp or (said.env ^ event.env) & SAME_BITS:
            event.damage |= OUT_OF_SYNCH
            self.counters[OUT_OF_SYNCH_ONES] += 1
        event.contract |= self._contract(said.env, event.transition) | <uint64_t>1 << i
        event.present |= <uint64_t>1 << i
        event.incoming |= said.damage
        if said.flags & FAILED:
            event.flags |= 1
        if not event.transition:
            block = self.keep(i, at, stride, own)
            self.blocks_of[<size_t>slot * self.n + i] = block
        if event.born > who.active:
            who.active = event.born
        if event.opener != i:
            who.astray = 0
        self.counters[JOINED] += 1

    cdef void _come_late(self, int i, Event *event, const Contribution *said, uint16_t own) noexcept nogil:
        """Answer a contribution that is no part of its event, or have it wait until that has its verdict."""
        cdef int32_t block
        if event.state == JUDGED:
            self.answer(&self.who[i], said.seq, said.pulse_id, event.result, event.damage | own, LATE)
            return
        block = self.keep(i, <const uint8_t *>said, CONTRIBUTION_BYTES, own)
        self.blocks[<size_t>i * self.window + block].next = event.late
        event.late = <int32_t>(i * self.window) + block

    cdef uint64_t _contract(self, uint32_t env, bint transition) noexcept nogil:
        """Whom an event with this env waits for."""
        cdef uint64_t out = 0
        cdef int group
        if transition:
            return <uint64_t>-1 >> (64 - self.n)
        for group in range(N_GROUPS):
            if env >> group & 1:
                out |= self.groups[group]
        return out

    cdef int32_t _open(self, int i, const Contribution *said, uint64_t now_ns, bint transition) noexcept nogil:
        """Make an event where there is none yet; NONE: the table is full of events that are not judged."""
        cdef Contributor *who = &self.who[i]
        cdef int32_t slot = self._entry()
        cdef Event *event
        cdef int32_t near = NONE
        cdef uint64_t wait_ns = self.timeout_ns
        if slot == NONE:
            return NONE
        event = &self.events[slot]
        if transition and (said.env >> 24 & 0xf) != SLOW_UPDATE:
            wait_ns = self.transition_timeout_ns
        self.n_opened += 1
        event.pulse_id = said.pulse_id
        event.timestamp = said.timestamp
        event.env = said.env
        event.born = self.n_opened
        event.number = 0
        event.contract = self._contract(said.env, transition)
        event.present = event.missing = 0
        event.damage = event.incoming = event.flags = 0
        event.transition = transition
        event.state = PENDING
        event.late = NONE
        event.opener = i
        if who.astray and self._is_reached(event, who.astray_from, i):
            who.astray = 0
        if who.astray:
            self.hasty = 1
            wait_ns = 0
        event.due_ns = now_ns + wait_ns
        if event.due_ns < self.due_ns:
            self.due_ns = event.due_ns
        self.index_in(slot)
        if who.hint != NONE and self.events[who.hint].born == who.hint_born and self.events[who.hint].state == PENDING:
            near = who.hint
        self.sort_in(slot, near)
        who.hint = slot
        who.hint_born = event.born
        return slot

    cdef bint _is_reached(self, const Event *event, uint64_t pulse_id, int but) noexcept nogil:
        """Say whether another contributor of an event has come to this pulse id."""
        cdef int i
        for i in range(self.n):
            if i != but and event.contract >> i & 1 and not self.who[i].gone and self.who[i].begun and self.who[i].last >= pulse_id:
                return 1
        return 0

    cdef bint _awaits(self, const Event *event, int i) noexcept nogil:
        """Say whether a contributor that has not contributed to an event may still do so: it has said nothing later."""
        cdef Contributor *who = &self.who[i]
        return not who.gone and not (who.begun and who.last >= event.pulse_id)

    cdef bint _awaits_any(self, const Event *event, uint64_t of) noexcept nogil:
        cdef int i = 0
        while of:
            if of & 1 and self._awaits(event, i):
                return 1
            of >>= 1
            i += 1
        return 0

    cdef void _build(self) noexcept nogil:
        """Build the first of the pending events while nobody is waited for."""
        cdef Event *event
        while self.pending.first != NONE:
            event = &self.events[self.pending.first]
            if self._awaits_any(event, event.contract & ~event.present & ~self.gone_mask):
                return
            self._make_ready(self.pending.first)

    cdef void _expire(self, uint64_t now_ns) noexcept nogil:
        cdef int32_t slot = self.pending.first
        cdef int32_t after
        cdef Event *event
        self.hasty = 0
        if now_ns >= self.due_ns:
            self.due_ns = <uint64_t>-1
            while slot != NONE:
                event = &self.events[slot]
                after = event.after
                if event.due_ns <= now_ns:
                    self._suspect(event)
                    self.counters[EXPIRED] += 1
                    self._make_ready(slot)
                elif event.due_ns < self.due_ns:
                    self.due_ns = event.due_ns
                slot = after
        self._build()

    cdef void _suspect(self, Event *event) noexcept nogil:
        """Call a contributor's clock astray where nobody came to its event though somebody who should is at work, on younger and earlier ones."""
        cdef int i
        cdef Contributor *who = &self.who[event.opener]
        if event.present != <uint64_t>1 << event.opener:
            return
        for i in range(self.n):
            if i != event.opener and event.contract >> i & 1 and self._awaits(event, i) and self.who[i].active > event.born:
                who.astray = 1
                who.astray_from = event.pulse_id
                return

    cdef void _make_ready(self, int32_t slot) noexcept nogil:
        cdef Event *event = &self.events[slot]
        cdef int i
        self.unsort(slot)
        event.state = READY
        event.missing = event.contract & ~event.present & ~self.gone_mask
        if event.missing:
            event.damage |= DROPPED
            self.counters[INCOMPLETE_TRANSITIONS if event.transition else INCOMPLETE] += 1
            for i in range(self.n):
                self.who[i].n_missing += event.missing >> i & 1
        if event.pulse_id < self.built_last or (
            event.pulse_id == self.built_last and self.n_built and not (self.built_transition and not event.transition)
        ):
            event.damage |= OUT_OF_ORDER
            self.counters[NOT_RISING] += 1
        self.built_last = event.pulse_id
        self.built_transition = event.transition
        self.n_built += 1
        if event.transition:
            self.counters[TRANSITIONS] += 1
        else:
            self.counters[EVENTS] += 1
            event.number = self.counters[EVENTS]
        self.append(&self.ready, slot)

    cdef object _take_transition(self):
        cdef int32_t slot = self.pop(&self.ready)
        cdef Event *event = &self.events[slot]
        cdef int i
        out = Transition(
            event.env >> 24 & 0xf, event.pulse_id, event.timestamp, event.env,
            tuple([self.who[i].id for i in range(self.n) if event.present >> i & 1]),
            tuple([self.who[i].id for i in range(self.n) if event.missing >> i & 1]),
        )
        self._remember(slot)
        return out

    cdef void _fill(self, Row *out, uint8_t **rows, int32_t n) noexcept nogil:
        """Copy the next built events out, and have them wait for their verdicts."""
        cdef int32_t k, slot, block
        cdef Event *event
        cdef Contributor *who
        cdef int i
        for k in range(n):
            slot = self.pop(&self.ready)
            event = &self.events[slot]
            out[k].number = event.number
            out[k].pulse_id = event.pulse_id
            out[k].timestamp = event.timestamp
            out[k].env = event.env
            out[k].damage = event.damage | event.incoming
            out[k].flags = event.flags
            out[k].present = event.present
            out[k].missing = event.missing
            for i in range(self.n):
                if event.present >> i & 1:
                    who = &self.who[i]
                    block = self.blocks_of[<size_t>slot * self.n + i]
                    memcpy(rows[i] + <size_t>k * who.stride, who.data + <size_t>block * who.room, who.stride)
            event.state = TAKEN
            self.append(&self.taken, slot)

    cdef void _judge(self, uint32_t result) noexcept nogil:
        cdef int32_t slot = self.pop(&self.taken)
        cdef Event *event = &self.events[slot]
        cdef int i
        cdef int32_t late = event.late
        event.result = result
        for i in range(self.n):
            if event.present >> i & 1:
                self.settle_block(i, self.blocks_of[<size_t>slot * self.n + i], event, 0)
        event.late = NONE
        while late != NONE:
            i = late // <int>self.window
            late = self.settle_block(i, late % <int>self.window, event, LATE)
        self._remember(slot)

    # What is remembered of events that have their verdict.

    cdef void _remember(self, int32_t slot) noexcept nogil:
        cdef Event *event = &self.events[slot]
        event.state = JUDGED
        self.append(&self.owed if self._awaits_any(event, event.missing) else &self.done, slot)

    cdef int32_t _entry(self) noexcept nogil:
        """Return a free entry: the oldest that nobody can come too late for any more, or else the oldest that is judged."""
        cdef int32_t slot = self.free_entry
        cdef Event *event
        if slot != NONE:
            self.free_entry = self.events[slot].after
            return slot
        slot = self.owed.first
        if slot != NONE:
            event = &self.events[slot]
            if self.done.first == NONE or not self._awaits_any(event, event.missing):
                self.counters[FORGOTTEN] += self._awaits_any(event, event.missing)
                self.pop(&self.owed)
                self.index_out(slot)
                return slot
        slot = self.done.first
        if slot != NONE:
            self.pop(&self.done)
            self.index_out(slot)
        return slot
