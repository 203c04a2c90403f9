"""`drp --check-jit`: a kernel that numba compiles while an event is in hand fails that event.

Compiling takes seconds, in which events pile up; it belongs before the first event. A kernel that is found in numba's cache on disk
counts too, for on the next machine it will not be there. It knows numba's events and the stream's, and no script.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event
from numba.core.dispatcher import Dispatcher

from drp.script._event import Stream
from drp.script.errors import ScriptError
from xtc import TransitionId

LOCK = "numba:compiler_lock"
"""numba's event for both: it is sent before a kernel is looked for in the cache."""


class LateKernel(ScriptError):
    """A kernel was compiled after the first event had come."""


class _Watch(event.Listener):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def on_start(self, _event: Any) -> None:
        stream = self._stream
        if stream.link.in_hand and stream.service >= TransitionId.L1Accept_EndOfBatch:
            raise LateKernel(
                f"{_kernel()} is compiled while an event waits (--check-jit)",
                hint="Call it once with arguments of these types before the loop over the events.",
            )

    def on_end(self, _event: Any) -> None:
        """Nothing ends that has not begun."""


def _kernel() -> str:
    """Return the name of what is being compiled, from the frames below."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        owner = frame.f_locals.get("self")
        if isinstance(owner, Dispatcher):
            types = frame.f_locals.get("args") or frame.f_locals.get("sig") or ()
            shown = ", ".join(str(one) for one in types) if isinstance(types, tuple) else str(types)
            return f"{owner.py_func.__module__}.{owner.py_func.__qualname__}({shown})"
    return "a kernel"


@contextmanager
def watched(stream: Stream) -> Iterator[None]:
    """Watch what is compiled in this process meanwhile."""
    watch = _Watch(stream)
    event.register(LOCK, watch)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        event.unregister(LOCK, watch)  # type: ignore[no-untyped-call]
