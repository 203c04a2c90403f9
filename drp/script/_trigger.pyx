"""The hot path of a trigger script: events one at a time out of the batch in hand, and one decision for each.

Asking for the event after the last of a batch answers the batch. Contributions and words are read where they lie, in the pebble, as long as
their batch is in hand. The layout is that of `drp.core.batch`.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from drp.script._added cimport AddedData
from drp.script._event cimport Stream
from xtc._load cimport load16, load32, load64

from drp.core.batch import EVENT, EVENTS_AT, MAX_EVENTS
from drp.core.wire import CONTRIBUTION
from drp.script.errors import LinkError, ScriptError, StaleEventError, UnknownNameError, near_misses

cdef enum:
    END_OF_BATCH = 11
    HEADER_AT = 24                   # number u64, n_events u32, n_contributors u32, spare u64
    EVENT_BYTES = 48                 # number, pulse id, time stamp u64; env u32; damage, flags u16; present, missing u64
    PULSE_AT = 8
    STAMP_AT = 16
    ENV_AT = 24
    DAMAGE_AT = 28
    FLAGS_AT = 30                    # the same places in an event and in a contribution
    PRESENT_AT = 32
    MISSING_AT = 40
    WORDS_AT = 32                    # in a row
    HAS_WORDS = 1                    # flag of a contribution
    SHAPESDATA = 10
    XTC_BYTES = 12
    PRESCALE = 1
    PERSIST = 2
    MONITOR_SHIFT = 2
    MEBS = 0xF
    AUX_SHIFT = 8
    MAX_AUX = 0xFFFFFF

cdef enum Kind:
    U1, U2, U4, U8, I1, I2, I4, I8, F4, F8

KINDS = {"u1": U1, "u2": U2, "u4": U4, "u8": U8, "i1": I1, "i2": I2, "i4": I4, "i8": I8, "f4": F4, "f8": F8}

assert (EVENT.itemsize, CONTRIBUTION.itemsize, EVENTS_AT) == (EVENT_BYTES, WORDS_AT, 48)


cdef object number(const uint8_t *at, uint8_t kind):
    """One word as a Python number."""
    cdef float single
    cdef double real
    if kind == U4:
        return load32(at)
    if kind == F8:
        memcpy(&real, at, 8)
        return real
    if kind == F4:
        memcpy(&single, at, 4)
        return single
    if kind == U1:
        return at[0]
    if kind == U2:
        return load16(at)
    if kind == U8:
        return load64(at)
    if kind == I1:
        return <int8_t>at[0]
    if kind == I2:
        return <int16_t>load16(at)
    if kind == I4:
        return <int32_t>load32(at)
    return <int64_t>load64(at)


cdef class Member:
    """One contributor of the Configure in force: `alias`, `id`, readout `group`, and where its words are."""

    def __cinit__(self, contributor, uint32_t place):
        cdef uint32_t i = 0
        dtype = contributor.dtype
        self.alias = contributor.alias
        self.id = contributor.id
        self.group = contributor.group
        self.place = place
        self.stride = contributor.stride
        self.words_bytes = dtype.itemsize if contributor.words else 0
        self.index = {}
        self.offsets = <uint32_t *>calloc(len(contributor.words) + 1, sizeof(uint32_t))
        self.kinds = <uint8_t *>calloc(len(contributor.words) + 1, 1)
        if not self.offsets or not self.kinds:
            raise MemoryError
        for name, _ in contributor.words:
            kind, self.offsets[i] = dtype.fields[name][:2]
            self.kinds[i] = KINDS[kind.str[1:]]
            self.index[name] = i
            i += 1

    def __dealloc__(self):
        free(self.offsets)
        free(self.kinds)

    @property
    def words(self):
        """The names of its words."""
        return tuple(self.index)


@cython.freelist(16)
@cython.final
cdef class Words:
    """The trigger words of one contributor in one event, as attributes. It is false where the contributor gave none."""

    cdef TriggerEvent event
    cdef Member member

    def __getattr__(self, name):
        cdef Member member = self.member
        cdef const uint8_t *row
        place = member.index.get(name)
        if place is None:
            raise AttributeError(f"{member.alias} has no trigger word {name!r}. {near_misses(name, member.index)}")
        row = self.event.row(member)
        if not load16(row + FLAGS_AT) & HAS_WORDS:
            raise ScriptError(
                f"{member.alias} gave no trigger words in {self.event!r}",
                hint=f"Ask before: `if evt[{member.alias!r}]:`. It did not contribute, or its script failed there.",
            )
        return number(row + WORDS_AT + member.offsets[<int>place], member.kinds[<int>place])

    def __bool__(self):
        return load16(self.event.row(self.member) + FLAGS_AT) & HAS_WORDS != 0

    def __dir__(self):
        return sorted(self.member.index)

    def __repr__(self):
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.member.index) if self else "no words"
        return f"<{self.member.alias}: {values}>"


@cython.freelist(8)
@cython.final
cdef class Value:
    """A number that is asked for with value(), as psdaq's Src, Damage and TypeId are."""

    cdef uint64_t number

    def value(self):
        """Return the number."""
        return self.number


