"""Reading what another process says, within limits."""

from __future__ import annotations

import os
import selectors
import time


def read_within(fd: int, limit_s: float, max_bytes: int) -> bytes:
    """Return all that comes until the other side closes. Raises TimeoutError where that takes longer, ValueError where it is more than allowed."""
    deadline = time.monotonic() + limit_s
    parts = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"no end within {limit_s:g} s")
            part = os.read(fd, 65536)
            if not part:
                return bytes(parts)
            parts += part
            if len(parts) > max_bytes:
                raise ValueError(f"more than {max_bytes} bytes")
