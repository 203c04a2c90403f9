"""The nursery's process and socket at drp's end: started with the right environment, used without waiting.

It knows the form of the messages, and nothing of what they are about.
"""

import itertools
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from drp.script.nursery_wire import (
    NURSERY_VARIABLE,
    WORKER_PID_VARIABLE,
    Message,
    WireError,
    encode,
    receive,
    send,
)

MESSAGES_AT_ONCE = 64
KILL_LIMIT_S = 5.0

# Of a launcher's variables, those that make an MPI in a worker believe it was started as a rank, and fail.
_MPI_PREFIXES = ("PMI", "PMIX_", "HYDI", "MPI_LOCAL", "PALS", "OMPI_")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# sys.path is drp's own, and not what -m would add: the working directory, where a user may keep a numpy.py.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from drp.script.nursery import main; raise SystemExit(main(sys.argv[2:]))"
)


def nursery_environment(environment: Mapping[str, str], cookie: str) -> dict[str, str]:
    """Return the environment of a nursery and its workers: one thread per library, no MPI rank, a cookie."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_MPI_PREFIXES)}
    kept.pop(WORKER_PID_VARIABLE, None)
    return kept | dict.fromkeys(_ONE_THREAD, "1") | {NURSERY_VARIABLE: cookie}


class NurseryLink:
    """A nursery process and drp's end of its socket."""

    def __init__(
        self, entry: str, preload: Sequence[str], environment: Mapping[str, str], path: Sequence[str]
    ) -> None:
        """Start the process in a session of its own; OSError if that is refused."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._broken = False
        command = [sys.executable, "-P", "-c", _BOOT, json.dumps(list(path))]
        options = {
            "--fd": str(theirs.fileno()),
            "--parent": str(os.getpid()),
            "--entry": entry,
            "--preload": ",".join(preload),
        }
        try:
            self.process = subprocess.Popen(
                [*command, *itertools.chain.from_iterable(options.items())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=dict(environment),
                start_new_session=True,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, to be polled for reading."""
        return self._socket.fileno()

    def post(self, message: Message, *descriptors: int) -> None:
        """Send a message now, or when the socket takes it; descriptors are the link's, and closed once sent.

        WireError, and the descriptors closed, if the message is over the limit. Since every message is
        answered, the socket becomes readable, and `messages` sends on, before anything can wait for ever.
        """
        try:
            packet = encode(message)
        except WireError:
            _close(descriptors)
            raise
        self._outbox.append((packet, descriptors))
        self._flush()

    def _flush(self) -> None:
        while self._outbox:
            packet, descriptors = self._outbox[0]
            try:
                send(self._socket, packet, descriptors)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                # The socket is readable for that as well: `messages` says so.
                self._broken = True
            self._outbox.popleft()
            _close(descriptors)

    def messages(self) -> Iterator[tuple[Message, list[int]]]:
        """Yield what has come, up to a bound; EOFError at end of file, WireError for a message not ours."""
        for _ in range(MESSAGES_AT_ONCE):
            try:
                received = receive(self._socket)
            except BlockingIOError:
                break
            except ConnectionResetError:
                received = None
            if received is None:
                raise EOFError
            yield received
        self._flush()
        if self._broken:
            raise EOFError

    def close(self) -> None:
        """Close the socket, which ends the nursery, and what was never sent."""
        self._socket.close()
        for _packet, descriptors in self._outbox:
            _close(descriptors)
        self._outbox.clear()

    def wait(self, patience_s: float) -> int | None:
        """Wait for the process to end, then kill it; return its code, None if it lives."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        try:
            return self.process.wait(KILL_LIMIT_S)
        except subprocess.TimeoutExpired:
            return None


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
