"""Where every dgram is between the source and the record, in source order."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from drp.shm._block cimport EditInfo
from drp.shm._pebble cimport Pebble, Slot, SlotBatch
from drp.shm._port cimport PortState

cdef enum:
    INLINE_DESC = 256
    MAX_ENVIRONMENT = 24

cdef enum ItemState:
    ITEM_FILLED = 1                  # waits to be dispatched
    ITEM_SENT = 2                    # with a worker, or with all of them
    ITEM_DONE = 3                    # may be judged when its turn comes
    ITEM_ASKED = 4                   # the judge has its contribution
    ITEM_JUDGED = 5                  # may be recorded when its turn comes

cdef enum Ruling:                    # who decided what becomes of an event
    RULED_VERDICT = 1                # the trigger: `result` holds
    RULED_NONE = 2                   # nobody: it is kept
    RULED_BYPASS = 3                 # nobody was asked: it is kept

cdef struct Item:
    uint64_t seq
    int32_t slot
    uint8_t service
    uint8_t state
    uint8_t cause                    # why it failed, 0: it did not
    uint8_t ruling                   # Ruling
    uint16_t worker                  # who did it, or whose failure it is
    uint16_t ruled_damage            # what the trigger's event builder found
    uint32_t result                  # what the trigger said, as drp.core.wire has it
    uint64_t asked_pulse             # the pulse id that the judge was given
    PortState *port                  # holds its block
    uint64_t block
    uint8_t *desc                    # private copy of the descriptor; NULL: nothing edited
    uint32_t desc_bytes
    const uint8_t *data
    uint64_t data_bytes
    uint8_t *spilled                 # data, moved out of the arena
    EditInfo info
    const uint8_t *big               # a transition's record
    size_t big_bytes
    const uint8_t *smd
    size_t smd_bytes
    uint8_t inline_desc[INLINE_DESC]

cdef class Order:
    cdef readonly Pebble pebble
    cdef Slot *slots
    cdef Item *items                 # seq s stands at s % n_items
    cdef uint32_t n_items
    cdef int32_t *free_events
    cdef int32_t *free_transitions
    cdef uint32_t n_free_events
    cdef uint32_t n_free_transitions
    # every dgram has a number; these five part the road: recorded < to record < to judge < in work < waiting < not here yet
    cdef readonly uint64_t record_next
    cdef readonly uint64_t judged_next
    cdef readonly uint64_t retire_next
    cdef readonly uint64_t dispatch_next
    cdef readonly uint64_t submit_next
    cdef int32_t slow                # slot of the last SlowUpdate handed in
    cdef int32_t environment[MAX_ENVIRONMENT]
    cdef int n_environment
    cdef uint32_t judged_groups      # events with one of these bits in their env are judged; 0: there is no judge
    cdef Item *item(self, uint64_t seq) noexcept nogil
    cdef void lend(self, SlotBatch batch) noexcept nogil
    cdef uint64_t submit(self, SlotBatch batch, uint64_t now_ns) noexcept nogil
    cdef int retire(self) noexcept nogil
    cdef void pass_judged(self) noexcept nogil
    cdef void hold(self, int32_t slot) noexcept nogil
    cdef void drop(self, int32_t slot) noexcept nogil
    cdef void free_item(self, Item *item) noexcept nogil
    cdef void enter_environment(self, int32_t slot) noexcept nogil
