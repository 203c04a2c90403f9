"""The end of a trigger stage's flow: verdicts instead of files.

What the flow would record as L1Accepts are batches of built events; each event of a batch becomes one RESULT of `drp.core.batch`. Where the script
did not answer a batch, or not for each of its events, all of them persist, with the cause. The recorder's thread puts them here without
the GIL, and `fd` is readable while there are some.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.errno cimport ENOMEM
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove
from posix.unistd cimport write

from drp.shm._block cimport EditInfo
from drp.sink._l1 cimport RECORD_OK, RECORD_PAUSED, L1Recorder

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

import numpy as np

from drp.core.batch import EVENT, EVENTS_AT, RESULT
from drp.core.ledger import Cause

cdef enum:
    COUNT_AT = 32                    # n_events in the header of a batch
    FIRST_AT = 48
    EVENT_BYTES = 48
    PERSIST = 2
    NONSENSE = 5
    GROWTH = 4096

cdef packed struct Verdict:
    uint64_t number
    uint64_t pulse_id
    uint32_t result
    uint16_t cause
    uint16_t spare

assert (EVENT.itemsize, EVENTS_AT, RESULT.itemsize) == (EVENT_BYTES, FIRST_AT, sizeof(Verdict)) and Cause.nonsense == NONSENSE


cdef class VerdictWriter(L1Recorder):
    """Keep verdicts until they are taken.

    Attributes: `notify_fd`, the eventfd that is written to when there are some; `batches`, and `failed`, those that the script did not answer as it should.
    """

    cdef pthread_mutex_t lock
    cdef Verdict *kept
    cdef size_t n_kept
    cdef size_t room
    cdef public int notify_fd
    cdef readonly uint64_t batches
    cdef readonly uint64_t failed

    def __cinit__(self, gather, table):
        pthread_mutex_init(&self.lock, NULL)

    def __dealloc__(self):
        pthread_mutex_destroy(&self.lock)
        free(self.kept)

    cdef int record(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound, bint whole,
    ) noexcept nogil:
        cdef uint32_t n = 0
        cdef uint32_t i
        cdef void *grown
        cdef Verdict *one
        cdef const uint8_t *event
        cdef uint64_t told = 1
        memcpy(&n, raw + COUNT_AT, 4)
        if cause == 0 and (edit == NULL or edit.n_add != 1 or edit.data_bytes != 4 * <uint64_t>n):
            cause = NONSENSE
        pthread_mutex_lock(&self.lock)
        if self.n_kept + n > self.room:
            grown = realloc(self.kept, (self.n_kept + n + GROWTH) * sizeof(Verdict))
            if grown == NULL:
                pthread_mutex_unlock(&self.lock)
                self.error = ENOMEM
                return RECORD_PAUSED
            self.kept = <Verdict *>grown
            self.room = self.n_kept + n + GROWTH
        for i in range(n):
            event = raw + FIRST_AT + <size_t>i * EVENT_BYTES
            one = self.kept + self.n_kept + i
            memcpy(&one.number, event, 16)
            one.result = PERSIST
            one.cause = cause
            one.spare = 0
            if cause == 0:
                memcpy(&one.result, data + 4 * <size_t>i, 4)
        self.n_kept += n
        pthread_mutex_unlock(&self.lock)
        self.batches += 1
        self.failed += cause != 0
        self.events += 1
        write(self.notify_fd, &told, 8)
        return RECORD_OK

    def take(self):
        """Return what there is, a RESULT array (n,) in the order of the events. For one thread."""
        cdef size_t n = self.n_kept
        cdef uint8_t[::1] view
        out = np.empty(n, RESULT)
        if n:
            view = out.view(np.uint8)
            with nogil:
                pthread_mutex_lock(&self.lock)
                memcpy(&view[0], self.kept, n * sizeof(Verdict))
                self.n_kept -= n
                memmove(self.kept, self.kept + n, self.n_kept * sizeof(Verdict))
                pthread_mutex_unlock(&self.lock)
        return out
