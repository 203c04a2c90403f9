"""C level of the file writer: dgrams as ranges go in, whole dgrams come to lie in the file."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from drp.sink._gather cimport Range

cdef enum Appended:
    WRITE_OK = 0
    WRITE_PAUSED = 1                 # nothing is lost: the same call again goes on at the exact byte

cdef class FileWriter:
    """One output file. Small ranges pass through a staging buffer, large ones go straight from where
    they lie.
    """

    cdef readonly int fd
    cdef uint8_t *staging
    cdef size_t capacity
    cdef size_t threshold            # ranges from here on are not staged
    cdef size_t staged               # bytes in staging
    cdef size_t done                 # of them already in the file
    cdef long long first_start       # offset in staging of the first dgram that begins in it, or -1
    cdef size_t direct_done          # bytes of the large range in hand already in the file
    cdef int at_range                # ranges of the dgram in hand that are dealt with
    cdef bint in_dgram
    cdef uint64_t dgram_start        # file offset of the dgram in hand
    cdef uint64_t staged_since_ns    # when the oldest byte in staging came
    cdef uint64_t flush_ns
    cdef FileWriter before           # what must be in its file before anything of ours is, or None
    cdef readonly uint64_t accepted  # file offset where the next byte offered will lie
    cdef readonly uint64_t written   # bytes in the file
    cdef readonly uint64_t whole     # end of the last whole dgram in the file, as of the last flush
    cdef readonly uint64_t dgrams
    cdef readonly int error          # errno of the last failure, 0 after a success
    cdef readonly uint64_t pauses

    # All return Appended. The ranges' memory belongs to the writer until append returned WRITE_OK.
    cdef int append(self, const Range *ranges, int n) noexcept nogil
    cdef int flush(self) noexcept nogil
    cdef int tick(self) noexcept nogil     # flush what has been staged for longer than flush_s
    cdef int put(self, const uint8_t *extra, size_t n_extra) noexcept nogil
    cdef tuple last_whole(self)
