"""Files that our recorder writes, read by real psana: through the big file, and through the smd file."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dgrams import Builder

from drp.shm._block import encode_block
from drp.sink.answer import Answer, Reduced
from drp.sink.declare import Declared
from drp.sink.offline import OfflineWriter
from drp.sink.recorder import Output
from xtc import Alg, DataType, Dgram, Field, Names, TransitionId

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

ROI = Declared(
    Names(
        0,
        "fex",
        "mydet",
        "",
        0,
        Alg("fex", (1, 2, 3)),
        (
            Field("total", DataType.DOUBLE),
            Field("roi", DataType.UINT16, 2),
            Field("text", DataType.CHARSTR, 1),
        ),
    )
)
SUMS = Declared(
    Names(
        0,
        "epixhr",
        "mydet",
        "",
        0,
        Alg("reduce", (0, 0, 1)),
        (Field("sum", DataType.UINT32, 2), Field("unchanged", DataType.UINT64, 3)),
    ),
    "reduce",
)
DAMAGES = (0, 0x0001, 0x0002, 0x0004, 0x0010, 0x0020, 0x0040, 0x0080, 0x1000, 0xF000, 0xFFF7)
RAW_IDS = (0x101, 0x102)


def record(
    folder: Path, *, steps: int, events: int, damaged: bool = False, chunk_bytes: int = 1 << 40
) -> list[int]:
    """Record a run; every second event loses its raw data. Returns the time stamps of its events."""
    build = Builder()
    stamps = []
    with OfflineWriter(Output(folder, "tst", chunk_bytes=chunk_bytes)) as writer:
        writer.transition(build.configure(), Answer((ROI, SUMS)))
        writer.transition(build.begin_run())
        for step in range(steps):
            writer.transition(build.begin_step(step))
            writer.transition(build.bare(TransitionId.Enable))
            for _ in range(events):
                number = len(stamps)
                raw = build.event(number)
                stamps.append(Dgram(raw).timestamp)
                add = (
                    0,
                    [(2, 3), (4,)],
                    struct.pack("<d6H4s", number / 7, *range(number, number + 6), b"ab"),
                )
                desc, data = encode_block(drops=RAW_IDS if number % 2 else (), adds=[add])
                damage = DAMAGES[number % len(DAMAGES)] if damaged else 0
                writer.event(raw, desc, data, pulse_id=number + 1, damage=damage)
            writer.transition(build.slow_update(step))
            writer.transition(build.bare(TransitionId.Disable))
            writer.transition(build.bare(TransitionId.EndStep), Answer(reduced=reduced(step), reduce_index=1))
        writer.transition(build.bare(TransitionId.EndRun))
    return stamps


def reduced(step: int) -> tuple[Reduced, ...]:
    """Arrays of a step, one of which nobody changed."""
    return (
        Reduced("sum", "sum", np.full((40, 50), step, np.uint32)),
        Reduced("unchanged", "sum", np.zeros((0, 4, 5), np.uint64), per_step=True),
    )


def check(runs: list[dict[str, Any]], stamps: list[int]) -> None:
    assert [(run["expt"], run["runnum"]) for run in runs] == [("tst001", 7)]
    events = runs[0]["events"]
    assert [event["timestamp"] for event in events] == stamps
    for number, event in enumerate(events):
        fields = {(f["det"], f["alg"], f["field"]): f for f in event["streams"][0]["fields"]}
        assert fields["mydet", "fex", "total"]["value"] == number / 7
        assert fields["mydet", "fex", "text"]["value"] == "ab"
        assert fields["mydet", "fex", "roi"]["shape"] == [2, 3]
        assert fields["drpinfo", "drpinfo", "pulse_id"]["value"] == number + 1
        assert (("cam", "raw", "raw") in fields) == (number % 2 == 0)


def test_psana_reads_the_big_file(psana: Any, tmp_path: Path) -> None:
    stamps = record(tmp_path, steps=2, events=10)
    check(psana.files(tmp_path / "tst/tst001/xtc/tst001-r0007-s000-c000.xtc2"), stamps)


def test_psana_follows_the_smd_file_over_chunks(psana: Any, tmp_path: Path) -> None:
    stamps = record(tmp_path, steps=4, events=30, chunk_bytes=20_000)
    folder = tmp_path / "tst/tst001/xtc"
    assert len(list(folder.glob("*.xtc2"))) > 2
    check(psana.run("tst001", 7, folder), stamps)


def test_psana_builds_events_whose_smd_twins_are_damaged(psana: Any, tmp_path: Path) -> None:
    stamps = record(tmp_path, steps=1, events=44, damaged=True)
    runs = psana.run("tst001", 7, tmp_path / "tst/tst001/xtc")
    check(runs, stamps)
    assert np.unique([event["streams"][0]["damage"] for event in runs[0]["events"]]).tolist() == list(DAMAGES)


def test_psana_reads_which_constants_a_run_was_calibrated_with(psana: Any, tmp_path: Path) -> None:
    build = Builder()
    used = {
        "digest": "0f" * 32,
        "source": "constants.db",
        "constants": '{"cam":{"pedestals":{"run":3}}}' + " " * 5000,
    }
    with OfflineWriter(Output(tmp_path, "tst"), constants=True) as writer:
        writer.transition(build.configure())
        writer.transition(build.begin_run(), constants=used)
        writer.transition(build.bare(TransitionId.EndRun))
    _, begin_run, _ = psana.dgrams(tmp_path / "tst/tst001/xtc/tst001-r0007-s000-c000.xtc2")["dgrams"]
    told = {one["field"]: one["value"] for one in begin_run["fields"] if one["det"] == "drpcalib"}
    assert told == used
