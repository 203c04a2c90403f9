"""Write dgrams to a file so that a failing disk loses nothing and leaves whole dgrams.

A writer has two counts: `accepted`, how far the bytes it was given reach, and `written`, how far the file
does. Between them lie the staging buffer and at most one large range, which stays with its owner until
`append` has returned WRITE_OK. Every system call moves `written` by what it says it wrote, so after a
short write, a signal or a full disk the next call goes on at the exact byte. The header of a dgram that
begins in staging lies whole there, which is how `finish` finds the last whole dgram of a file that cannot
be finished.

It knows no format beyond the extent of a dgram, and no names of files. One thread at a time.
"""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from drp.shm._sys cimport sys_now_ns
from xtc._load cimport load32

import os


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

    ssize_t writev(int fd, const iovec *iov, int n)

STAGING_BYTES = 1 << 20
THRESHOLD_BYTES = 48 << 10
FLUSH_S = 1.0
cdef enum:
    MIN_STAGING_BYTES = 128          # holds a dgram header, and the smd twin of an event
    XTC_OFFSET = 12                  # of the top Xtc in a dgram
    EXTENT_OFFSET = 20


cdef class FileWriter:
    """Append dgrams to the open file descriptor `fd`, which the caller keeps and closes.

    `staging_bytes`: size of the staging buffer; `threshold_bytes`: ranges of this size and more are
    written from where they lie; `flush_s`: how long a byte may stay in staging; `before`: a writer that
    is flushed before this one writes anything. Attributes `accepted`, `written`, `whole` are byte offsets
    in the file, `error` the errno of the last failure.
    """

    def __cinit__(
        self, int fd, size_t staging_bytes=STAGING_BYTES, size_t threshold_bytes=THRESHOLD_BYTES,
        double flush_s=FLUSH_S, FileWriter before=None,
    ):
        if not MIN_STAGING_BYTES <= threshold_bytes <= staging_bytes:
            raise ValueError(f"staging {staging_bytes}, threshold {threshold_bytes} bytes")
        self.fd = fd
        self.capacity = staging_bytes
        self.threshold = threshold_bytes
        self.flush_ns = <uint64_t>(flush_s * 1e9)
        self.first_start = -1
        self.before = before
        self.staging = <uint8_t *>malloc(staging_bytes)
        if self.staging == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.staging)

    cdef int put(self, const uint8_t *extra, size_t n_extra) noexcept nogil:
        """Write what is staged, and `extra` after it; on WRITE_OK both are in the file."""
        cdef iovec[2] parts
        cdef int first, last
        cdef ssize_t wrote
        cdef size_t of_staging
        if self.before is not None and self.before.flush() != WRITE_OK:
            self.error = self.before.error
            return WRITE_PAUSED
        last = 2 if n_extra else 1
        while self.done < self.staged or (n_extra and self.direct_done < n_extra):
            parts[0].iov_base = self.staging + self.done
            parts[0].iov_len = self.staged - self.done
            if n_extra:
                parts[1].iov_base = <void *>(extra + self.direct_done)
                parts[1].iov_len = n_extra - self.direct_done
            first = 0 if parts[0].iov_len else 1
            wrote = writev(self.fd, parts + first, last - first)
            if wrote <= 0:
                if wrote < 0 and errno == EINTR:
                    continue
                self.error = errno if wrote < 0 else EIO
                self.pauses += 1
                return WRITE_PAUSED
            self.written += wrote
            of_staging = min(<size_t>wrote, parts[0].iov_len)
            self.done += of_staging
            self.direct_done += wrote - of_staging
        self.staged = 0
        self.done = 0
        self.first_start = -1
        if n_extra:
            self.direct_done = 0         # a flush while a large range is half written leaves its count alone
        self.error = 0
        self.whole = self.dgram_start if self.in_dgram else self.written
        return WRITE_OK

    cdef int append(self, const Range *ranges, int n) noexcept nogil:
        cdef const Range *part
        if not self.in_dgram:
            self.in_dgram = True
            self.at_range = 0
            self.dgram_start = self.accepted
        while self.at_range < n:
            part = ranges + self.at_range
            if part.n >= self.threshold:
                if self.put(part.at, part.n) != WRITE_OK:
                    return WRITE_PAUSED
            else:
                if self.staged + part.n > self.capacity and self.put(NULL, 0) != WRITE_OK:
                    return WRITE_PAUSED
                if self.staged == 0:
                    self.staged_since_ns = sys_now_ns()
                if self.at_range == 0 and self.first_start < 0:
                    self.first_start = self.staged
                memcpy(self.staging + self.staged, part.at, part.n)
                self.staged += part.n
            self.accepted += part.n
            self.at_range += 1
        self.in_dgram = False
        self.dgrams += 1
        if self.staged == 0:
            self.whole = self.written
        return WRITE_OK

    cdef int flush(self) noexcept nogil:
        if self.staged == 0:
            return WRITE_OK
        return self.put(NULL, 0)

    cdef int tick(self) noexcept nogil:
        if self.staged == 0 or sys_now_ns() - self.staged_since_ns < self.flush_ns:
            return WRITE_OK
        return self.put(NULL, 0)

    def set_before(self, FileWriter before) -> None:
        """Have another writer flushed before this one writes anything, from now on."""
        self.before = before

    def append_parts(self, parts) -> bool:
        """Append one dgram given as byte buffers, the first of at least 24 bytes; False: paused, call
        again with the same.
        """
        cdef Range *ranges
        cdef const uint8_t[::1] view
        cdef int i, code
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        ranges = <Range *>malloc((len(views) + 1) * sizeof(Range))
        if ranges == NULL:
            raise MemoryError
        for i in range(len(views)):
            view = views[i]
            ranges[i].at = &view[0]
            ranges[i].n = view.shape[0]
        i = len(views)
        with nogil:
            code = self.append(ranges, i)
        free(ranges)
        return code == WRITE_OK

    def flush_all(self) -> bool:
        """Write everything staged; False: paused."""
        cdef int code
        with nogil:
            code = self.flush()
        return code == WRITE_OK

    def flush_old(self) -> bool:
        """Write everything staged where some of it has been for longer than `flush_s`; False: paused."""
        cdef int code
        with nogil:
            code = self.tick()
        return code == WRITE_OK

    def finish(self) -> dict[str, int]:
        """Write what is left; where that fails, cut the file after its last whole dgram.

        Returns `bytes` (of the file), `lost_bytes` and `lost_dgrams`: what append had accepted and is not
        in the file. A dgram in hand, for which append never returned WRITE_OK, is cut off and not
        counted. The writer is not to be used afterwards. Raises OSError where even the cut fails.
        """
        cdef uint64_t accepted = self.dgram_start if self.in_dgram else self.accepted
        cdef uint64_t end = accepted
        cdef uint64_t lost = 0
        if not self.flush_all():
            end, lost = self.last_whole()
        if end != self.written:
            os.ftruncate(self.fd, end)
        return {"bytes": end, "lost_bytes": accepted - end, "lost_dgrams": lost}

    cdef tuple last_whole(self):
        """Find the last whole dgram while staging is partly written: its end in the file, and how many
        whole ones did not make it.
        """
        cdef uint64_t base = self.written - self.done    # of staging in the file
        cdef size_t at = self.staged if self.first_start < 0 else self.first_start
        cdef size_t stop = self.staged
        cdef uint64_t end = self.whole
        cdef uint64_t lost = 0
        if self.in_dgram and self.dgram_start >= base:
            stop = self.dgram_start - base
        if self.first_start < 0:
            lost = 0 if self.in_dgram else 1             # the rest of one dgram
            stop = 0
        elif at <= self.done:
            end = base + at
        else:
            lost = 1
        while at < stop:
            at += XTC_OFFSET + load32(self.staging + at + EXTENT_OFFSET)
            if at <= self.done:
                end = base + at
            else:
                lost += 1
        return end, lost
