"""C level of recording: one call for one L1Accept, from the raw dgram in its slot to big file and smd
file.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from drp.shm._block cimport EditInfo, NamesTable
from drp.sink._gather cimport Gather, SMD_BYTES
from drp.sink._writer cimport FileWriter

cdef enum Recorded:
    RECORD_OK = 0
    RECORD_TRUNCATED = 1             # recorded: the result did not fit, raw whole
    RECORD_MALFORMED = 2             # recorded: raw was no whole dgram and is marked Corrupted
    RECORD_PAUSED = -1               # not recorded: make the same call again later; `error` is the errno

cdef enum Stage:
    STAGE_GATHER = 0
    STAGE_BIG = 1
    STAGE_SMD = 2

cdef class L1Recorder:
    """Ties the gather list to the two files, or to none."""

    cdef Gather gather
    cdef NamesTable table
    cdef FileWriter big              # None: nothing is written, sizes are checked and counted all the same
    cdef FileWriter smd
    cdef uint32_t smdinfo_id
    cdef Stage stage
    cdef int outcome
    cdef uint8_t[SMD_BYTES] twin
    cdef readonly int error          # errno of the pause, 0 when not paused
    cdef readonly uint64_t events
    cdef readonly uint64_t bytes     # of recorded L1Accepts, in the big file
    cdef readonly uint64_t truncated
    cdef readonly uint64_t malformed

    # `desc` in private memory, as checked into `edit` (NULL: nothing edited); `data` in the arena. Returns
    # Recorded. All memory given belongs to the recorder until it returned something else than
    # RECORD_PAUSED. `whole`: nothing of raw is left out, whatever `edit` drops.
    cdef int record(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound,
        bint whole,
    ) noexcept nogil
    # What `record` would have written is in `gather`, and nothing is counted; False: there is no memory.
    cdef bint gather_only(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound,
    ) noexcept nogil
    # One dgram that is ready (a transition) and its smd twin. RECORD_OK or RECORD_PAUSED.
    cdef int record_pair(
        self, const uint8_t *big, size_t n_big, const uint8_t *smd, size_t n_smd
    ) noexcept nogil
    # To be called at least once a second: flushes what is old. RECORD_OK or RECORD_PAUSED.
    cdef int tick(self) noexcept nogil
    cdef int flush(self) noexcept nogil
    cdef int write_pair(self, const void *ranges, int n, const uint8_t *smd, size_t n_smd) noexcept nogil
