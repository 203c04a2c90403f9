"""What workers print: drained always, prefixed, limited, and the excess counted."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from drp.engine.output import LINE_LIMIT_BYTES, WorkerOutput

KEY = 77


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Pipes:
    """Both ends of a worker's pipes."""

    stdout: int
    stderr: int
    stdout_in: int
    stderr_in: int

    def end(self) -> None:
        """Close the worker's ends."""
        os.close(self.stdout_in)
        os.close(self.stderr_in)
        self.stdout_in = self.stderr_in = -1


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    stdout, stdout_in = os.pipe()
    stderr, stderr_in = os.pipe()
    os.set_blocking(stdout, False)
    os.set_blocking(stderr, False)
    pipes = Pipes(stdout, stderr, stdout_in, stderr_in)
    yield pipes
    if pipes.stdout_in >= 0:
        pipes.end()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def output(pipes: Pipes, clock: Clock, caplog: pytest.LogCaptureFixture) -> Iterator[WorkerOutput]:
    caplog.set_level(logging.DEBUG, logger="drp.worker")
    output = WorkerOutput(clock=clock, lines_per_s=2, burst_lines=4)
    output.add(KEY, "worker 3", pipes.stdout, pipes.stderr)
    yield output
    output.close()


def test_lines_are_logged_with_label_and_level_of_their_stream(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"one\n\ntwo\n")
    os.write(pipes.stderr_in, b"oh\r\n")
    assert output.on_readable(pipes.stdout)
    assert output.on_readable(pipes.stderr)
    assert caplog.record_tuples == [
        ("drp.worker", logging.INFO, "worker 3: one"),
        ("drp.worker", logging.INFO, "worker 3: "),
        ("drp.worker", logging.INFO, "worker 3: two"),
        ("drp.worker", logging.WARNING, "worker 3: oh"),
    ]


def test_line_in_pieces_is_logged_once_it_is_whole(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    for piece in (b"a", "\u00e9".encode()[:1], "\u00e9".encode()[1:], b"b"):
        os.write(pipes.stdout_in, piece)
        assert output.on_readable(pipes.stdout)
    assert caplog.messages == []
    os.write(pipes.stdout_in, b"\nnext")
    output.on_readable(pipes.stdout)
    assert caplog.messages == ["worker 3: a\u00e9b"]


def test_end_of_pipe_logs_the_line_begun_and_closes(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"last words")
    pipes.end()
    assert not output.on_readable(pipes.stdout)
    assert caplog.messages == ["worker 3: last words"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipes.stdout)
    assert output.remove(KEY) == [pipes.stderr]


def test_nothing_to_read_is_no_end(output: WorkerOutput, pipes: Pipes) -> None:
    assert output.on_readable(pipes.stdout)


def test_bytes_that_are_no_text_and_control_characters_are_shown_harmlessly(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"\xff \x1b[2J\ttab \x07 \xc2\x9b \x00 %s {x}\n")
    output.on_readable(pipes.stdout)
    assert caplog.messages == ["worker 3: \ufffd \\x1b[2J\ttab \\x07 \\x9b \\x00 %s {x}"]


def test_overlong_line_is_cut_and_says_by_how_much(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"x" * (LINE_LIMIT_BYTES + 5) + b"\n" + b"y" * LINE_LIMIT_BYTES + b"\n")
    output.on_readable(pipes.stdout)
    assert caplog.messages == [
        f"worker 3: {'x' * LINE_LIMIT_BYTES} [5 bytes more]",
        f"worker 3: {'y' * LINE_LIMIT_BYTES}",
    ]


def test_line_that_never_ends_is_not_kept(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"x" * 10_000)
    output.on_readable(pipes.stdout)
    assert caplog.messages == [f"worker 3: {'x' * LINE_LIMIT_BYTES} [{10_000 - LINE_LIMIT_BYTES} bytes more]"]


def test_lines_over_the_rate_are_counted_and_the_count_is_logged(
    output: WorkerOutput, pipes: Pipes, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"".join(b"%d\n" % number for number in range(10)))
    output.on_readable(pipes.stdout)
    assert caplog.messages == [f"worker 3: {number}" for number in range(4)]
    assert output.suppressed_lines == 6
    caplog.clear()
    clock.now = 0.5
    os.write(pipes.stdout_in, b"a\nb\n")
    output.on_readable(pipes.stdout)
    assert caplog.messages == ["worker 3: a"]
    caplog.clear()
    clock.now = 10.0
    os.write(pipes.stdout_in, b"c\n")
    output.on_readable(pipes.stdout)
    assert caplog.messages == ["worker 3: 7 lines were not shown, over 2 lines/s", "worker 3: c"]
    assert output.suppressed_lines == 7


def test_count_of_a_flood_that_stopped_is_logged_by_report_and_at_the_end(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    os.write(pipes.stdout_in, b"\n" * 9)
    output.on_readable(pipes.stdout)
    output.report()
    assert caplog.messages[-1] == "worker 3: 5 lines were not shown, over 2 lines/s"
    caplog.clear()
    output.report()
    assert caplog.messages == []
    os.write(pipes.stdout_in, b"\n" * 3)
    output.remove(KEY)
    assert caplog.messages == ["worker 3: 3 lines were not shown, over 2 lines/s"]


def test_one_worker_that_floods_does_not_silence_another(
    output: WorkerOutput, pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    others = [os.pipe() for _ in range(2)]
    for fd, _ in others:
        os.set_blocking(fd, False)
    output.add(78, "worker 4", *(fd for fd, _ in others))
    os.write(pipes.stdout_in, b"\n" * 100)
    os.write(others[0][1], b"still here\n")
    output.on_readable(pipes.stdout)
    output.on_readable(others[0][0])
    assert caplog.messages[-1] == "worker 4: still here"
    for _, fd in others:
        os.close(fd)


def test_reading_is_bounded_so_that_a_flood_cannot_hold_the_loop(
    output: WorkerOutput, pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def endless(fd: int, size: int) -> bytes:
        reads.append(fd)
        return b"y\n" * (size // 2)

    with monkeypatch.context() as patch:
        patch.setattr("drp.engine.output.os.read", endless)
        assert output.on_readable(pipes.stdout)
    assert len(reads) <= 8


def test_key_in_use_is_refused(output: WorkerOutput, pipes: Pipes) -> None:
    with pytest.raises(ValueError, match="key 77 is in use"):
        output.add(KEY, "worker 5", pipes.stdout, pipes.stderr)


def test_removed_worker_gives_its_key_and_descriptors_free(output: WorkerOutput, pipes: Pipes) -> None:
    assert sorted(output.remove(KEY)) == sorted((pipes.stdout, pipes.stderr))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipes.stderr)
    stdout, stderr = os.pipe(), os.pipe()
    for fd, _ in (stdout, stderr):
        os.set_blocking(fd, False)
    output.add(KEY, "worker 3", stdout[0], stderr[0])
    for _, fd in (stdout, stderr):
        os.close(fd)
