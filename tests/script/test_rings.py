"""A worker in its own process, on real segments, against a model of drp's end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dgrams import Builder
from ring_parent import REPLAY, Answer, RingParent

from drp.script.worker import EXIT_LINK_BROKEN, EXIT_SCRIPT_FAILED
from xtc import TransitionId

INFO = {"det_name": "cam", "det_type": "epixhr", "det_id": "serial0"}
SCRIPT = """
import sys
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("cam", "epixhr", "serial0"), AlgDef("fex", 0, 0, 1), {"x": (np.uint8, 1)})
for run in ds.runs():
    for evt in run.events():
        fex.fex.x = np.full(int(sys.argv[1]), evt.index, np.uint8)
        ds.add_data(fex.fex)
"""


class Line:
    """A parent with a running worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = Builder(1)
        self.parent = RingParent()

    def start(self, text: str, *args: str, arena_bytes: int = 1 << 20) -> RingParent:
        path = self.folder / "script.py"
        path.write_text(text)
        self.parent = RingParent(arena_bytes=arena_bytes)
        self.parent.start(self.parent.spec([str(path), *args], INFO))
        return self.parent

    def begin(self) -> list[Answer]:
        builder = self.builder
        for dgram in (
            builder.configure(),
            builder.begin_run(),
            builder.begin_step(),
            builder.bare(TransitionId.Enable),
        ):
            self.parent.push(dgram)
        return self.parent.answers(4)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    one = Line(tmp_path)
    yield one
    if one.parent.process is not None and one.parent.process.is_alive():
        one.parent.process.kill()
        one.parent.process.join()


def test_a_copy_of_the_worker_that_goes_on_in_the_loop_touches_no_ring(line: Line) -> None:
    parent = line.start("""
import os, signal
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("cam", "epixhr", "serial0"), AlgDef("fex", 0, 0, 1), {"x": (np.uint8, 0)})
copy = None
for run in ds.runs():
    for number, _ in enumerate(run.events()):
        if number == 1:
            copy = os.fork()
            if copy == 0:
                signal.alarm(5)
        fex.fex.x = 77 if copy == 0 else number
        ds.add_data(fex.fex)
        if copy:
            copy, status = None, os.waitpid(copy, 0)[1]
            assert os.waitstatus_to_exitcode(status) == 3
""")
    line.begin()
    for index in range(4):
        parent.push(line.builder.event(index))
    answers = parent.answers(4)
    assert [(one.status, one.data[-1]) for one in answers] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_every_entry_gets_one_answer_in_order_and_stop_ends_with_zero(line: Line) -> None:
    parent = line.start(SCRIPT, "40")
    assert line.begin()[0].json["names"][0]["alg"] == "fex"
    event = line.builder.event(0)
    offset = parent.place(event)
    answers: list[Answer] = []
    for first in range(0, 3000, 300):
        for index in range(first, first + 300):
            parent.push_entry(
                100 + index, 0, index % 256, offset, len(event), 1 << 16, TransitionId.L1Accept, 0
            )
        answers += parent.answers(300)
    assert [one.seq for one in answers] == list(range(100, 3100))
    assert all(one.data == bytes([index % 256]) * 40 for index, one in enumerate(answers))
    assert all(one.position % 8 == 0 for one in answers)
    parent.stop()
    parent.answers(1)
    assert parent.exit_code() == 0


def test_a_full_arena_makes_the_worker_wait_and_not_lose_anything(line: Line) -> None:
    parent = line.start(SCRIPT, "200", arena_bytes=4096)
    line.begin()
    event = line.builder.event(0)
    offset = parent.place(event)
    for index in range(200):
        parent.push_entry(index + 1, 0, index, offset, len(event), 1 << 16, TransitionId.L1Accept, 0)
    kept = parent.answers(8, record=False)
    waited = parent.wait_for(lambda: parent.state == 2)
    assert waited
    assert parent.taken - parent.longs[24] == 1
    parent.give_back(kept[-1].position + len(kept[-1].desc) + len(kept[-1].data))
    rest = parent.answers(192)
    found = [one.data for one in (*kept, *rest)]
    assert found == [bytes([index % 256]) * 200 for index in range(200)]
    # The wait is not counted as service: 200 events of a few microseconds stay far below it.
    assert max(one.service_ns for one in rest) < 5_000_000_000
    parent.stop()
    parent.answers(1)
    assert parent.exit_code() == 0


def test_a_large_result_goes_to_the_front_of_an_arena_that_is_empty(line: Line) -> None:
    """Memory that was never touched costs more than the copy."""
    size = (1 << 20) + 5
    parent = line.start(SCRIPT, str(size), arena_bytes=8 << 20)
    line.begin()
    event = line.builder.event(0)
    offset = parent.place(event)

    def dealt(index: int, *, record: bool = True) -> int:
        parent.push_entry(index + 1, 0, index, offset, len(event), 2 << 20, TransitionId.L1Accept, 0)
        (answer,) = parent.answers(1, record=record)
        assert answer.data == bytes([index % 256]) * size
        return answer.position % (8 << 20)

    places = [dealt(index) for index in range(20)]
    assert max(places) < 2 * size
    kept = [dealt(index, record=False) for index in range(20, 25)]
    assert kept == sorted(kept)
    assert kept[-1] - kept[0] >= 4 * size
    parent.stop()
    parent.answers(1)
    assert parent.exit_code() == 0