cdef Value value_of(uint64_t number):
    cdef Value out = Value.__new__(Value)
    out.number = number
    return out


@cython.freelist(8)
@cython.final
cdef class TimeStamp:
    """A time stamp, as psdaq's."""

    cdef uint64_t stamp

    def seconds(self):
        """Return its seconds since 1990."""
        return self.stamp >> 32

    def nanoseconds(self):
        """Return the nanoseconds beyond its seconds."""
        return self.stamp & 0xFFFFFFFF

    def value(self):
        """Return seconds << 32 | nanoseconds."""
        return self.stamp


@cython.freelist(16)
@cython.final
cdef class Contribution:
    """What one drp contributed to an event; its verbs are those of psdaq's EbDgram and of the Xtc in it. Readable while the batch of its event is in hand."""

    cdef TriggerEvent event
    cdef Member member

    @property
    def alias(self):
        """The alias of the drp."""
        return self.member.alias

    @property
    def words(self):
        """Its trigger words by name."""
        return words_of(self.event, self.member)

    @property
    def time(self):
        """The time stamp."""
        cdef TimeStamp out = TimeStamp.__new__(TimeStamp)
        out.stamp = load64(self.event.row(self.member) + STAMP_AT)
        return out

    @property
    def env(self):
        """Service, keepRaw and readout groups, as in a dgram."""
        return load32(self.event.row(self.member) + ENV_AT)

    @property
    def xtc(self):
        """What has src, damage, contains, extent and payload()."""
        return self

    @property
    def src(self):
        """The drp's id, asked for with value()."""
        return value_of(self.member.id)

    @property
    def damage(self):
        """The damage of the dgram, asked for with value()."""
        return value_of(load16(self.event.row(self.member) + DAMAGE_AT))

    @property
    def contains(self):
        """The type of the payload, asked for with value()."""
        return value_of(SHAPESDATA)

    @property
    def extent(self):
        """Bytes of the payload with the header it would have."""
        return XTC_BYTES + self.member.words_bytes

    def pulseId(self):
        """Return the pulse id."""
        return load64(self.event.row(self.member) + PULSE_AT)

    def service(self):
        """Return the service, that of an L1Accept."""
        return (load32(self.event.row(self.member) + ENV_AT) >> 24) & 0xF

    def readoutGroups(self):
        """Return the readout groups, a bit for each."""
        return load32(self.event.row(self.member) + ENV_AT) & 0xFFFF

    def sizeofPayload(self):
        """Return how many bytes the payload has."""
        return self.member.words_bytes

    def payload(self):
        """Return the trigger words as bytes, packed in the order declared; zeros where none were given."""
        return PyBytes_FromStringAndSize(<const char *>self.event.row(self.member) + WORDS_AT, self.member.words_bytes)

    def __repr__(self):
        return f"<contribution of {self.member.alias} to {self.event!r}>"


cdef Contribution contribution_of(TriggerEvent event, Member member):
    cdef Contribution out = Contribution.__new__(Contribution)
    out.event = event
    out.member = member
    return out


cdef Words words_of(TriggerEvent event, Member member):
    cdef Words out = Words.__new__(Words)
    out.event = event
    out.member = member
    return out


