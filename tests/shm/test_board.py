"""The board: who reads in time gets what was posted, who is overtaken notices."""

import pytest

from drp.shm._board import Board, read
from drp.shm._segment import attach


def test_what_was_posted_is_read_by_whoever_attaches_read_only() -> None:
    board = Board(4, 1000)
    offset, stamp = board.post(b"x" * 1000)
    reader = attach(board.segment.id, board.segment.size, True)
    assert reader.readonly and read(reader, offset, stamp, 1000) == b"x" * 1000
    with pytest.raises(TypeError):
        memoryview(reader)[0] = 1  # type: ignore[index]


def test_a_reader_that_was_overtaken_gets_nothing() -> None:
    board = Board(2, 64)
    offset, stamp = board.post(b"first")
    board.post(b"second")
    assert read(board.segment, offset, stamp, 5) == b"first"
    again, later = board.post(b"third")
    assert again == offset and later > stamp
    assert read(board.segment, offset, stamp, 5) is None
    assert read(board.segment, offset, later, 5) == b"third"


def test_a_slot_being_written_is_not_read() -> None:
    board = Board(2, 64)
    offset, stamp = board.post(b"whole")
    memoryview(board.segment).cast("B")[offset] = (stamp + 1) & 0xFF  # type: ignore[index]
    assert read(board.segment, offset, stamp, 5) is None


@pytest.mark.parametrize(("offset", "size"), [(1 << 40, 8), (0, 1 << 40), (3, 8), (64 * 4, 1)])
def test_what_lies_outside_is_refused(offset: int, size: int) -> None:
    board = Board(2, 64)
    with pytest.raises(ValueError, match="are not in a segment"):
        read(board.segment, offset, 2, size)


def test_what_does_not_fit_a_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a slot"):
        Board(2, 64).post(bytes(65))
