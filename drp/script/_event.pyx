"""The hot path of a script: its position in the stream of dgrams, the events, and the verbs that edit what is in hand.

Asking for the next event answers the one in hand. The dgram that was taken last is in hand until then: an L1Accept in the event loop, a
Configure before `runs()`, a BeginRun before `events()`. What a transition means is the session's business; nothing here knows names,
except which NamesIds a (detector, alg) stands for.
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

import datetime as _datetime

import numpy as np

from drp.script._added cimport AddedData
from drp.script._link cimport Link
from drp.script._result cimport Result
from drp.script.errors import ScriptError, StaleEventError, UnknownNameError, near_misses
from drp.shm._layout cimport BLOCK_WORDS, STATUS_LEFT, STATUS_OK, STATUS_RAISED
from xtc._walk cimport WALK_TOO_MANY, ShapesAt, walk_shapes
from xtc._walk import WalkFault
from xtc.kinds import Damage, TransitionId

cdef enum:
    CONFIGURE = 2
    SLOW_UPDATE = 10
    END_OF_BATCH = 11
    L1_ACCEPT = 12
    FIRST_ROOM = 64
    MAX_SHAPES = 1 << 20
    SCRIPT_DAMAGE = 0x0FF7           # bits 0..11 without Corrupted, which would hide the event from every reader

EPOCH = _datetime.datetime(1990, 1, 1)
POISON = 0xDB


cdef class DropSet:
    """The NamesIds that one (detector, alg) stands for."""

    def __cinit__(self, ids):
        cdef uint32_t k = 0
        self.n = len(ids)
        self.ids = <uint32_t *>malloc((self.n + 1) * sizeof(uint32_t))
        if not self.ids:
            raise MemoryError
        for one in ids:
            self.ids[k] = one
            k += 1

    def __dealloc__(self):
        free(self.ids)


cdef class Stream:
    """Where a script is in its stream of dgrams.

    `session` has `before_answer(service)`, called before a transition is answered, and `transition(service, scope)`. With `check_views` arrays handed out are private
    copies that are overwritten when the script asks for the next event.
    """

    def __init__(self, Link link not None, session, bint check_views=False):
        self.link = link
        self.result = Result(link)
        self.session = session
        self.check_views = check_views
        self.copy_views = False
        self.handed = []
        self.droppable = {}
        self.room = FIRST_ROOM
        self.shapes = <ShapesAt *>calloc(self.room, sizeof(ShapesAt))
        if not self.shapes:
            raise MemoryError

    def __dealloc__(self):
        free(self.shapes)

    def configure(self, droppable):
        """Set which NamesIds each (detector, alg) stands for, from `{(det, alg): [names_id, ...]}`."""
        self.droppable = {key: DropSet(ids) for key, ids in droppable.items()}
        self.words = None
        self.words_set = False

    def set_words(self, AddedData words):
        """Set the container of the trigger words."""
        self.words = words

    def advance(self):
        """Answer what is in hand and take the next dgram; return its service, or -1 when there are no more."""
        return self.move()

    def close(self, int status, bytes text):
        """Answer what is in hand as failed: `status` STATUS_RAISED or STATUS_LEFT, `text` the JSON that says how. Edits are dropped."""
        if status not in (STATUS_RAISED, STATUS_LEFT):
            raise ScriptError("not the status of a failure", expected=(STATUS_RAISED, STATUS_LEFT), found=status)
        self.result.clear()
        self.words_set = False
        if self.link.pending:
            self.result.text = text
            self.result.finish(status)
        self.poison()

    def discard(self):
        """Forget the edits of the dgram in hand."""
        self.result.clear()

    def put_text(self, bytes text):
        """Set the JSON of the transition in hand."""
        self.result.text = text

    def put_added(self, AddedData data not None):
        """Append a complete container to the dgram in hand."""
        data.write(self.result)

    @property
    def service(self):
        """The TransitionId of the dgram taken last."""
        return TransitionId(self.link.service)

    @property
    def dgram(self):
        """The bytes of the dgram in hand, read-only, valid while it is."""
        start = self.link.source_offset
        return memoryview(self.link.source)[start:start + self.link.size]

    @property
    def timestamp(self):
        """The time stamp of the dgram taken last."""
        cdef uint64_t stamp
        memcpy(&stamp, self.link.dgram, 8)
        return stamp

    def lend(self, array):
        """Return an array that is overwritten after the event in hand: itself, or with `check_views` a private copy that is poisoned then."""
        if not self.check_views:
            return array
        array = array.copy()
        self.handed.append(array)
        return array

    cdef int move(self) except -2:
        cdef Link link = self.link
        if link.pending:
            if link.service >= END_OF_BATCH:
                if self.words_set:
                    self.words_set = False
                    self.words.write(self.result)
                    self.result.block_flags = BLOCK_WORDS
            else:
                self.session.before_answer(link.service)
            self.result.finish(STATUS_OK)
            if self.check_views:
                self.poison()
        if link.take() == 0:
            return -1
        return link.service

    cdef int walk(self) except -1:
        """Find the ShapesData of the dgram in hand."""
        cdef uint32_t where = 0
        cdef int n
        while True:
            n = walk_shapes(self.link.dgram, self.link.size, self.shapes, self.room, &where)
            if n != WALK_TOO_MANY or self.room >= MAX_SHAPES:
                break
            free(self.shapes)
            self.shapes = <ShapesAt *>calloc(4 * self.room, sizeof(ShapesAt))
            if not self.shapes:
                self.room = 0
                raise MemoryError
            self.room *= 4
        if n < 0:
            raise WalkFault(n, where)
        self.n_shapes = n
        self.walked = self.link.serial
        return 0

    cdef ShapesAt *find(self, uint32_t names_id, int *hint) except? NULL:
        """The last ShapesData with `names_id` in the dgram in hand, or NULL. `hint`: where it was last time."""
        cdef int i = hint[0]
        if self.walked != self.link.serial:
            self.walk()
        if i < self.n_shapes and self.shapes[i].names_id == names_id:
            return self.shapes + i
        for i in range(self.n_shapes - 1, -1, -1):
            if self.shapes[i].names_id == names_id:
                hint[0] = i
                return self.shapes + i
        return NULL

    cdef int must_hold(self, str verb) except -1:
        if not self.link.pending:
            raise ScriptError(f"{verb}: there is no event in hand")
        if self.link.service == SLOW_UPDATE:
            raise ScriptError(
                f"{verb}: a SlowUpdate is recorded as it came", hint="Workers are not asked at a SlowUpdate: add to the next event."
            )
        return 0

    cdef object hand_out(self, object array, bint copy):
        """The array itself, or a copy that is the script's own, or one that will be poisoned."""
        if copy:
            return array.copy()
        if not self.check_views:
            return array
        array = array.copy()
        array.flags.writeable = False
        self.handed.append(array)
        return array

    cdef void poison(self):
        for array in self.handed:
            array.flags.writeable = True
            if array.dtype.kind == "f":
                array.fill(np.nan)
            else:
                array.reshape(array.size).view(np.uint8).fill(POISON)
            array.flags.writeable = False
        self.handed.clear()


