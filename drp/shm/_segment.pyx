"""SysV shared memory segments: made private to the user, marked for removal at once, attached by id.

A segment is made with IPC_PRIVATE and mode 0600, attached, and marked for removal. Its maker's attachment keeps the *id*
attachable for children, and when the last process that has it attached is gone, by whatever death, the kernel frees it: nothing can leak.

A Segment exports a buffer (read-only where it is attached so), and detaches when its last view is gone, never under a live view.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EINVAL, ENOSPC, errno
from libc.stdint cimport uint8_t

import os

from drp.core.errors import SegmentError

cdef extern from "<sys/shm.h>" nogil:
    cdef struct shmid_ds:
        size_t shm_segsz
    int shmget(int key, size_t size, int flags)
    void *shmat(int shmid, const void *address, int flags)
    int shmdt(const void *address)
    int shmctl(int shmid, int command, shmid_ds *buffer)
    int SHM_RDONLY
    int IPC_STAT
    int IPC_RMID
    int IPC_CREAT
    int IPC_PRIVATE

cdef enum:
    MODE = 0o600

cdef class Segment:
    """An attached SysV segment. The mapping lives as long as this object or any view of it."""

    def __cinit__(self, int id, size_t size, bint readonly):
        cdef shmid_ds stat
        self.base = NULL
        self.id = id
        self.size = size
        self.readonly = readonly
        if shmctl(id, IPC_STAT, &stat) != 0:
            raise OSError(errno, f"shared memory segment {id}: {os.strerror(errno)}")
        if stat.shm_segsz < size:
            raise ValueError(f"shared memory segment {id} has {stat.shm_segsz} bytes, expected at least {size}")
        cdef void *address = shmat(id, NULL, SHM_RDONLY if readonly else 0)
        if address == <void *>-1:
            raise OSError(errno, f"cannot attach shared memory segment {id}: {os.strerror(errno)}")
        self.base = <uint8_t *>address

    def __dealloc__(self):
        if self.base != NULL:
            shmdt(self.base)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.base, <Py_ssize_t>self.size, self.readonly, flags)

    def __len__(self):
        return self.size

    def __repr__(self):
        return f"<Segment {self.id}: {self.size} bytes{', read-only' if self.readonly else ''}>"


def create(size_t size) -> Segment:
    """Make a zeroed segment of `size` bytes, private to this user, gone when nobody has it attached any more.

    SegmentError, and nothing left, where the kernel has not that much to give or this process no address for it.
    """
    cdef int id = shmget(IPC_PRIVATE, size, IPC_CREAT | MODE)
    cdef int code = errno
    if id < 0:
        raise _refused(size, code)
    try:
        return Segment(id, size, False)
    except OSError as error:
        raise _refused(size, error.errno, attaching=True) from None
    finally:
        shmctl(id, IPC_RMID, NULL)


def can_have(sizes) -> bool:
    """Say whether segments of these sizes could be had, all at once. None is kept, and memory that is not touched costs nothing."""
    held = []
    try:
        for size in sizes:
            held.append(create(size))
    except SegmentError:
        return False
    return True


def _refused(size, code, attaching=False) -> SegmentError:
    """Say how many bytes could not be had, and which limit it may be."""
    if attaching:
        limit = "The address space may be limited (ulimit -v)."
    elif code == EINVAL:
        limit = "It may be more than a segment is allowed (sysctl kernel.shmmax)."
    elif code == ENOSPC:
        limit = "There may be too many segments, or too much in them (sysctl kernel.shmmni kernel.shmall; drp-ipc ls)."
    else:
        limit = "There may not be that much memory."
    return SegmentError(f"{size:,} bytes could not be had: {os.strerror(code)}", hint=limit)


def attach(int id, size_t size, bint readonly) -> Segment:
    """Attach the segment `id`, which must hold at least `size` bytes; OSError or ValueError where that fails."""
    return Segment(id, size, readonly)
