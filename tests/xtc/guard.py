"""Bytes that end where the process may not read on: one byte beyond is a segmentation fault, not luck."""

from __future__ import annotations

import ctypes
import mmap

_PROT_NONE = 0
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class GuardedBuffer:
    """Room for `size` bytes before a page without access; `place` puts bytes right before that page."""

    def __init__(self, size: int) -> None:
        self._pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(-1, self._pages + mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if _LIBC.mprotect(address + self._pages, mmap.PAGESIZE, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect failed")
        self._view = memoryview(self._map)

    def place(self, raw: bytes) -> memoryview:
        """Return a read-only view of a copy of `raw` that ends at the guard; the next call overwrites it."""
        start = self._pages - len(raw)
        if start < 0:
            raise ValueError(f"{len(raw)} bytes do not fit in {self._pages}")
        self._view[start : self._pages] = raw
        return self._view[start : self._pages].toreadonly()
