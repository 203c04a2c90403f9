"""Record one L1Accept: gather list, big file, smd twin; without the GIL, without an allocation, and
again after a pause.

`record` is a machine of three stages. A pause in either file leaves it in its stage, and the same call
made again goes on from there, so that an event is in both files once or waits whole in its slot. The smd
file never points at bytes the big file does not have: its writer flushes the big one first.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.errno cimport ENOMEM

from drp.shm._block cimport BLOCK_OK, check_block
from drp.shm._layout cimport MAX_L1_DESC_BYTES
from drp.sink._gather cimport (
    DGRAM_HEADER_BYTES,
    GATHER_MALFORMED,
    GATHER_TRUNCATED,
    NO_WORKER,
    Range,
    put_smd,
)
from drp.sink._writer cimport WRITE_OK
from xtc._load cimport load16

from drp.shm._block import BlockError

cdef enum:
    CORRUPTED = 8


cdef class L1Recorder:
    """Record L1Accepts with `gather`'s settings and the script's `table` of Names.

    `big` and `smd`: the writers, None for a run that keeps no file; `smdinfo_id`: the NamesId of smdinfo
    in the smd file. Attributes: `events`, `bytes`, `truncated`, `malformed` count what was recorded,
    `error` is the errno of a pause.
    """

    def __cinit__(self, Gather gather not None, NamesTable table not None):
        self.gather = gather
        self.table = table

    def set_names(self, Gather gather not None, NamesTable table not None) -> None:
        """Take the settings of another Configure or BeginRun. Not while an event is paused."""
        self.check_idle()
        self.gather = gather
        self.table = table

    def set_files(self, FileWriter big, FileWriter smd, uint32_t smdinfo_id=0) -> None:
        """Write to these files from now on; `big` None: to none. Not while an event is paused."""
        self.check_idle()
        if (big is None) != (smd is None):
            raise ValueError("big and smd file come together")
        self.big = big
        self.smd = smd
        self.smdinfo_id = smdinfo_id

    def check_idle(self) -> None:
        """Raise RuntimeError while an event or a transition is paused half way."""
        if self.stage != STAGE_GATHER:
            raise RuntimeError("a dgram is half recorded: finish it first")

    def abandon(self) -> None:
        """Forget the dgram that is paused; what of it is in the files is cut off when they are closed."""
        self.stage = STAGE_GATHER

    cdef int write_pair(self, const void *ranges, int n, const uint8_t *smd, size_t n_smd) noexcept nogil:
        """Append to the big file, then to the smd file, from the stage where it stands."""
        cdef Range twin
        if self.stage == STAGE_BIG:
            if self.big.append(<const Range *>ranges, n) != WRITE_OK:
                self.error = self.big.error
                return RECORD_PAUSED
            self.stage = STAGE_SMD
        twin.at = smd
        twin.n = n_smd
        if self.smd.append(&twin, 1 if n_smd else 0) != WRITE_OK:
            self.error = self.smd.error
            return RECORD_PAUSED
        self.stage = STAGE_GATHER
        self.error = 0
        return RECORD_OK

    cdef int record(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound,
        bint whole,
    ) noexcept nogil:
        if self.stage == STAGE_GATHER:
            self.outcome = self.gather.gather(
                raw, size, desc, edit, data, self.table, damage, cause, worker, pulse_id, bound, whole
            )
            if self.outcome < 0:
                self.error = ENOMEM
                return RECORD_PAUSED
            if self.gather.n_ranges and self.big is not None:
                damage = load16(self.gather.ranges[0].at + 16) & ~<uint16_t>CORRUPTED
                put_smd(self.twin, raw, damage, self.smdinfo_id, self.big.accepted, self.gather.size)
                self.stage = STAGE_BIG
        if self.stage != STAGE_GATHER:
            if self.write_pair(self.gather.ranges, self.gather.n_ranges, self.twin, SMD_BYTES) != RECORD_OK:
                return RECORD_PAUSED
        self.events += 1
        self.bytes += self.gather.size
        self.truncated += self.outcome == GATHER_TRUNCATED
        self.malformed += self.outcome == GATHER_MALFORMED
        return self.outcome

    cdef bint gather_only(
        self, const uint8_t *raw, size_t size, const uint8_t *desc, const EditInfo *edit, const uint8_t *data,
        uint16_t damage, uint8_t cause, uint16_t worker, uint64_t pulse_id, uint64_t bound,
    ) noexcept nogil:
        return self.stage == STAGE_GATHER and self.gather.gather(
            raw, size, desc, edit, data, self.table, damage, cause, worker, pulse_id, bound, False) >= 0

    cdef int record_pair(
        self, const uint8_t *big, size_t n_big, const uint8_t *smd, size_t n_smd
    ) noexcept nogil:
        cdef Range whole
        if self.big is None or n_big == 0:
            return RECORD_OK
        whole.at = big
        whole.n = n_big
        if self.stage == STAGE_GATHER:
            self.stage = STAGE_BIG
        return self.write_pair(&whole, 1, smd, n_smd)

    cdef int tick(self) noexcept nogil:
        if self.big is None:
            return RECORD_OK
        if self.big.tick() != WRITE_OK or self.smd.tick() != WRITE_OK:
            self.error = self.big.error or self.smd.error
            return RECORD_PAUSED
        return RECORD_OK

    cdef int flush(self) noexcept nogil:
        if self.big is None:
            return RECORD_OK
        if self.big.flush() != WRITE_OK or self.smd.flush() != WRITE_OK:
            self.error = self.big.error or self.smd.error
            return RECORD_PAUSED
        return RECORD_OK

    def put_l1(
        self, raw, *, desc=b"", data=b"", damage: int = 0, cause: int = 0, worker: int = NO_WORKER,
        pulse_id: int = 0, bound: int = 0x7fffffff, whole: bool = False,
    ) -> int:
        """Record one L1Accept from Python: RECORD_OK 0, _TRUNCATED 1, _MALFORMED 2, _PAUSED -1 (call
        again with the same).

        `raw` is the whole dgram, `desc` and `data` its result block, whose drops are ignored where `whole`; raises BlockError where that is
        wrong.
        """
        cdef const uint8_t[::1] raw_view = memoryview(raw).cast("B")
        cdef const uint8_t[::1] desc_view = memoryview(desc if len(desc) else b"\0").cast("B")
        cdef const uint8_t[::1] data_view = memoryview(data if len(data) else b"\0").cast("B")
        cdef EditInfo edit
        cdef int code
        if raw_view.shape[0] < DGRAM_HEADER_BYTES:
            raise ValueError(f"a dgram of {raw_view.shape[0]} bytes")
        code = check_block(
            &desc_view[0], len(desc), len(desc) + len(data), MAX_L1_DESC_BYTES, &data_view[0], self.table,
            &edit,
        )
        if code != BLOCK_OK:
            raise BlockError(code, edit.wrong)
        return self.record(
            &raw_view[0], raw_view.shape[0], &desc_view[0], &edit if len(desc) else NULL, &data_view[0],
            damage, cause, worker, pulse_id, bound, whole,
        )

    def put_pair(self, big: bytes, smd: bytes) -> bool:
        """Record a transition that is ready and its smd twin; False: paused, call again with the same."""
        cdef const uint8_t[::1] big_view = big or b"\0"
        cdef const uint8_t[::1] smd_view = smd or b"\0"
        cdef size_t n_big = len(big)
        cdef size_t n_smd = len(smd)
        cdef int code
        with nogil:
            code = self.record_pair(&big_view[0], n_big, &smd_view[0], n_smd)
        return code == RECORD_OK

    def flush_files(self) -> bool:
        """Write everything staged; False: paused."""
        cdef int code
        with nogil:
            code = self.flush()
        return code == RECORD_OK

    @property
    def paused(self) -> bool:
        """Whether a dgram is half recorded."""
        return self.stage != STAGE_GATHER
