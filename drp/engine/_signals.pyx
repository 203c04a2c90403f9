"""The signals that end drp, counted by a thread that never needs the interpreter.

Python's own C handler writes a byte to a socket for each signal, at once, whatever the interpreter is busy with. The thread here reads them. So
the second signal ends drp within its limit by construction, be it that a source holds the GIL, that a file system does not answer, or that drp is
closing what it has open. It knows nothing of runs; the main loop is told by an eventfd.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint64_t
from posix.unistd cimport _exit, read, write

from drp.shm._sys cimport sys_sleep_ns


def watch_signals(int wakeup_fd, int event_fd, double limit_s, int code) -> None:
    """Add 1 to the eventfd `event_fd` for each signal; `limit_s` after the second end the process with `code`.

    Returns at the end of file of `wakeup_fd`, a blocking descriptor. Run it in a thread of its own.
    """
    cdef uint8_t[64] told
    cdef uint64_t limit_ns = <uint64_t>(limit_s * 1e9)
    cdef uint64_t more
    cdef uint64_t seen = 0
    cdef ssize_t n
    with nogil:
        while True:
            n = read(wakeup_fd, &told[0], sizeof(told))
            if n < 0 and errno == EINTR:
                continue
            if n <= 0:
                break
            more = <uint64_t>n
            seen += more
            write(event_fd, &more, sizeof(more))
            if seen > 1:
                sys_sleep_ns(limit_ns)
                _exit(code)