@cython.final
cdef class Contributions:
    """The contributions to one event, in the order of the Configure."""

    cdef TriggerEvent event
    cdef tuple members
    cdef uint64_t present
    cdef Py_ssize_t at

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t at = self.at
        while at < len(self.members) and not (self.present >> at) & 1:
            at += 1
        self.at = at + 1
        if at >= len(self.members):
            raise StopIteration
        return contribution_of(self.event, <Member>self.members[at])


@cython.freelist(16)
cdef class TriggerEvent:
    """One built event. `evt["epix_0"]` are the words of a contributor; iterate over it for the contributions.

    It can be read until the script asks for an event of the next batch.
    """

    def __init__(self):
        raise TypeError("events come from ds.events()")

    cdef const uint8_t *record(self) except NULL:
        if self.serial != self.decider.stream.link.serial or not self.decider.n:
            raise StaleEventError("this event is no longer in hand", hint="Keep the numbers, and not the event.")
        return self.decider.events + <size_t>self.at * EVENT_BYTES

    cdef const uint8_t *row(self, Member member) except NULL:
        if self.serial != self.decider.stream.link.serial or not self.decider.n:
            raise StaleEventError("this event is no longer in hand", hint="Keep the numbers, and not the event.")
        return self.decider.rows[member.place] + <size_t>self.at * member.stride

    @property
    def pulse_id(self):
        """The pulse id."""
        return load64(self.record() + PULSE_AT)

    @property
    def timestamp(self):
        """The time stamp, seconds << 32 | nanoseconds."""
        return load64(self.record() + STAMP_AT)

    @property
    def env(self):
        """Service, keepRaw and readout groups, as in a dgram."""
        return load32(self.record() + ENV_AT)

    @property
    def damage(self):
        """The damage of all contributions, and what the event builder adds."""
        return load16(self.record() + DAMAGE_AT)

    @property
    def missing(self):
        """The aliases of those who should have contributed and did not."""
        cdef uint64_t mask = load64(self.record() + MISSING_AT)
        return tuple([one.alias for k, one in enumerate(self.decider.members) if (mask >> <int>k) & 1])

    def readoutGroups(self):
        """Return the readout groups, a bit for each."""
        return load32(self.record() + ENV_AT) & 0xFFFF

    def keepraw(self):
        """Return 1 where the timing system asked to keep raw, else 0."""
        return (load32(self.record() + ENV_AT) >> 22) & 1

    def contribution(self, Member member not None):
        """Return what this contributor gave, None where it gave nothing."""
        if not (load64(self.record() + PRESENT_AT) >> member.place) & 1:
            return None
        return contribution_of(self, member)

    def __getitem__(self, alias):
        member = self.decider.by_alias.get(alias)
        if member is None:
            raise UnknownNameError(f"there is no contributor {alias!r}", hint=near_misses(str(alias), self.decider.by_alias))
        return words_of(self, <Member>member)

    def __contains__(self, alias):
        member = self.decider.by_alias.get(alias)
        return member is not None and (load64(self.record() + PRESENT_AT) >> (<Member>member).place) & 1 != 0

    def __iter__(self):
        cdef Contributions out = Contributions.__new__(Contributions)
        out.present = load64(self.record() + PRESENT_AT)
        out.event = self
        out.members = self.decider.members
        return out

    def __repr__(self):
        stale = self.serial != self.decider.stream.link.serial
        return "<an event of a batch that is over>" if stale else f"<event of pulse id {self.pulse_id:#x}>"


