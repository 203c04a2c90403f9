"""What workers write to stdout and stderr: always read, logged line by line, never more than a log can bear.

The pipes are read whenever the main loop finds them readable, so that a worker never waits for us for long,
and a bounded amount at a time, so that one that floods its pipe cannot hold the loop. Lines go to the logger
`drp.worker`, stdout as INFO and stderr as WARNING, with the worker's label before them. A token bucket per
worker bounds the lines logged; the rest are counted, and the count is logged. Control characters are shown as
escapes and bytes that are not UTF-8 replaced: a script cannot move the cursor of drp's terminal.

This module does not poll, fork or decide anything.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

LINE_LIMIT_BYTES = 2048
READ_BYTES = 64 * 1024
READS_AT_ONCE = 4
LAST_READS = 64
REPORT_EVERY_S = 1.0
LINES_PER_S = 50.0
BURST_LINES = 200.0

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), *range(127, 160))}


@dataclass(slots=True)
class _Bucket:
    """A token bucket: `take` grants lines as far as the rate allows."""

    rate_per_s: float
    size: float
    tokens: float
    filled_at: float

    def take(self, wanted: int, now: float) -> int:
        """Return how many of the wanted lines may be logged now."""
        self.tokens = min(self.size, self.tokens + (now - self.filled_at) * self.rate_per_s)
        self.filled_at = now
        granted = min(wanted, int(self.tokens))
        self.tokens -= granted
        return granted


@dataclass(slots=True)
class _Pipe:
    """One pipe: whose it is, how its lines are logged, and the line begun and not ended."""

    key: int
    level: int
    partial: bytes = b""


@dataclass(slots=True)
class _Worker:
    label: str
    bucket: _Bucket
    pipes: set[int]
    suppressed: int = 0
    reported_at: float = float("-inf")


class WorkerOutput:
    """Reads the pipes of all workers; each has a key of the caller's choice, unique while it is here."""

    def __init__(
        self,
        *,
        logger: logging.Logger | None = None,
        clock: Callable[[], float] = time.monotonic,
        lines_per_s: float = LINES_PER_S,
        burst_lines: float = BURST_LINES,
    ) -> None:
        """Set the rate at which lines of one worker are logged."""
        self._logger = logging.getLogger("drp.worker") if logger is None else logger
        self._clock = clock
        self._rate = (lines_per_s, burst_lines)
        self._workers: dict[int, _Worker] = {}
        self._pipes: dict[int, _Pipe] = {}
        self._suppressed_total = 0

    @property
    def suppressed_lines(self) -> int:
        """Lines that were not logged because of the rate, of all workers that ever were."""
        return self._suppressed_total

    def add(self, key: int, label: str, stdout_fd: int, stderr_fd: int) -> None:
        """Take over the read ends of a worker's pipes, set not to block; `label` goes before each line."""
        if key in self._workers:
            raise ValueError(f"output: worker key {key} is in use")
        lines_per_s, burst = self._rate
        bucket = _Bucket(lines_per_s, burst, burst, self._clock())
        self._workers[key] = _Worker(label, bucket, {stdout_fd, stderr_fd})
        self._pipes[stdout_fd] = _Pipe(key, logging.INFO)
        self._pipes[stderr_fd] = _Pipe(key, logging.WARNING)

    def pipes_of(self, key: int) -> list[int]:
        """Return the descriptors of a worker that are still open; a number that was closed may be another's by now."""
        return list(self._workers[key].pipes)

    def on_readable(self, fd: int) -> bool:
        """Read what a pipe has, up to a bound, and log its whole lines; False once it is closed."""
        if self._read(fd, READS_AT_ONCE):
            return True
        self._end(fd)
        return False

    def drain(self, key: int) -> None:
        """Read what a worker has written so far, up to a bound: a dead one's last words, or a traceback.

        Closes nothing: a pipe at its end is still readable, and `on_readable` says so.
        """
        for fd in self._workers[key].pipes:
            self._read(fd, LAST_READS)

    def remove(self, key: int) -> list[int]:
        """Read what a worker has left, log how much was not shown, and close; return descriptors closed now.

        What a process that outlives the worker writes later has no reader any more.
        """
        self.drain(key)
        worker = self._workers[key]
        closed = list(worker.pipes)
        for fd in closed:
            self._end(fd)
        self._report(worker)
        del self._workers[key]
        return closed

    def report(self) -> None:
        """Log how many lines of each worker were not shown since the last report; call it now and then."""
        for worker in self._workers.values():
            self._report(worker)

    def close(self) -> None:
        """Remove all workers."""
        for key in tuple(self._workers):
            self.remove(key)

    def _read(self, fd: int, reads: int) -> bool:
        """Read what a pipe has, up to a number of reads; False at its end."""
        pipe = self._pipes[fd]
        for _ in range(reads):
            try:
                chunk = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._take(pipe, chunk)
        return True

    def _end(self, fd: int) -> None:
        pipe = self._pipes.pop(fd)
        worker = self._workers[pipe.key]
        if pipe.partial:
            self._log(worker, pipe.level, [pipe.partial])
        worker.pipes.remove(fd)
        os.close(fd)

    def _take(self, pipe: _Pipe, chunk: bytes) -> None:
        *lines, pipe.partial = (pipe.partial + chunk).split(b"\n")
        if len(pipe.partial) > LINE_LIMIT_BYTES:
            lines.append(pipe.partial)
            pipe.partial = b""
        if lines:
            self._log(self._workers[pipe.key], pipe.level, lines)

    def _log(self, worker: _Worker, level: int, lines: list[bytes]) -> None:
        now = self._clock()
        granted = worker.bucket.take(len(lines), now)
        if now - worker.reported_at >= REPORT_EVERY_S:
            self._report(worker)
        for line in lines[:granted]:
            self._logger.log(level, "%s: %s", worker.label, _text(line))
        worker.suppressed += len(lines) - granted
        self._suppressed_total += len(lines) - granted

    def _report(self, worker: _Worker) -> None:
        worker.reported_at = self._clock()
        if worker.suppressed:
            self._logger.warning(
                "%s: %d lines were not shown, over %g lines/s", worker.label, worker.suppressed, self._rate[0]
            )
            worker.suppressed = 0


def _text(line: bytes) -> str:
    """Return a line fit to be shown: cut at the limit, without control characters but tabs."""
    left_out = len(line) - LINE_LIMIT_BYTES
    text = line[:LINE_LIMIT_BYTES].decode(errors="replace").rstrip("\r").translate(_ESCAPES)
    return f"{text} [{left_out} bytes more]" if left_out > 0 else text
