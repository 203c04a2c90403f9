"""drp's end of the nursery: starting it, and forking, killing and reaping workers through it.

`Nursery` is one nursery process from start to end. Requests return at once (`start_begin`, `fork_begin`,
`reap_begin`); the answers come as events from `receive()` when `fileno()` is readable or `deadline()` has
passed, so drp's main loop never waits for a fork. `start`, `fork`, `reap` and `ping` do the same and wait.
It is for one thread only, and knows nothing of why a worker is forked or killed.

When the nursery dies its workers die too (their parent death signal) and become children of drp, which makes
itself a subreaper for that: they and what they left behind are killed and reaped here, and `NurseryLost`
says so. The next nursery is another `Nursery`.
"""

import itertools
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

from drp.core.errors import DrpError
from drp.engine._nursery_link import NurseryLink, nursery_environment
from drp.engine._remains import Origin, kill_remains
from drp.script.nursery_wire import (
    Fork,
    Forked,
    ForkFailed,
    Message,
    Ping,
    Pong,
    Ready,
    Reap,
    Reaped,
    StartFailed,
    WireError,
    describe_status,
)
from drp.script.process import become_subreaper, children

DEFAULT_ENTRY = "drp.script.worker:main"
DEFAULT_PRELOAD = ("numpy", "numba")
START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 10.0
END_LIMIT_S = 6.0
REMAINS_LIMIT_S = 2.0


class NurseryError(DrpError):
    """The nursery could not be started, did not answer, refused a fork, or is gone."""

    @property
    def where(self) -> str:
        """The nursery."""
        return "nursery"


class Spec(Protocol):
    """What a worker is forked with: its number, and itself as JSON text."""

    @property
    def worker(self) -> int:
        """The worker's number."""

    def to_json(self) -> str:
        """Return the text that `WorkerSpec.from_json` beside the entry point reads."""


@dataclass(frozen=True, slots=True)
class ForkedWorker:
    """A worker that stands in its own session and process group, which both have the number `pid`.

    `pidfd` is the nursery object's, readable once the worker is dead, and closed when it is reaped.
    `stdout_fd` and `stderr_fd`, the read ends of its pipes, do not block and belong to whoever has this
    record.
    """

    pid: int
    pidfd: int
    stdout_fd: int
    stderr_fd: int


@dataclass(frozen=True, slots=True)
class WorkerForked:
    """The answer to `fork_begin`: the worker stands."""

    id: int
    worker: ForkedWorker


@dataclass(frozen=True, slots=True)
class NurseryLost:
    """The nursery is gone, and every worker with it.

    `reaped` says how those ended that stood and were not reaped before; `unanswered` holds the ids of the
    forks that will not be answered.
    """

    reason: str
    reaped: tuple[Reaped, ...]
    unanswered: tuple[int, ...]


_ENDED = "its process ended"
_NOT_READY = " before it was ready"

Event = Ready | WorkerForked | ForkFailed | Reaped | Pong | NurseryLost
_Answer = TypeVar("_Answer", Ready, WorkerForked, Reaped, Pong)


