"""Much of everything: many runs, Names, segments and children, nothing at all, and events as large as their slot. What drp holds does not grow."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, shared_memory
from tests.support.hostile_files import BASE, ONE, WORD, dgrams, event, run
from tests.xtc import builders as b

Start = Callable[..., DrpCommand]
RUNINFO = b.names(9, [("expt", b.CHARSTR, 1), ("runnum", b.UINT32, 0)], det="runinfo", alg="runinfo")
COUNT_EVENTS = """\
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("fexdet", "fex", "0"), AlgDef("fex", 0, 0, 1), {"index": (np.uint64, 0)})
for run in ds.runs():
    for evt in run.events():
        fex.fex.index = evt.index
        ds.add_data(fex.fex)
"""


def many_runs(count: int, *, reconfigure: bool) -> bytes:
    """A file of `count` runs of 5 events each, with a Configure before the first, or before each with other Names."""
    out: list[bytes] = []
    time = 1

    def put(service: int, payload: bytes = b"") -> None:
        nonlocal time
        out.append(b.dgram(service, payload, time=time))
        time += 1

    for number in range(1, count + 1):
        if number == 1 or reconfigure:
            put(b.CONFIGURE, BASE + RUNINFO + b.names(20 + number % 50, ONE, det=f"det{number}"))
        put(b.BEGINRUN, b.shapes_data(9, [b.shape(4)], b"abc\0" + struct.pack("<I", number)))
        put(b.BEGINSTEP)
        put(b.ENABLE)
        for _ in range(5):
            put(b.L1ACCEPT, b.shapes_data(1, [], WORD))
        for service in (9, 7, b.ENDRUN):
            put(service)
        if reconfigure:
            put(3)
    return b"".join(out)


def reduce(drp: Start, folder: Path, raw: bytes, *options: str, script: str = COUNT_EVENTS) -> DrpCommand:
    """Start the command on a file of these bytes."""
    (folder / "script.py").write_text(script)
    (folder / "much.xtc2").write_bytes(raw)
    return drp(folder / "script.py", "--source", str(folder / "much.xtc2"), *options)


def good(command: DrpCommand, events: int) -> list[bytes]:
    """Wait for the end, which must be faultless; return the recorded events of all files."""
    assert command.wait(100) == 0, command.log
    assert command.report["closes"]
    assert command.report["ledger"]["total"] == events
    assert command.left() == []
    found = []
    for path in sorted(command.output.glob("*/*/xtc/*.xtc2")):
        raw = path.read_bytes()
        found += [raw[at : at + size] for at, size in dgrams(raw) if raw[at + 11] & 0xF == b.L1ACCEPT]
    assert len(found) == events
    return found


def looks(command: DrpCommand) -> Iterator[tuple[int, int, int, int]]:
    """What drp holds, as often as it can be looked at: descriptors, threads, segments, private KiB."""
    while command.running:
        try:
            threads = len(os.listdir(f"/proc/{command.pid}/task"))
            descriptors = len(os.listdir(f"/proc/{command.pid}/fd"))
            anonymous = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{command.pid}/status").read_text())
        except OSError:
            return
        if anonymous:
            yield (
                descriptors,
                threads,
                sum(maker == command.pid for _, maker in shared_memory()),
                int(anonymous[1]),
            )


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("reconfigure", [False, True], ids=["runs", "configures"])
def test_what_drp_holds_does_not_grow_over_200_runs(drp: Start, folder: Path, reconfigure: bool) -> None:
    command = reduce(drp, folder, many_runs(200, reconfigure=reconfigure), "-W", "2")
    command.until(lambda: len(list(command.output.glob("*/*/xtc/*.xtc2"))) > 20, "20 runs", 60)
    held = [look for look in looks(command)]
    events = good(command, 1000)
    assert [struct.unpack_from("<Q", one, one.index(b"\3\0\x14\0\0\0") + 6)[0] for one in events] == [
        0,
        1,
        2,
        3,
        4,
    ] * 200
    half = len(held) // 2
    assert half > 10, "too few looks to judge by"
    for what, i, slack in (
        ("descriptors", 0, 2),
        ("threads", 1, 0),
        ("segments", 2, 0),
        ("private KiB", 3, 3000),
    ):
        before, after = max(look[i] for look in held[:half]), max(look[i] for look in held[half:])
        assert after <= before + slack, f"{what}: {before} in the first half, {after} in the second"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("raw", "events"),
    [
        pytest.param(b.dgram(b.CONFIGURE, BASE), 0, id="only a Configure", marks=pytest.mark.slow),
        pytest.param(run(events=[]), 0, id="only transitions", marks=pytest.mark.slow),
        pytest.param(
            run(events=[b.dgram(b.SLOWUPDATE, time=9 + i) for i in range(500)]),
            0,
            id="only SlowUpdates",
            marks=pytest.mark.slow,
        ),
        pytest.param(run(events=[event(9)]), 1, id="one event", marks=pytest.mark.slow),
        pytest.param(run(), 5, id="no EndRun", marks=pytest.mark.slow),
        pytest.param(many_runs(2, reconfigure=False), 10, id="two runs", marks=pytest.mark.slow),
        pytest.param(many_runs(2, reconfigure=True), 10, id="two Configures", marks=pytest.mark.slow),
        pytest.param(
            run(events=[event(9, b.shapes_data(1, [], WORD) * 4000)] * 3),
            3,
            id="4000 children",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            run(
                *(
                    b.names(node << 8 | i, ONE, det=f"d{node}", segment=i)
                    for node in range(1, 26)
                    for i in range(200)
                )
            ),
            5,
            id="5000 Names",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            run(
                *(b.names(1 << 8 | i, [("a", b.UINT16, 2)], det="big", segment=i) for i in range(128)),
                *(b.names(2 << 8 | i, [("a", b.UINT16, 2)], det="big", segment=128 + i) for i in range(128)),
            ),
            5,
            id="256 segments",
        ),
        pytest.param(
            run(
                b.names(2, [("a", b.UINT16, 2)], det="other"),
                events=[event(9 + i, b.shapes_data(2, [b.shape(0, i)], b"")) for i in range(5)],
            ),
            5,
            id="arrays of no bytes",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_files_with_too_much_or_nothing(drp: Start, folder: Path, raw: bytes, events: int) -> None:
    good(reduce(drp, folder, raw, "-W", "2"), events)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "more", [pytest.param(0, id="fits", marks=pytest.mark.slow), pytest.param(1, id="one byte more")]
)
def test_an_event_as_large_as_its_slot_is_taken_and_one_larger_is_not(
    drp: Start, folder: Path, more: int
) -> None:
    payload = b.xtc(9, bytes(100_000 - 24 - 12 + more))
    raw = run(events=[event(9), event(10, payload), event(11)])
    script = "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n        pass\n"
    command = reduce(drp, folder, raw, "-W", "1", "-k", "pebbleBufSize=100000", script=script)
    if not more:
        assert good(command, 3)[1].find(payload) == 24
        return
    assert command.wait(30) == 1
    assert "-k pebbleBufSize=100001" in command.report["error"]
    assert command.report["closes"]
    assert command.left() == []
