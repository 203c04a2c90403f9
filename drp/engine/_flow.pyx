"""The flow of dgrams through a drp process: one lock, three threads that work without the GIL.

* the source's thread borrows free slots, lets the source fill them, and hands them in;
* the engine's thread collects answers, dispatches, and lets pass what is done and next in order;
* the recorder's thread writes what may pass, and gives slots and arena back.

The main thread decides: it takes notices, and calls in here to open, bury and feed workers and to finish transitions. All tables are under one
lock that is never held over a system call but a wake-up. A thread with nothing to do announces its sleep on its bell, looks once more, and
sleeps at most 20 ms. Only the engine's bell lies in shared memory, so that workers can ring it. While all workers have many events in flight the
engine sleeps for a fraction of that work instead of asking to be woken for every answer: switching threads costs more than what they do.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from drp.engine._collect cimport N_NOTICES, NOTICE_BARRIER, Notice, waits_for_arena
from drp.engine._dispatch cimport MAX_PORTS, ROOM_FOR_TRANSITIONS
from drp.engine._judging cimport Judging
from drp.engine._order cimport ITEM_DONE, MAX_ENVIRONMENT, Item
from drp.shm._block cimport NamesTable
from drp.shm._layout cimport ENTRY_REPLAY, ENTRY_STOP, RING_DEPTH, Bell, InEntry
from drp.shm._pebble cimport Pebble, Slot, SlotBatch
from drp.shm._port cimport Port, PortState, Sent, port_look, port_push, port_ring, port_room
from drp.shm._sys cimport (
    sys_add32, sys_fence, sys_futex_wait, sys_load32, sys_load64, sys_now_ns, sys_sleep_ns, sys_store32)
from drp.sink._l1 cimport L1Recorder

from drp.engine.notices import Kind
from drp.engine.notices import Notice as make_notice
from drp.shm._segment import create

cdef enum:
    SLEEP_NS = 20000000
    COALESCE_EVENTS = 16             # a worker that has fewer in flight may soon be idle
    COALESCE_PART = 4
    MIN_COALESCE_NS = 20000          # below that a sleep costs more than it saves
    MAX_COALESCE_NS = 250000
    MAX_TRANSITION_SLOTS = ROOM_FOR_TRANSITIONS - 2 * MAX_ENVIRONMENT


cdef class Text:
    """What a notice says: memory taken over from it, given back with the last view. Nobody has it beside, so it may be written."""

    cdef uint8_t *start
    cdef Py_ssize_t size

    def __dealloc__(self):
        free(self.start)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 0, flags)


cdef class Flow(Judging):
    """All that is on its way. `notify_fd` is an eventfd written to when there are notices for the main thread."""

    def __cinit__(self, Pebble pebble, L1Recorder recorder, int notify_fd):
        if pebble.n_transitions > MAX_TRANSITION_SLOTS:
            raise ValueError(f"{pebble.n_transitions} slots for transitions: a ring has room for {MAX_TRANSITION_SLOTS}")
        self.bells = create(4096)
        self.engine_bell = <Bell *>self.bells.base
        self.held = {}
        self.blobs = {}

    cdef int _pass(self) noexcept nogil:
        """One round of the engine; returns how much was done."""
        cdef uint64_t now_ns = sys_now_ns()
        cdef Notice *notice
        cdef uint32_t notices = self.next_notice
        cdef uint64_t judged
        cdef int answers, moved
        self.enter()
        judged = self.judged_next
        answers = self.collect(now_ns)
        moved = self.dispatch(now_ns)
        if self.barrier and self.owing == 0 and not self.barrier_told:
            self.barrier_told = 1
            notice = &self.notices[self.next_notice % N_NOTICES]
            memset(notice, 0, sizeof(Notice))
            notice.kind = NOTICE_BARRIER
            notice.seq = self.barrier
            notice.service = self.item(self.barrier).service
            self.next_notice += 1
        if self.retire():
            moved += 1
            self._passed(judged)
            if self.judged_groups:
                self.call_judge()
        if self.source_held and self.barrier == 0 and self.dispatch_next == self.submit_next:
            self.source_held = 0
            self.ring(&self.source_bell)
        if self.lacks_transitions and self.n_free_transitions and self.n_free_events >= self.lacks_events:
            self.lacks_transitions = 0
            self.ring(&self.source_bell)
        notices = self.next_notice - notices
        self.leave()
        if notices:
            self.notify()
        return answers + moved

    cdef bint _has_work(self) noexcept nogil:
        """Whether an answer has come or there is news, looked at once more after the sleep was announced."""
        cdef int i
        cdef PortState *p
        cdef bint found = sys_load32(&self.news) != self.seen_news
        self.enter()
        for i in range(self.n_ports):
            p = self.ports[i]
            if p != NULL and not p.dead and not p.failed and sys_load64(&p.header.out_head) != p.answered:
                found = 1
                break
        self.leave()
        return found

    cdef uint64_t _coalesce_ns(self) noexcept nogil:
        """How long no worker runs out of events: a part of the work of the one that has least, 0 where that is not worth a sleep."""
        cdef int i
        cdef PortState *p
        cdef double work_ns
        cdef double least_ns = MAX_COALESCE_NS * COALESCE_PART
        cdef bint any = 0
        self.enter()
        for i in range(self.n_ports):
            p = self.ports[i]
            if p == NULL or not p.fed:
                continue
            work_ns = p.events * p.service_ns if p.events >= COALESCE_EVENTS else 0
            least_ns = min(least_ns, work_ns)
            any = 1
        self.leave()
        least_ns /= COALESCE_PART
        return <uint64_t>least_ns if any and least_ns >= MIN_COALESCE_NS else 0

    def run_engine(self) -> None:
        """Collect and dispatch until stop(). Run it in a thread of its own; the GIL is never taken."""
        cdef int done
        cdef uint32_t word
        cdef uint64_t pause_ns
        with nogil:
            while not sys_load32(&self.stopping):
                self.seen_news = sys_load32(&self.news)
                done = self._pass()
                if sys_load32(&self.wanted):
                    sys_sleep_ns(1000)
                if done:
                    pause_ns = self._coalesce_ns()
                    if pause_ns:
                        sys_sleep_ns(pause_ns)
                    continue
                word = sys_load32(&self.engine_bell.word)
                sys_store32(&self.engine_bell.asleep, 1)
                sys_fence()
                if not self._has_work():
                    if sys_futex_wait(&self.engine_bell.word, word, SLEEP_NS) == ETIMEDOUT and self._has_work():
                        self.rescued[0] += 1
                sys_store32(&self.engine_bell.asleep, 0)

    cdef void _news(self) noexcept nogil:
        """Tell the engine that something other than an answer has changed."""
        sys_add32(&self.news, 1)
        self.ring(self.engine_bell)

    def turn(self) -> int:
        """Do one round of the engine's loop; returns how much was done."""
        return self._pass()

    def hand_in(self, SlotBatch batch, int wanted, double timeout_s) -> int:
        """Hand in what the batch was filled with and fill it up with free slots; wait until `wanted` event slots and one for a transition are there, and an
        Enable that holds the events back is answered.

        Returns the number of event slots in the batch, after at most `timeout_s`.
        """
        cdef uint64_t limit_ns = sys_now_ns() + <uint64_t>(timeout_s * 1e9)
        cdef uint64_t now_ns
        cdef uint32_t word
        with nogil:
            while True:
                word = sys_load32(&self.source_bell.word)
                sys_store32(&self.source_bell.asleep, 1)
                sys_fence()
                self.enter()
                if batch.n_filled:
                    self.submit(batch, sys_now_ns())
                    self.leave()
                    self._news()
                    self.enter()
                self.lend(batch)
                self.lacks_events = max(wanted - batch.n_events, 0)
                self.lacks_transitions = batch.n_transitions == 0
                if self.barrier == 0 and self.dispatch_next == self.submit_next:
                    batch.held = 0
                self.source_held = batch.held
                self.leave()
                now_ns = sys_now_ns()
                if (batch.n_events >= wanted and batch.n_transitions and not batch.held) or now_ns >= limit_ns:
                    break
                if (sys_futex_wait(&self.source_bell.word, word, min(SLEEP_NS, limit_ns - now_ns)) == ETIMEDOUT
                        and now_ns + SLEEP_NS <= limit_ns and self._may_lend(batch, wanted)):
                    self.rescued[2] += 1
            sys_store32(&self.source_bell.asleep, 0)
        return batch.n_events

    cdef bint _may_lend(self, SlotBatch batch, int wanted) noexcept nogil:
        """Whether a wait for slots is over."""
        cdef bint enough
        self.enter()
        enough = batch.n_events + <int>self.n_free_events >= wanted and batch.n_transitions + <int>self.n_free_transitions
        self.leave()
        return enough

    def stop(self, give_up=False) -> None:
        """End both loops: the recorder when all that may be recorded is, or at once with `give_up`."""
        if give_up:
            sys_store32(&self.giving_up, 1)
        sys_store32(&self.stopping, 1)
        self._news()
        self.ring(&self.recorder_bell)
        self.ring(&self.source_bell)

    def declare(self, NamesTable table) -> None:
        """Say which Names results may add from now on; only while no event is in flight."""
        with nogil:
            self.enter_main()
        self.table = table
        self.leave()

    def add_port(self, Port port) -> int:
        """Take in a worker's rings; it gets nothing until it is opened. Returns its number here."""
        cdef int number
        with nogil:
            self.enter_main()
        number = self.n_ports
        for i in range(self.n_ports):
            if self.ports[i] == NULL:
                number = i
                break
        if number == MAX_PORTS:
            self.leave()
            raise ValueError(f"more than {MAX_PORTS} workers at once")
        self.ports[number] = &port.state
        self.held[number] = port
        if number == self.n_ports:
            self.n_ports += 1
        self.leave()
        return number

    def open_port(self, int number, bint fed, bint at_start=False) -> bool:
        """Let a worker have transitions, and events too if `fed`; `at_start`: only where no transition has gone out yet. Returns whether it has them.

        Not while a barrier stands.
        """
        cdef PortState *p
        cdef bint opened
        with nogil:
            self.enter_main()
            p = self.ports[number]
            opened = p != NULL and not p.failed and not p.dead and (self.dispatch_next == 1 or not at_start)
            if opened:
                p.open = 1
                p.fed = fed
            self.leave()
            self._news()
        return opened

    def seat_port(self, int number, list services) -> bool:
        """Show a worker the transitions in force of these kinds and let it have all that comes, at one blow; False, and nothing, while a barrier stands.

        A transition that is dispatched in between would be neither shown nor sent.
        """
        cdef bint seated
        with nogil:
            self.enter_main()
        seated = self.barrier == 0
        if seated:
            self._show(number, services)
            if self.ports[number] != NULL and not self.ports[number].failed and not self.ports[number].dead:
                self.ports[number].open = 1
                self.ports[number].fed = 1
        self.leave()
        if seated:
            self._news()
        return seated

    def replay(self, int number, list services) -> int:
        """Show a worker the transitions in force of the given kinds (services), oldest first; returns how many those were."""
        cdef int n
        with nogil:
            self.enter_main()
        n = self._show(number, services)
        self.leave()
        return n

    cdef int _show(self, int number, list services):
        cdef int i
        cdef int n = 0
        cdef int32_t slot
        if self.ports[number] == NULL:
            return 0
        for i in range(self.n_environment):
            slot = self.environment[i]
            if self.slots[slot].service in services and port_room(self.ports[number]) > 0:
                self.send(self.ports[number], slot, ENTRY_REPLAY)
                n += 1
        port_ring(self.ports[number])
        return n

    def replay_slot(self, int number, uint64_t seq) -> None:
        """Show a worker the transition `seq`, which is being answered or just was."""
        with nogil:
            self.enter_main()
            if self.ports[number] != NULL and port_room(self.ports[number]) > 0:
                self.send(self.ports[number], self.item(seq).slot, ENTRY_REPLAY)
                port_ring(self.ports[number])
            self.leave()

    def stop_port(self, int number) -> None:
        """Tell a worker to leave its loop and exit."""
        cdef InEntry entry
        memset(&entry, 0, sizeof(entry))
        entry.flags = ENTRY_STOP
        with nogil:
            self.enter_main()
            if self.ports[number] != NULL and port_room(self.ports[number]) > 0:
                self.ports[number].open = 0
                self.ports[number].fed = 0
                port_push(self.ports[number], &entry, -1)
                port_ring(self.ports[number])
            self.leave()

    def drain(self, int number) -> tuple:
        """Collect what a dead worker had published; returns what it held: (number in its ring, service, replay), and its good events.

        (0, 0, False) where it held nothing.
        """
        cdef PortState *p
        cdef Sent sent
        cdef uint64_t held = 0
        cdef uint64_t done = 0
        with nogil:
            self.enter_main()
            p = self.ports[number]
            if p != NULL and not p.dead:
                self._collect_port(number, sys_now_ns())
                sent = p.sent[p.answered % RING_DEPTH]
                held = p.answered + 1 if self.in_hand(number) else 0
                done = p.n_done
            self.leave()
            self._news()
        if not held:
            return 0, 0, False, done
        return held, sent.service, bool(sent.flags & ENTRY_REPLAY), done

    def bury(self, int number, int cause) -> int:
        """Settle what a dead and drained worker leaves. The event in hand goes out raw with `cause`, or with 0 is done again.

        Returns the number of the event that was damaged, or 0.
        """
        cdef uint64_t lost
        with nogil:
            self.enter_main()
            lost = self.bury_port(number, cause)
            self.leave()
            self._news()
        return lost

    def ask(self, int number) -> bool:
        """Ask a worker for the transition that is being answered, as one of those that must; False: there is none."""
        cdef PortState *p
        cdef bint asked = 0
        with nogil:
            self.enter_main()
            p = self.ports[number]
            if p != NULL and self.barrier and not self.finished and not p.owes and not p.failed and not p.dead:
                self.send(p, self.item(self.barrier).slot, 0)
                p.owes = self.barrier
                p.open = 1
                p.fed = 1
                self.owing += 1
                self.barrier_told = 0
                port_ring(p)
                asked = 1
            self.leave()
        return asked

    def assign(self, int number, int worker) -> None:
        """Say which worker a spare is from now on."""
        with nogil:
            self.enter_main()
            if self.ports[number] != NULL:
                self.ports[number].worker = worker
            self.leave()

    def pass_raw_on(self, bint on) -> None:
        """Let events pass raw and damaged, since no worker is left; or no longer."""
        self.pass_raw = on
        with nogil:
            self._news()

    def sweep_ports(self) -> None:
        """Let go of the segments of dead workers whose results are all recorded."""
        with nogil:
            self.enter_main()
        for number in list(self.held):
            if self.ports[number].dead and self.ports[number].first_block == self.ports[number].next_block:
                self.ports[number] = NULL
                del self.held[number]
        self.leave()

    def take_notices(self) -> list:
        """All notices since the last call, oldest first."""
        cdef Notice notice
        cdef Text text
        out = []
        while True:
            with nogil:
                self.enter_main()
                if self.first_notice == self.next_notice:
                    self.leave()
                    break
                notice = self.notices[self.first_notice % N_NOTICES]
                self.notices[self.first_notice % N_NOTICES].text = NULL
                self.first_notice += 1
                self.leave()
            text = Text()
            text.start = notice.text
            text.size = notice.text_bytes if notice.text != NULL else 0
            out.append(make_notice(
                Kind(notice.kind), notice.port, notice.seq, notice.service, notice.cause, notice.code, memoryview(text), notice.desc_bytes))
        return out

    def transition(self, uint64_t seq) -> tuple:
        """The dgram (copied) of the transition being answered, its pulse id, and whether drp made it."""
        cdef Slot *s = &self.slots[self.item(seq).slot]
        return memoryview(self.pebble.segment)[s.offset:s.offset + s.size].tobytes(), s.pulse_id, bool(s.synthesised)

    def finish_transition(self, uint64_t seq, big, smd) -> None:
        """Say what is recorded of the transition being answered (bytes-like; empty: nothing) and let it pass to the recorder."""
        cdef Item *item = self.item(seq)
        cdef const uint8_t[::1] big_view = big or b"\0"
        cdef const uint8_t[::1] smd_view = smd or b"\0"
        self.blobs[seq] = (big_view, smd_view)
        with nogil:
            self.enter_main()
        item.big_bytes = len(big)
        item.big = &big_view[0] if item.big_bytes else NULL
        item.smd_bytes = len(smd)
        item.smd = &smd_view[0] if item.smd_bytes else NULL
        self.finished = 1
        self.enter_environment(item.slot)
        item.state = ITEM_DONE
        self.leave()
        for old in [key for key in self.blobs if key < self.record_next]:
            del self.blobs[old]
        with nogil:
            self._news()

    @property
    def answering(self) -> int:
        """The service of the transition that workers may still be asked for, 0: there is none."""
        return self.item(self.barrier).service if self.barrier and not self.finished else 0

    @property
    def answered(self) -> bool:
        """Whether everybody who was asked has answered the transition."""
        return self.owing == 0

    @property
    def waiting_to_finish(self) -> bool:
        """Whether everything before the transition being answered is recorded."""
        return self.record_next == self.barrier

    def release_barrier(self) -> None:
        """Let what comes after the transition go out."""
        with nogil:
            self.enter_main()
            self.barrier = 0
            self.barrier_told = 0
            self.finished = 0
            self.leave()
            self._news()

    def wake_when_recorded(self, uint64_t seq) -> None:
        """Have the eventfd written to, once, as soon as `seq` is recorded."""
        cdef bint recorded
        with nogil:
            self.enter_main()
            recorded = self.record_next > seq
            if not recorded:
                self.waits_recorded = seq + 1
            self.leave()
            if recorded:
                self.notify()

    def ports_now(self) -> list:
        """For each live worker: (port, queued, taken, answered, service in hand or next, waits for arena, good events, service ns, waits since ns)."""
        cdef int i
        cdef PortState *p
        cdef uint64_t taken
        out = []
        with nogil:
            self.enter_main()
        for i in range(self.n_ports):
            p = self.ports[i]
            if p == NULL or p.dead:
                continue
            # At most one is in hand. Who waits for arena without holding any is not waiting for us.
            port_look(p, sys_now_ns())
            taken = min(max(p.taken, p.answered), p.answered + 1)
            out.append((i, p.pushed, taken, p.answered, p.sent[p.answered % RING_DEPTH].service if p.pushed > p.answered else 0,
                        waits_for_arena(p), p.n_done, p.service_ns))
        self.leave()
        return out

    def load(self) -> dict:
        """How full everything is, for the status line and the report."""
        with nogil:
            self.enter_main()
        out = {
            "waiting": self.submit_next - self.dispatch_next + self.n_redo,
            "in_flight": self.in_flight,
            "done_not_retired": self.dispatch_next - self.retire_next - self.in_flight,
            "to_judge": self.retire_next - self.judged_next,
            "to_record": self.judged_next - self.record_next,
            "slots_used": self.pebble.n_events - self.n_free_events,
            "transition_slots_used": self.pebble.n_transitions - self.n_free_transitions,
            "head": self.retire_next,
            "head_worker": self.item(self.retire_next).worker if self.retire_next < self.dispatch_next else 0xffff,
        }
        self.leave()
        return out