cdef class Decider:
    """The events of a trigger script's stream, and its decisions.

    `session.passed(service)` takes note of a transition and says whether the events are over. Results go out as the only array of `verdicts`.
    """

    def __cinit__(self, Stream stream not None, session, contributors, AddedData verdicts not None):
        cdef uint32_t i
        self.stream = stream
        self.session = session
        self.members = tuple([Member(one, k) for k, one in enumerate(contributors)])
        self.by_alias = {one.alias: one for one in self.members}
        self.names_index = verdicts.names_index
        self.event_bytes = EVENT_BYTES + sum([(<Member>one).stride for one in self.members])
        self.rows = <const uint8_t **>calloc(len(self.members) + 1, sizeof(uint8_t *))
        self.results = <uint32_t *>calloc(MAX_EVENTS, sizeof(uint32_t))
        if not self.rows or not self.results:
            raise MemoryError

    def __dealloc__(self):
        free(self.rows)
        free(self.results)

    def __iter__(self):
        return self

    def __next__(self):
        cdef TriggerEvent event
        if self.given and not self.decided:
            raise ScriptError(
                f"no result was given for the event of pulse id {self.pulse_id:#x}",
                hint="Call ds.result(persist, monitor) exactly once for each event, also for one that is not wanted.",
            )
        if self.given == self.n:
            self.next_batch()
        event = TriggerEvent.__new__(TriggerEvent)
        event.decider = self
        event.serial = self.stream.link.serial
        event.at = self.given
        self.given += 1
        self.decided = False
        return event

    @property
    def pulse_id(self):
        """That of the event given last."""
        return load64(self.events + <size_t>(self.given - 1) * EVENT_BYTES + PULSE_AT) if self.given else 0

    def result(self, persist, monitor=0, *, prescale=False, aux=0):
        """Decide on the event in hand: record it or not, and which monitors get it (a mask of mebs); `aux`, 24 bits, goes along.

        Once for each event; a second time is a ScriptError. `prescale` records the event whole, whatever `persist` says.
        """
        cdef uint32_t word
        if not self.given:
            raise ScriptError("result: there is no event in hand", hint="Call it in the loop over ds.events().")
        if self.decided:
            raise ScriptError(
                f"a second result was given for the event of pulse id {self.pulse_id:#x}",
                hint="Call ds.result(persist, monitor) exactly once for each event.",
            )
        if persist is None or isinstance(persist, (str, bytes)):
            raise ScriptError("result: persist is true or false", found=repr(persist))
        try:
            word = (int(monitor) & MEBS) << MONITOR_SHIFT
        except (TypeError, ValueError):
            raise ScriptError("result: monitor is a mask of mebs, or 0", found=repr(monitor)) from None
        if persist:
            word |= PERSIST
        if prescale:
            word |= PRESCALE
        if aux:
            if not 0 <= aux <= MAX_AUX:
                raise ScriptError("result: aux has 24 bits", expected="0 to 0xffffff", found=repr(aux))
            word |= <uint32_t>aux << AUX_SHIFT
        self.results[self.given - 1] = word
        self.decided = True
        self.n_decided += 1

    cdef int next_batch(self) except -1:
        """Answer the batch in hand and take the next one; StopIteration where there is none."""
        cdef uint32_t *shapes = NULL
        cdef uint8_t *at
        cdef int service
        if self.over:
            raise StopIteration
        if self.n:
            at = self.stream.result.add(self.names_index, 1, 4 * <uint64_t>self.n, &shapes)
            if at != NULL:
                shapes[0] = self.n
                memcpy(at, self.results, 4 * <size_t>self.n)
        self.n = self.given = 0
        while True:
            service = self.stream.move()
            if service >= END_OF_BATCH:
                self.take_batch()
                return 0
            if self.session.passed(service):
                self.over = True
                raise StopIteration

    cdef int take_batch(self) except -1:
        cdef const uint8_t *dgram = self.stream.link.dgram
        cdef uint64_t size = self.stream.link.size
        cdef uint32_t n = 0
        cdef Member member
        cdef const uint8_t *at
        if size >= HEADER_AT + 24:
            n = load32(dgram + HEADER_AT + 8)
        if not 0 < n <= <uint32_t>MAX_EVENTS or load32(dgram + HEADER_AT + 12) != len(self.members) or (
            size != HEADER_AT + 24 + <uint64_t>n * self.event_bytes
        ):
            raise LinkError("a batch has another layout than its Configure says", expected=f"events of {self.event_bytes} bytes", found=size)
        self.events = dgram + HEADER_AT + 24
        at = self.events + <size_t>n * EVENT_BYTES
        for member in self.members:
            self.rows[member.place] = at
            at += <size_t>n * member.stride
        self.n = n
        return 0
