"""Become a command, given as arguments, with no signal blocked or ignored. It is run by its path, and imports nothing of drp.

procServ 2.7 hands its own mask to its child: SIGHUP, SIGTERM and SIGPIPE would never arrive.
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__":
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - what this process is for
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