@cython.freelist(8)
cdef class Event:
    """One L1Accept. `timestamp` (seconds << 32 | nanoseconds), `index` (L1Accepts since BeginRun, the first is 0) and `env` stay
    readable; data can be read from it until the script asks for the next event.
    """

    def __init__(self):
        raise TypeError("events come from run.events()")

    @property
    def pulse_id(self):
        """The pulse id, or None where it is not known."""
        return self.pulse if self.pulse else None

    @property
    def _seconds(self):
        return self.timestamp >> 32

    @property
    def _nanoseconds(self):
        return self.timestamp & 0xFFFFFFFF

    def service(self):
        """Return the TransitionId, L1Accept."""
        return TransitionId((self.env >> 24) & 0xF)

    def keepraw(self):
        """Return 1 where the timing system asked to keep raw, else 0."""
        return (self.env >> 22) & 1

    def datetime(self):
        """Return the time stamp as a datetime (UTC, microseconds; DAQ seconds count from 1990)."""
        return EPOCH + _datetime.timedelta(seconds=self.timestamp >> 32, microseconds=(self.timestamp & 0xFFFFFFFF) // 1000)

    def timestamp_diff(self, uint64_t timestamp):
        """Return this event's time minus `timestamp`, in nanoseconds."""
        other = (timestamp >> 32) * 1_000_000_000 + (timestamp & 0xFFFFFFFF)
        return int(self.timestamp >> 32) * 1_000_000_000 + int(self.timestamp & 0xFFFFFFFF) - int(other)

    def run(self):
        """Return the run this event belongs to."""
        return self.stream.session.run

    def __repr__(self):
        return f"<Event {self.index}: timestamp {self.timestamp:#x}, pulse id {self.pulse or 'not known'}>"


cdef class EventIterator:
    """The events of a run or of a step, the `scope`: `session.transition(service, scope)` says of each transition whether they end there."""

    cdef Stream stream
    cdef object scope
    cdef bint ended

    def __init__(self, Stream stream not None, scope):
        self.stream = stream
        self.scope = scope

    def __iter__(self):
        return self

    def __next__(self):
        cdef Stream stream = self.stream
        cdef Link link = stream.link
        cdef Event event
        cdef int service
        if self.ended or self.scope.ended:
            raise StopIteration
        while True:
            service = stream.move()
            if service >= END_OF_BATCH:
                stream.n_events += 1
                event = Event.__new__(Event)
                event.stream = stream
                event.serial = link.serial
                event.pulse = link.pulse_id
                event.index = link.index
                memcpy(&event.timestamp, link.dgram, 8)
                memcpy(&event.env, link.dgram + 8, 4)
                return event
            if stream.session.transition(service, self.scope):
                self.ended = True
                raise StopIteration


cdef class Verbs:
    """What a script can do to the event in hand; the same on the DataSource and on the run."""

    def __init__(self, Stream stream):
        self.stream = stream

    def add_data(self, AddedData data not None):
        """Append one container of new data to the dgram in hand; its fields are None again afterwards.

        Raises FieldError where a field has no value or an array no longer fits. Data larger than what the event has room for make the
        whole result an overflow: the event keeps its raw data and is marked Truncated.
        """
        cdef Stream stream = self.stream
        stream.must_hold("add_data")
        data.write(stream.result)

    def remove_data(self, det_name, alg):
        """Leave out of the record what `alg` of the detector holds in this event, all segments of it.

        Raises UnknownNameError for a detector or alg that is not in the Configure.
        """
        cdef Stream stream = self.stream
        cdef DropSet drops
        stream.must_hold("remove_data")
        found = stream.droppable.get((det_name, alg))
        if found is None:
            names = [f"{one}.{other}" for one, other in stream.droppable]
            raise UnknownNameError(f"remove_data: there is no {det_name}.{alg}", hint=near_misses(f"{det_name}.{alg}", names))
        if stream.link.service == CONFIGURE:
            raise ScriptError("remove_data: the Configure keeps what it has", hint="Remove data in the event loop.")
        drops = found
        if drops.serial != stream.link.serial:
            drops.serial = stream.link.serial
            stream.result.drop(drops.ids, drops.n)

    def set_trigger(self, **words):
        """Set the trigger words of the event in hand, all that `add_trigger` declared, by name."""
        cdef Stream stream = self.stream
        cdef AddedData data = stream.words
        stream.must_hold("set_trigger")
        if data is None:
            raise ScriptError("set_trigger: no trigger words are declared", hint="Call ds.add_trigger({...}) before ds.runs().")
        if stream.link.service < END_OF_BATCH:
            raise ScriptError("set_trigger: only an event has trigger words")
        for name, value in words.items():
            setattr(data, name, value)
        if data.n_set != data.n_fields:
            missing = [name for name, place in data.index.items() if not data.is_set[<int>place]]
            raise ScriptError("set_trigger: not all words are set", found=f"nothing for {', '.join(missing)}")
        stream.words_set = True

    def damage(self, Event evt not None, damage=None, *, int user=0):
        """Mark the event in hand as damaged: `damage` any of Damage but Corrupted, `user` a value 8..15 of the script's own.

        One of the two must be given; a `damage` of 0, which a script may have worked out, marks nothing.
        """
        cdef Stream stream = self.stream
        cdef int bits
        if isinstance(damage, str):
            try:
                damage = Damage[damage]
            except KeyError:
                known = [one.name for one in Damage]
                raise UnknownNameError(f"there is no damage {damage!r}", hint=near_misses(damage, known)) from None
        if damage is None:
            if not user:
                raise ScriptError(
                    "damage: nothing to mark the event with", expected="damage, user= or both",
                    hint="Say which, as in ds.damage(evt, Damage.OutOfSynch) or ds.damage(evt, user=9).",
                )
            damage = 0
        bits = int(damage)
        if bits & ~SCRIPT_DAMAGE:
            raise ScriptError(
                "a script may not set this damage", expected="bits 0..11 without Corrupted", found=f"{bits:#06x}",
                hint="A value of your own, 8..15, goes in user=.",
            )
        if user and not 8 <= user <= 15:
            raise ScriptError("a user damage value of a script is 8..15", found=user, hint="0..7 are drp's.")
        if not stream.link.pending or evt.serial != stream.link.serial or evt.stream is not stream:
            raise StaleEventError("damage: this event is no longer in hand")
        stream.result.damage |= bits
        if user:
            stream.result.user = user
