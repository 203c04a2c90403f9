"""Recording what has come back in order: the recorder's thread, and what it counts."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.engine._collect cimport Collect, N_BUCKETS
from drp.engine._copies cimport CopyRing
from drp.engine._order cimport Item
from drp.shm._layout cimport Bell
from drp.shm._pebble cimport Slot
from drp.sink._l1 cimport L1Recorder

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

cdef enum:
    N_CODES = 16
    N_BITS = 12
    N_FATES = 8                      # as drp.core.ledger's Fate
    N_RECENT = 131072                # more events than a file's staging holds

cdef uint16_t cause_damage(uint8_t cause) noexcept nogil

cdef struct Damages:                 # of one origin, as drp.core.ledger's DamageCounts
    uint64_t events
    uint64_t bits[N_BITS]
    uint64_t codes[N_CODES]

cdef class Recording(Collect):
    cdef pthread_mutex_t lock        # of all tables
    cdef pthread_mutex_t writing     # held while files are written to or changed
    cdef uint32_t wanted             # main-thread calls that wait for the lock
    cdef Bell source_bell
    cdef Bell recorder_bell
    cdef uint32_t lacks_events       # free slots that the source waits for, beside those it has
    cdef uint32_t lacks_transitions
    cdef bint source_held            # until all it has put was dispatched and answered
    cdef L1Recorder writer
    cdef CopyRing copies             # None: nothing is monitored
    cdef int notify_fd
    cdef uint64_t rescued[3]         # sleeps of engine, recorder and source that ended by their limit though there was news
    cdef uint32_t stopping
    cdef uint32_t giving_up
    cdef uint64_t waits_recorded     # the main thread wants to be told, once, when record_next is here; 0: it does not
    cdef uint64_t latency[N_BUCKETS]
    cdef Damages incoming
    cdef Damages ours
    cdef Damages script
    cdef Damages trigger
    cdef uint64_t fates[N_FATES]
    cdef uint8_t recent[N_RECENT]    # fates of the last events that were not filtered
    cdef uint64_t n_recorded
    cdef readonly uint64_t n_events
    cdef readonly uint64_t n_words
    cdef readonly uint64_t n_transitions
    cdef readonly uint64_t n_synthesised
    cdef readonly uint64_t bytes_in
    cdef readonly uint64_t n_malformed
    cdef uint64_t n_cut              # results found here not to fit
    cdef bint cut_told
    cdef uint64_t began_ns           # when the first L1Accept was handed in, 0: none was recorded yet
    cdef uint64_t ended_ns           # when the last one was recorded
    cdef readonly bint paused
    cdef readonly int paused_errno
    cdef void enter(self) noexcept nogil
    cdef void leave(self) noexcept nogil
    cdef void enter_main(self) noexcept nogil
    cdef void ring(self, Bell *bell) noexcept nogil
    cdef void notify(self) noexcept nogil
    cdef bint _may_record(self) noexcept nogil
    cdef int _record_some(self) noexcept nogil
    cdef bint _record_or_wait(self, Item *item) noexcept nogil
    cdef int _record(self, Item *item) noexcept nogil
    cdef void _copy(self, Item *item, Slot *s, bint recorded) noexcept nogil
    cdef void _release(self, uint64_t first, uint64_t last) noexcept nogil
    cdef void _tell_cut(self) noexcept nogil
    cdef void _count(self, Item *item, Slot *s, uint64_t now_ns) noexcept nogil
