"""Files, streams in pieces and chunks: the same dgrams whatever way the bytes come."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xtc import builders as b
from tests.xtc.guard import GuardedBuffer
from tests.xtc.hostile import Hostile, corpus
from xtc import Dgram, Feed, Reader, Scan, Stream, Tail, TransitionId, XtcError

GUARD = GuardedBuffer(1 << 16)


def summary(dgram: Dgram) -> object:
    fields = [
        (one.field.name, one.value if isinstance(one.value, (int, str)) else one.value.tolist())
        for one in dgram.fields()
    ]
    return (dgram.index, dgram.offset, bytes(dgram), fields)


def write(folder: Path, raw: bytes, name: str = "a.xtc2") -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path


def test_a_reader_gives_every_dgram_with_its_place_as_often_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path, b.small_file(3))
    with Reader(path) as reader:
        assert [one.offset for one in reader] == [0, 2644, 2756, 2868]
        assert [summary(one) for one in reader] == [summary(one) for one in reader]
        assert reader.tail is None
        assert reader.config is not None
        assert reader.at(2756).fields()[0].value == 2
        with pytest.raises(XtcError):
            reader.at(1 << 40)


def test_arrays_outlive_the_reader(tmp_path: Path) -> None:
    with Reader(write(tmp_path, b.small_file(1))) as reader:
        array = list(reader)[1].fields()[1].value
    del reader
    assert array.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("cut", "tail"), [(1, (2756, 111, 112)), (111, (2756, 1, 24)), (88, (2756, 24, 112)), (112, None)]
)
def test_a_truncated_tail_is_an_end_that_is_reported(
    tmp_path: Path, cut: int, tail: tuple[int, int, int] | None
) -> None:
    path = write(tmp_path, b.small_file(2)[:-cut])
    reader = Reader(path)
    scan = reader.scan()
    assert len(list(scan)) == 2
    assert scan.tail == reader.tail == (Tail(*tail) if tail else None)
    assert list(scan) == []


def test_an_empty_file_has_no_dgrams(tmp_path: Path) -> None:
    reader = Reader(write(tmp_path, b""))
    assert (list(reader), reader.tail, reader.config, reader.has_configure) == ([], None, None, False)


def test_an_error_ends_the_iteration(tmp_path: Path) -> None:
    scan = Reader(write(tmp_path, b.small_file(1) + b.dgram(b.L1ACCEPT, extent=0) + b.small_file(1))).scan()
    assert len([next(scan), next(scan)]) == 2
    with pytest.raises(XtcError, match="extent of a dgram"):
        next(scan)
    assert list(scan) == []


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "none.xtc2")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xtc2")
    for path in (tmp_path / "pipe.xtc2", Path(os.devnull)):
        with pytest.raises(OSError, match="no regular file") as caught:
            Reader(path)
        assert caught.value.filename == str(path)
        with pytest.raises(OSError, match="no regular file"):
            next(iter(Stream(path)))
    with pytest.raises(IsADirectoryError):
        Reader(tmp_path)


def test_a_configure_has_its_own_config_whatever_it_is_given(tmp_path: Path) -> None:
    first = b.dgram(b.CONFIGURE, b.names(1, [("n", b.UINT8, 0)]))
    second = b.dgram(b.CONFIGURE, b.names(2, [("m", b.UINT8, 0)]))
    reader = Reader(write(tmp_path, first + second))
    scan = reader.scan()
    given = next(scan).config
    for dgram in (reader.at(len(first)), scan.at(len(first)), Dgram(second, config=given)):
        assert dgram.config is not None
        assert list(dgram.config.names) == [2]


def read_everything(buffer: memoryview) -> tuple[int, Tail | None]:
    scan = Scan(buffer, path="hostile")
    count = 0
    for dgram in scan:
        for shapes in dgram.shapes_data():
            shapes.values()
        _ = dgram.config
        count += 1
    return count, scan.tail


@pytest.mark.parametrize("case", corpus(), ids=lambda case: case.name)
def test_hostile_files_end_as_they_should_and_nothing_is_read_beyond_them(case: Hostile) -> None:
    held = GUARD.place(case.raw)
    if case.verdict == "error":
        with pytest.raises(XtcError) as caught:
            read_everything(held)
        assert caught.value.path == "hostile"
        assert caught.value.offset is not None
        assert 0 <= caught.value.offset < len(case.raw)
    else:
        assert (read_everything(held)[1] is not None) == (case.verdict == "tail")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.lists(st.integers(0, 3100), max_size=8), st.integers(0, 120))
def test_any_split_of_a_stream_gives_the_same_dgrams(events: int, cuts: list[int], lost: int) -> None:
    raw = b.small_file(events)
    raw = raw[: len(raw) - lost]
    scan = Scan(raw)
    wanted = [summary(one) for one in scan]
    feed = Feed()
    got: list[object] = []
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for first, last in pairwise(edges):
        got.extend(summary(one) for one in feed.feed(raw[first:last]))
    assert got == wanted
    assert feed.tail == scan.tail


def test_a_feed_refuses_to_hold_what_is_larger_than_allowed() -> None:
    feed = Feed(max_dgram_bytes=1000)
    feed.feed(b.dgram(b.L1ACCEPT))
    with pytest.raises(XtcError, match="larger than allowed") as caught:
        feed.feed(b.dgram(b.L1ACCEPT, extent=989))
    assert (caught.value.offset, caught.value.found) == (24, 1001)
    with pytest.raises(XtcError, match="out of range"):
        Feed().feed(b.dgram(b.L1ACCEPT, extent=3))


def test_an_index_of_headers_says_what_iterating_says_and_stops_at_transitions() -> None:
    raw = b.small_file(40)
    wanted = [(one.offset, one.size, one.timestamp, int(one.service)) for one in Scan(raw)]
    for room in (1, 7, 100):
        got = []
        scan = Scan(raw)
        for dgram in scan:
            got.append((dgram.offset, dgram.size, dgram.timestamp, int(dgram.service)))
            columns = [np.zeros(room, np.uint64) for _ in range(3)]
            services = np.zeros(room, np.uint8)
            count = scan.index(*columns, services)
            assert all(one >= TransitionId.SlowUpdate for one in services[:count])
            got += [tuple(int(one) for one in row) for row in zip(*columns, services, strict=True) if row[3]]
        assert got == wanted


@pytest.mark.parametrize("case", corpus(), ids=lambda case: case.name)
def test_an_index_of_a_hostile_file_reads_nothing_beyond_it(case: Hostile) -> None:
    scan = Scan(GUARD.place(case.raw), path="hostile")
    columns = [np.zeros(1000, np.uint64) for _ in range(3)]
    count = scan.index(*columns, np.zeros(1000, np.uint8))
    assert int(columns[1][:count].sum()) <= len(case.raw)