class Nursery:
    """One nursery process and the workers forked from it."""

    def __init__(
        self,
        entry: str = DEFAULT_ENTRY,
        *,
        preload: Sequence[str] = DEFAULT_PRELOAD,
        environment: Mapping[str, str] | None = None,
        path: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        start_limit_s: float = START_LIMIT_S,
        answer_limit_s: float = ANSWER_LIMIT_S,
    ) -> None:
        """Say what workers run, and what is imported (`module`) or called (`module:function`) before.

        `environment` and `path` default to our own.
        """
        self._entry = entry
        self._preload = tuple(preload)
        self._environment = dict(os.environ if environment is None else environment)
        self._path = list(sys.path if path is None else path)
        self._clock = clock
        self._start_limit_s = start_limit_s
        self._answer_limit_s = answer_limit_s
        self._origin = Origin(f"{os.getpid()}.{secrets.token_hex(8)}", frozenset())
        self._ids = itertools.count(1)
        self._link: NurseryLink | None = None
        self._ready = False
        self._lost: str | None = None
        self._deadlines: dict[tuple[str, int], float] = {}
        self._pipes: dict[int, tuple[int, int]] = {}
        self._workers: dict[int, ForkedWorker] = {}
        self._reaping: dict[int, ForkedWorker] = {}
        self._backlog: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The pid of the nursery's process; NurseryError if it is not running."""
        return self._running().process.pid

    @property
    def ready(self) -> bool:
        """Whether it has said that workers can be forked, and is not lost."""
        return self._ready and self._lost is None

    @property
    def lost(self) -> str | None:
        """Why the nursery is gone, None if it is not."""
        return self._lost

    def start_begin(self) -> None:
        """Start the process; `Ready` follows, or `NurseryLost`. Makes this process a subreaper."""
        if self._link is not None or self._lost is not None:
            raise NurseryError("it was started before; make another one")
        become_subreaper()
        self._origin = replace(self._origin, older=frozenset(children(os.getpid())))
        environment = nursery_environment(self._environment, self._origin.cookie)
        try:
            self._link = NurseryLink(self._entry, self._preload, environment, self._path)
        except OSError as error:
            raise NurseryError(f"its process could not be started: {error}") from error
        self._deadlines["start", 0] = self._clock() + self._start_limit_s

    def start(self) -> None:
        """Start the process and wait until workers can be forked; NurseryError if it comes to nothing."""
        self.start_begin()
        self._await(Ready, lambda _ready: True, self._start_limit_s)

    def fork_begin(self, spec: Spec) -> int:
        """Ask for a worker; return the id that `WorkerForked` or `ForkFailed` will bear.

        NurseryError if the nursery is gone, WireError if the spec is too long.
        """
        link = self._running()
        text = spec.to_json()
        number = next(self._ids)
        stdout, stdout_in = _pipe()
        try:
            stderr, stderr_in = _pipe()
        except NurseryError:
            os.close(stdout)
            os.close(stdout_in)
            raise
        self._pipes[number] = (stdout, stderr)
        try:
            link.post(Fork(number, f"drp-worker-{spec.worker}", text), stdout_in, stderr_in)
        except WireError:
            self._forget_pipes(number)
            raise
        # A nursery that still imports and compiles answers once it stands: until then its start is what is limited.
        begin_s = self._clock() if self._ready else self._deadlines["start", 0]
        self._deadlines["fork", number] = begin_s + self._answer_limit_s
        return number

    def fork(self, spec: Spec) -> ForkedWorker:
        """Fork a worker and wait until it stands; NurseryError if it does not."""
        number = self.fork_begin(spec)
        return self._await(
            WorkerForked, lambda event: event.id == number, self._answer_limit_s, number
        ).worker

    def kill(self, worker: ForkedWorker) -> bool:
        """Kill a worker and its process group; False, and nothing done, once its reaping was asked for."""
        if worker.pid not in self._workers:
            return False
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)
        return True

    def request_traceback(self, worker: ForkedWorker) -> bool:
        """Have a worker write the traceback of all its threads to its stderr; False as for `kill`."""
        if worker.pid not in self._workers:
            return False
        signal.pidfd_send_signal(worker.pidfd, signal.SIGUSR1)
        return True

    def reap_begin(self, worker: ForkedWorker) -> None:
        """Ask for a worker to be killed, if it is not dead, and reaped with all it left; `Reaped` follows.

        The caller polls the pidfd no more. No time limit: a process in uninterruptible sleep dies when it
        wakes; but the nursery must show soon that it has seen the request.
        """
        link = self._running()
        if worker.pid not in self._workers:
            raise NurseryError(f"worker process {worker.pid} is being or has been reaped")
        self._reaping[worker.pid] = self._workers.pop(worker.pid)
        link.post(Reap(worker.pid))
        number = next(self._ids)
        link.post(Ping(number))
        self._deadlines["reap", number] = self._clock() + self._answer_limit_s

    def reap(self, worker: ForkedWorker) -> Reaped:
        """Kill and reap a worker with all it left, and wait for that."""
        self.reap_begin(worker)
        return self._await(Reaped, lambda event: event.pid == worker.pid, self._answer_limit_s)

    def ping(self) -> None:
        """Wait for a sign of life; NurseryError if there is none."""
        number = next(self._ids)
        self._running().post(Ping(number))
        self._deadlines["ping", number] = self._clock() + self._answer_limit_s
        self._await(Pong, lambda event: event.id == number, self._answer_limit_s)

    def fileno(self) -> int:
        """Return the descriptor to poll for reading; NurseryError if the nursery is not running."""
        return self._running().fileno()

    def deadline(self) -> float | None:
        """Return the time, on the injected clock, at which an unanswered request makes the nursery lost."""
        return min(self._deadlines.values(), default=None)

    def postpone(self, by_s: float) -> None:
        """Move all deadlines: drp itself stood still for so long."""
        self._deadlines = {key: time_s + by_s for key, time_s in self._deadlines.items()}

    def receive(self) -> list[Event]:
        """Return what has happened since the last call, without waiting; `NurseryLost` is the last of all.

        Call it after a method that waits, too: events may have come meanwhile that poll does not tell of.
        """
        events, self._backlog = self._backlog, []
        if self._link is None or self._lost is not None:
            return events
        try:
            for message, descriptors in self._link.messages():
                if not isinstance(message, Pong) or self._deadlines.pop(("reap", message.id), None) is None:
                    events.append(self._event(message, descriptors))
            self._check_deadlines()
        except EOFError:
            events.append(self._lose(_ENDED, patience_s=1.0))
        except (WireError, NurseryError) as error:
            events.append(self._lose(error.what, patience_s=0.0))
        return events

    def give_up(self, reason: str) -> None:
        """End a nursery that does not do its work; the next `receive` returns its `NurseryLost`."""
        if self._link is not None and self._lost is None:
            self._backlog.append(self._lose(reason, patience_s=0.0))

    def close(self) -> None:
        """End the nursery and every worker, and close what is ours; the workers' pipes are their owner's."""
        if self._link is not None and self._lost is None:
            self._lose("it was closed", patience_s=END_LIMIT_S)
        for worker in self._reaping.values():
            os.close(worker.pidfd)
        self._reaping.clear()

    def _running(self) -> NurseryLink:
        if self._lost is not None:
            raise NurseryError(self._lost)
        if self._link is None:
            raise NurseryError("it was not started")
        return self._link

    def _event(self, message: Message, descriptors: list[int]) -> Event:
        match message:
            case Ready() if not self._ready:
                self._ready = True
                del self._deadlines["start", 0]
                answer_s = self._clock() + self._answer_limit_s
                self._deadlines = {key: min(time_s, answer_s) for key, time_s in self._deadlines.items()}
                return message
            case Forked(number, pid) if number in self._pipes:
                del self._deadlines["fork", number]
                worker = ForkedWorker(pid, descriptors[0], *self._pipes.pop(number))
                self._workers[pid] = worker
                return WorkerForked(number, worker)
            case ForkFailed(number) if number in self._pipes:
                del self._deadlines["fork", number]
                self._forget_pipes(number)
                return message
            case Reaped(pid) if pid in self._reaping:
                os.close(self._reaping.pop(pid).pidfd)
                return message
            case Pong(number) if ("ping", number) in self._deadlines:
                del self._deadlines["ping", number]
                return message
            case StartFailed(reason):
                raise NurseryError(f"it could not start\n{reason}")
        for descriptor in descriptors:
            os.close(descriptor)
        raise NurseryError(f"it answered what was not asked: {message}")

    def _check_deadlines(self) -> None:
        now = self._clock()
        for (request, _number), deadline in self._deadlines.items():
            if now >= deadline:
                limit_s = self._start_limit_s if request == "start" else self._answer_limit_s
                raise NurseryError(f"it did not answer {request!r} within {limit_s:g} s")

    def _forget_pipes(self, number: int) -> None:
        for descriptor in self._pipes.pop(number):
            os.close(descriptor)

    def _lose(self, reason: str, patience_s: float) -> NurseryLost:
        """End the process, and with it all that came from it."""
        link = self._running()
        link.close()
        code = link.wait(patience_s)
        if code is not None and reason == _ENDED:
            reason = f"its process ended with {_describe_code(code)}{'' if self._ready else _NOT_READY}"
        self._lost = reason
        self._deadlines.clear()
        unanswered = tuple(self._pipes)
        for number in unanswered:
            self._forget_pipes(number)
        self._reaping |= self._workers
        self._workers.clear()
        # One that ended with 0 has killed and reaped them all itself.
        reaped = kill_remains(self._reaping.keys(), self._origin, REMAINS_LIMIT_S) if code != 0 else ()
        return NurseryLost(reason, reaped, unanswered)

    def _await(
        self,
        kind: type[_Answer],
        wanted: Callable[[_Answer], bool],
        limit_s: float,
        fork_id: int | None = None,
    ) -> _Answer:
        """Wait for an event, leaving the others to `receive`; NurseryError if it cannot come any more."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        deadline = self._clock() + limit_s
        others: list[Event] = []
        answer: _Answer | None = None
        refusal: str | None = None
        while answer is None and refusal is None:
            poll.poll(max(0.0, deadline - self._clock()) * 1000)
            for event in self.receive():
                if isinstance(event, kind) and wanted(event):
                    answer = event
                    continue
                if isinstance(event, ForkFailed) and event.id == fork_id:
                    refusal = event.reason
                    continue
                others.append(event)
                if isinstance(event, NurseryLost):
                    refusal = event.reason
            if answer is None and refusal is None and self._clock() >= deadline:
                refusal = f"no {kind.__name__} within {limit_s:g} s"
        self._backlog = others
        if answer is None:
            raise NurseryError(refusal or "")
        return answer


def _pipe() -> tuple[int, int]:
    """Make a pipe whose read end does not block; the write end does, as a program expects of its stdout."""
    try:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise NurseryError(f"no pipe for a worker's output: {error.strerror}") from error
    os.set_blocking(read_end, False)
    return read_end, write_end


def _describe_code(code: int) -> str:
    """Say in words how subprocess says that a process ended."""
    return describe_status(-code if code < 0 else code << 8)
