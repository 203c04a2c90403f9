"""The signals that end drp: counted for the main loop, and the second one obeyed even where that cannot run."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from drp.engine._signals import watch_signals

JOIN_S = 5.0


@contextmanager
def counted_signals(last_s: float, code: int) -> Iterator[int]:
    """An eventfd that counts SIGINT, SIGTERM and SIGHUP; `last_s` after the second one the process ends with `code`, whatever it is at.

    One that this process was started to ignore, as nohup has it, is left alone.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    count = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def nothing(_number: int, _frame: FrameType | None) -> None:
        return

    arguments = (ours.fileno(), count, last_s, code)
    watch = threading.Thread(target=watch_signals, args=arguments, name="drp/signals", daemon=True)
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    wanted = [one for one in ends if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, nothing) for number in wanted}
    old = signal.set_wakeup_fd(theirs.fileno())
    watch.start()
    try:
        yield count
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        # After a second signal it does not return, and is not waited for.
        watch.join(JOIN_S if sys.exc_info()[0] is None else 0)
        if not watch.is_alive():
            ours.close()
            os.close(count)