def test_results_of_events_go_around_at_the_front_of_a_large_arena(line: Line) -> None:
    """There they stay in caches; the rest of the arena is for transitions."""
    arena_bytes, bound, size = 1 << 20, 4096, 1500
    parent = line.start(SCRIPT, str(size), arena_bytes=arena_bytes)
    line.begin()
    event = line.builder.event(0)
    offset = parent.place(event)
    answers: list[Answer] = []
    for first in range(0, 300, 3):
        for index in range(first, first + 3):
            parent.push_entry(index + 1, 0, index % 256, offset, len(event), bound, TransitionId.L1Accept, 0)
        answers += parent.answers(3)
    assert all(one.data == bytes([index % 256]) * size for index, one in enumerate(answers))
    ends = [one.position % arena_bytes + len(one.desc) + len(one.data) for one in answers]
    assert max(ends) <= 4 * bound
    assert answers[-1].position > 20 * arena_bytes
    parent.stop()
    parent.answers(1)
    assert parent.exit_code() == 0


def test_a_result_larger_than_the_arena_can_hold_is_an_overflow(line: Line) -> None:
    parent = line.start(SCRIPT, "3000", arena_bytes=4096)
    line.begin()
    parent.push(line.builder.event(0))
    (answer,) = parent.answers(1)
    assert (answer.status, answer.desc, answer.data) == (2, b"", b"")


def test_a_sleeping_worker_is_woken_by_its_doorbell(line: Line) -> None:
    parent = line.start(SCRIPT, "1")
    line.begin()
    event = line.builder.event(0)
    offset = parent.place(event)
    for index in range(50):
        assert parent.wait_for(lambda: parent.state == 1)
        parent.push_entry(index + 1, 0, index, offset, len(event), 1 << 16, TransitionId.L1Accept, 0)
        (answer,) = parent.answers(1)
        assert answer.seq == index + 1


def test_a_worker_rings_the_bell_of_a_drp_that_sleeps(line: Line) -> None:
    parent = line.start(SCRIPT, "1")
    line.begin()
    bell = parent.bell_memory.cast("I")
    parent.push(line.builder.event(0))
    parent.answers(1)
    assert (bell[16], bell[0]) == (0, 0)
    bell[17] = 1
    parent.push(line.builder.event(0))
    parent.answers(1)
    assert parent.wait_for(lambda: bell[16] == 1)
    assert bell[0] == 0


def test_a_failure_is_the_answer_to_the_event_in_hand(line: Line) -> None:
    parent = line.start(SCRIPT.replace("ds.add_data", "evt.index < 2 or undefined(); ds.add_data"), "8")
    line.begin()
    for index in range(5):
        parent.push(line.builder.event(index), index=index)
    answers = parent.answers(3)
    assert [one.status for one in answers] == [0, 0, 1]
    assert answers[2].json["kind"] == "NameError"
    assert parent.exit_code() == EXIT_SCRIPT_FAILED
    assert parent.taken == 4 + 3


def test_replays_are_answered_and_set_the_environment(line: Line) -> None:
    parent = line.start(
        "from drp import *\nimport numpy as np\nds = DataSource()\n"
        "fex = ds.add_detector(DetectorDef('cam', '', ''), AlgDef('fex', 0, 0, 1), {'hv': (np.float64, 0)})\n"
        "for run in ds.runs():\n    hv = run.Detector('hv')\n    for evt in run.events():\n"
        "        fex.fex.hv = hv(evt)\n        ds.add_data(fex.fex)\n"
    )
    for dgram in (line.builder.configure(), line.builder.begin_run(), line.builder.slow_update(4.5)):
        parent.push(dgram, seq=0, flags=REPLAY)
    parent.push(line.builder.event(0), seq=77)
    answers = parent.answers(4)
    assert [one.seq for one in answers] == [0, 0, 0, 77]
    assert answers[0].json["names"]
    assert answers[3].data == b"\0\0\0\0\0\0\x12\x40"


def test_an_entry_outside_the_pebble_ends_the_worker(line: Line) -> None:
    parent = line.start(SCRIPT, "1")
    line.begin()
    parent.push_entry(9, 0, 0, parent.pebble.size - 4, 64, 1 << 16, TransitionId.L1Accept, 0)
    assert parent.exit_code() == EXIT_LINK_BROKEN


def test_writing_into_an_event_is_an_error_of_the_script(line: Line) -> None:
    parent = line.start(
        "from drp import DataSource\nds = DataSource()\nfor run in ds.runs():\n    det = run.Detector('cam')\n"
        "    for evt in run.events():\n        det.raw.raw(evt)[0, 0] = 1\n"
    )
    line.begin()
    parent.push(line.builder.event(0))
    (answer,) = parent.answers(1)
    assert (answer.json["kind"], parent.exit_code()) == ("ValueError", EXIT_SCRIPT_FAILED)
