"""A board in shared memory: one process posts, any number read and are never waited for.

A SysV segment of slots, each 64 bytes and then room for data. Before a slot is written to its stamp is made odd, afterwards even and larger
than before, with fences between. Who was told the stamp of what it wants copies the data out and looks at the stamp before and after: another one
says that the writer has overtaken it, and that the copy is worth nothing. Readers attach the segment read-only.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from drp.shm._segment cimport Segment
from drp.shm._sys cimport sys_fence, sys_load64, sys_store64

from drp.shm._segment import create

cdef enum:
    HEAD_BYTES = 64                  # u64 stamp, u64 size


cdef class Board:
    """A segment of `slots` slots for at most `slot_bytes` each. SegmentError where it cannot be had."""

    cdef readonly Segment segment
    cdef readonly uint64_t slots
    cdef readonly uint64_t slot_bytes
    cdef uint64_t stride
    cdef uint64_t posted

    def __init__(self, uint64_t slots, uint64_t slot_bytes):
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.stride = HEAD_BYTES + (slot_bytes + HEAD_BYTES - 1) // HEAD_BYTES * HEAD_BYTES
        self.segment = create(slots * self.stride)

    def post(self, data) -> tuple:
        """Write into the slot that was written to longest ago; returns its offset and its stamp. ValueError for more than `slot_bytes`."""
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef size_t n = view.shape[0]
        cdef uint64_t offset = self.posted % self.slots * self.stride
        cdef uint8_t *at = self.segment.base + offset
        if n > self.slot_bytes:
            raise ValueError(f"{n} bytes do not fit a slot of {self.slot_bytes}")
        self.posted += 1
        with nogil:
            sys_store64(<uint64_t *>at, 2 * self.posted - 1)
            sys_fence()
            (<uint64_t *>at)[1] = n
            if n:
                memcpy(at + HEAD_BYTES, &view[0], n)
            sys_fence()
            sys_store64(<uint64_t *>at, 2 * self.posted)
        return offset, 2 * self.posted


def read(Segment segment not None, uint64_t offset, uint64_t stamp, uint64_t size):
    """Return a copy of the `size` bytes in the slot at `offset` while it bears `stamp`; None where it was written to since, or bears another."""
    cdef bytes out
    cdef char *to
    cdef const uint8_t *at = segment.base + offset
    if offset % 8 or offset > segment.size or segment.size - offset < HEAD_BYTES or size > segment.size - offset - HEAD_BYTES:
        raise ValueError(f"{size} bytes at {offset} are not in a segment of {segment.size}")
    if sys_load64(<const uint64_t *>at) != stamp:
        return None
    out = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(out)
    with nogil:
        sys_fence()
        memcpy(to, at + HEAD_BYTES, size)
        sys_fence()
    return out if sys_load64(<const uint64_t *>at) == stamp else None
