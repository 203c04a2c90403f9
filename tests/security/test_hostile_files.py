"""Hostile files as the source of the whole command: it ends by itself, with a clear text and the right exit code, and leaves nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand
from tests.support.hostile_files import dgrams, event, mutate, run, special
from tests.xtc import builders as b
from tests.xtc.hostile import corpus

Start = Callable[..., DrpCommand]
MUTANTS = 96
BATCH = 16
DEFAULT = {
    ("drpinfo whose pulse id is text", "offline"),
    ("drpinfo of twenty segments", "live"),
    ("experiment that is an array", "live"),
}
READ_ALL = """\
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("all", "all", "0"), AlgDef("fex", 0, 0, 1), {"sum": (np.int64, 0)})
for run in ds.runs():
    readers = []
    for name in run.detnames:
        det = run.Detector(name)
        for alg in [one for one in dir(det) if not one.startswith("_")]:
            fields = getattr(getattr(det, alg), "fields", {})
            readers += [getattr(getattr(det, alg), field) for field in fields]
    for evt in run.events():
        fex.fex.sum = 0
        for reader in readers:
            value = reader(evt)
            if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size < 1 << 20:
                fex.fex.sum += int(value.astype(np.int64).sum())
        ds.add_data(fex.fex)
"""


def reduce(drp: Start, folder: Path, raw: bytes, *options: str, script: str = READ_ALL) -> DrpCommand:
    """Run the command on a file of these bytes; it must end, in good order, and leave nothing."""
    inside = folder / "script.py"
    inside.write_text(script)
    (folder / "hostile.xtc2").write_bytes(raw)
    output = folder / f"out{len(list(folder.glob('out*')))}"
    limits = ("--event-timeout", "2", "--first-event-timeout", "10")
    command = drp(
        inside, "--source", str(folder / "hostile.xtc2"), "-W", "2", *limits, *options, output=output
    )
    code = command.wait(50)
    log = command.log
    assert code in (0, 1, 2), log
    if code:
        assert re.search(r"^drp: .|^ *fault: .", log, re.MULTILINE), f"exit code {code} without a word\n{log}"
    # A traceback of the script, which reads what is broken, may be shown; none may come from drp itself.
    assert not re.search(r'File "\S*/drp/(engine|cli|source|shm)/', log.replace("drp/engine/offline", "")), (
        log
    )
    if code == 0:
        assert command.report["closes"]
    assert command.left() == []
    return command


def modes(options: tuple[str, ...]) -> str:
    return "offline" if options else "live"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(
            name,
            options,
            id=f"{name}, {modes(options)}",
            marks=() if (name, modes(options)) in DEFAULT else pytest.mark.slow,
        )
        for name in special()
        for options in ((), ("--offline",))
    ],
)
def test_a_file_made_to_hurt_what_drp_reads(
    drp: Start, folder: Path, name: str, options: tuple[str, ...]
) -> None:
    raw, codes = special()[name]
    command = reduce(drp, folder, raw, *options)
    assert command.wait(0) in (
        codes if not options else {code * 2 if code else 0 for code in codes} | codes
    ), command.log


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [(), ("--offline",)], ids=modes)
def test_the_corpus_of_hostile_files(drp: Start, folder: Path, options: tuple[str, ...]) -> None:
    for case in corpus():
        reduce(drp, folder, case.raw, *options)


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recorded run of 60 events in two steps, with SlowUpdates."""
    folder = tmp_path_factory.mktemp("good")
    script = folder / "pass.py"
    script.write_text(
        "from drp import DataSource\nfor run in DataSource().runs():\n    for evt in run.events():\n        pass\n"
    )
    command = DrpCommand(
        folder,
        "-p",
        str(script),
        "--source",
        "sim:digitizer:16,slow=50,steps=2,rate=1000",
        "-n",
        "60",
        "-W",
        "1",
    )
    assert command.wait(60) == 0, command.log
    return command.file().read_bytes()


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=() if seed == 0 else pytest.mark.slow) for seed in range(MUTANTS // BATCH)],
)
@pytest.mark.timeout(200)
def test_random_damage_to_a_recorded_file(
    drp: Start, folder: Path, good_file: bytes, seed: int, times: int
) -> None:
    dice = random.Random(seed)
    for i in range(BATCH * times if seed else 1):
        reduce(drp, folder, mutate(good_file, dice), *(("--offline",) if i % 3 == 1 else ()))


BROKEN_EVENTS = {
    "dims beyond the data": b.shapes_data(2, [b.shape(300, 300)], b"\1" * 8),
    "dims beyond all": b.shapes_data(2, [b.shape(0xFFFFFFFF, 0xFFFFFFFF)], b"\1" * 8),
    "shapes missing": b.xtc(b.SHAPES_DATA, b.xtc(b.DATA, bytes(8)), src=2),
    "data missing": b.xtc(b.SHAPES_DATA, b.xtc(b.SHAPES, b.shape(2, 2)), src=2),
    "unknown Names": b.shapes_data(0x777, [b.shape(2, 2)], bytes(8)),
    "inner extent beyond": b.xtc(
        b.SHAPES_DATA, b.xtc(b.SHAPES, b.shape(2, 2), extent=4000) + b.xtc(b.DATA, bytes(8)), src=2
    ),
    "child beyond the dgram": b.xtc(b.PARENT, bytes(20), extent=5000),
    "corrupted over junk": b.xtc(b.PARENT, b"\xff" * 50, damage=b.CORRUPTED),
}


@pytest.mark.timeout(60)
def test_events_broken_inside_are_recorded_raw_and_hurt_no_other(drp: Start, folder: Path) -> None:
    good = b.shapes_data(1, [], b"\7\0\0\0") + b.shapes_data(2, [b.shape(2, 2)], bytes(range(8)))
    payloads = [one for broken in BROKEN_EVENTS.values() for one in (good, broken)]
    raw = run(
        b.names(2, [("a", b.UINT16, 2)], det="other"),
        events=[event(10 + i, payload) for i, payload in enumerate(payloads)],
    )
    command = reduce(drp, folder, raw)
    assert command.report["ledger"]["total"] == len(payloads)
    assert command.report["closes"]
    recorded = command.file().read_bytes()
    events = [
        recorded[at : at + size] for at, size in dgrams(recorded) if recorded[at + 11] & 0xF == b.L1ACCEPT
    ]
    assert len(events) == len(payloads)
    for place, (whole, payload) in enumerate(zip(events, payloads, strict=True)):
        damage = int.from_bytes(whole[16:18], "little")
        assert whole[24:].startswith(payload), f"event {place} has not its raw data"
        if place % 2 == 0:
            assert damage == 0, f"event {place}, which is good, is damaged: {damage:#x}"
    assert "1 event had extents that do not add up" in command.log
