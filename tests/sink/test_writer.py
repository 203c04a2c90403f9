"""The file writer: whatever the system does, the bytes are those given, or are cut at a whole dgram."""

import errno
import fcntl
import os
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.sink._writer import FileWriter

PIPE_BYTES = 4096


def dgram(number: int, payload: int) -> list[bytes]:
    """A dgram in two parts, header and payload."""
    return [
        struct.pack("<IIIIHHI", number, 0, 0x0C000000, 0, 0, 0, 12 + payload),
        bytes([number % 251]) * payload,
    ]


@pytest.fixture
def pipe() -> Iterator[tuple[int, Callable[[], bytes]]]:
    """A full-able pipe: its writing end, and what drains it."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    os.set_blocking(out, False)
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def drain() -> bytes:
        got = b""
        while True:
            try:
                got += os.read(out, 1 << 16)
            except BlockingIOError:
                return got

    yield into, drain
    os.close(out)
    os.close(into)


def open_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


@pytest.mark.parametrize("threshold", [128, 512])
def test_a_partial_write_goes_on_at_the_exact_byte(
    pipe: tuple[int, Callable[[], bytes]], threshold: int
) -> None:
    into, drain = pipe
    writer = FileWriter(into, 1024, threshold)
    want = b""
    got = b""
    pauses = 0
    for number in range(200):
        parts = dgram(number, number * 37 % 6000)
        want += b"".join(parts)
        while not writer.append_parts(parts):
            assert writer.error == errno.EAGAIN
            pauses += 1
            got += drain()
    while not writer.flush_all():
        got += drain()
    got += drain()
    assert pauses > 50
    assert got == want
    assert writer.accepted == writer.written == writer.whole == len(want)


def test_a_flush_between_two_tries_of_a_large_range_loses_nothing(
    pipe: tuple[int, Callable[[], bytes]],
) -> None:
    into, drain = pipe
    writer = FileWriter(into, 1024, 512)
    parts = dgram(1, 9000)
    assert not writer.append_parts(parts)
    got = drain()
    assert writer.flush_all()
    while not writer.append_parts(parts):
        got += drain()
    got += drain()
    assert got == b"".join(parts)


def test_a_full_disk_pauses_and_resumes_with_nothing_lost(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700 << 10))
    fd = open_file(small_disk / "out")
    writer = FileWriter(fd, 100_000)
    want = b""
    paused = False
    for number in range(40):
        parts = dgram(number, 20000)
        want += b"".join(parts)
        while not writer.append_parts(parts):
            assert writer.error == errno.ENOSPC
            assert not paused
            paused = True
            ballast.unlink()
    assert writer.finish() == {"bytes": len(want), "lost_bytes": 0, "lost_dgrams": 0}
    os.close(fd)
    assert paused
    assert (small_disk / "out").read_bytes() == want


@pytest.mark.parametrize("payload", [0, 100, 3000, 20000, 70000])
def test_a_disk_that_stays_full_leaves_whole_dgrams(small_disk: Path, payload: int) -> None:
    fd = open_file(small_disk / "out")
    writer = FileWriter(fd, 100_000)
    want = b""
    accepted = 0
    for number in range(1 << 20):
        parts = dgram(number, payload)
        if not writer.append_parts(parts):
            break
        want += b"".join(parts)
        accepted += 1
    told = writer.finish()
    os.close(fd)
    got = (small_disk / "out").read_bytes()
    size = 24 + payload
    assert len(got) % size == 0
    assert 0 < len(got) <= 1 << 20
    assert got == want[: len(got)]
    assert told == {
        "bytes": len(got),
        "lost_bytes": len(want) - len(got),
        "lost_dgrams": accepted - len(got) // size,
    }
    assert len(got) // size >= min(accepted, (1 << 20) // size - 1)


def test_nothing_is_written_before_what_it_points_to(tmp_path: Path) -> None:
    big_fd, smd_fd = open_file(tmp_path / "big"), open_file(tmp_path / "smd")
    big = FileWriter(big_fd)
    smd = FileWriter(smd_fd, 4096, 4096, before=big)
    for number in range(100):
        assert big.append_parts(dgram(number, 50))
        assert smd.append_parts(dgram(number, 52))
        assert big.written >= smd.written // 76 * 74
    assert smd.written
    os.close(big_fd)
    os.close(smd_fd)


def test_one_whose_forerunner_cannot_be_written_pauses_too(
    pipe: tuple[int, Callable[[], bytes]], tmp_path: Path
) -> None:
    into, drain = pipe
    fd = open_file(tmp_path / "smd")
    big = FileWriter(into, 8192, 8192)
    smd = FileWriter(fd, before=big)
    assert big.append_parts(dgram(1, 6000))
    assert smd.append_parts(dgram(1, 52))
    assert not smd.flush_all()
    assert (smd.error, smd.written) == (errno.EAGAIN, 0)
    drain()
    assert smd.flush_all()
    assert (big.written, smd.written) == (6024, 76)
    os.close(fd)


def test_a_file_that_may_not_grow_is_a_pause_not_a_signal(tmp_path: Path) -> None:
    fd = open_file(tmp_path / "out")
    writer = FileWriter(fd, 4096, 4096)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        for number in range(4):
            done = writer.append_parts(dgram(number, 5000))
            if not done:
                break
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done, writer.error, writer.written) == (False, errno.EFBIG, 10_000)
    assert writer.append_parts(dgram(number, 5000))
    assert writer.finish()["lost_bytes"] == 0
    os.close(fd)


@given(
    payloads=st.lists(st.integers(0, 700), min_size=1, max_size=40),
    room=st.integers(0, 12_000),
    flushes=st.sets(st.integers(0, 40)),
)
def test_a_file_cut_anywhere_ends_with_a_whole_dgram(
    payloads: list[int], room: int, flushes: set[int]
) -> None:
    fd = os.memfd_create("out")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = FileWriter(fd, 1024, 400)
    ends = [0]
    want = b""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        for number, payload in enumerate(payloads):
            parts = dgram(number, payload)
            if not writer.append_parts(parts):
                break
            want += b"".join(parts)
            ends.append(len(want))
            if number in flushes and not writer.flush_all():
                break
        told = writer.finish()
        got = os.pread(fd, 1 << 20, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.close(fd)
    assert got == want[: len(got)]
    assert len(got) == max(end for end in ends if end <= room)
    assert told["bytes"] == len(got)
    assert told["lost_bytes"] == len(want) - len(got)
    assert told["lost_dgrams"] == sum(1 for end in ends if end > len(got))


@pytest.mark.parametrize(("flush_s", "written"), [(0.0, 74), (1000.0, 0)])
def test_bytes_stay_in_staging_no_longer_than_they_may(tmp_path: Path, flush_s: float, written: int) -> None:
    fd = open_file(tmp_path / "out")
    writer = FileWriter(fd, flush_s=flush_s)
    assert writer.append_parts(dgram(1, 50))
    assert writer.written == 0
    assert writer.flush_old()
    assert (writer.written, writer.accepted) == (written, 74)
    os.close(fd)


@pytest.mark.parametrize(("staging", "threshold"), [(100, 100), (1024, 2048), (1024, 64)])
def test_sizes_that_cannot_work_are_refused(staging: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="staging"):
        FileWriter(1, staging, threshold)
