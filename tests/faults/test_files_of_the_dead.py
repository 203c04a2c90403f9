"""drp is killed while it writes, as it changes chunks, as it ends its run, and at any time: what is in its files is right, and nothing else stays.

Each killed run is also the clean next start after the one before it. The files are judged by the independent reader, the format by `xtc check`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.drp_command import DrpCommand, write_script
from tests.support.judge import judge
from tests.support.kill_at import WHOLE, KillAt, compile_library
from tests.support.plain_xtc2 import PlainFile
from xtc import Stream
from xtc.check import check_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
Start = Callable[..., DrpCommand]
EVENTS, STEPS = 1200, 4
# An event has 8.3 kB and a step 2.5 MB, so that the next Enable begins a new chunk.
SIM = ("--source", f"sim:digitizer:4096,steps={STEPS}", "--chunk-size", "3M", "-W", "1", "--spares", "0")
BIG, SMD, NEXT = "-c000.xtc2.inprogress", ".smd.xtc2.inprogress", "-c001.xtc2.inprogress"
LAST = f"-c{STEPS - 1:03d}.xtc2.inprogress"

POINTS = {
    "while it writes": [
        KillAt("writev", BIG, 1),
        KillAt("writev", BIG, 1, 13),
        KillAt("writev", BIG, 1, 700),
        KillAt("writev", BIG, 1, WHOLE),
        KillAt("writev", BIG, 2, 9001),
        KillAt("writev", SMD, 1, 50),
        KillAt("writev", SMD, 1, WHOLE),
    ],
    "as it changes chunks": [
        KillAt("writev", BIG, 3, WHOLE),
        KillAt("fchmod", BIG, 2),
        KillAt("rename", BIG, 1),
        KillAt("rename", BIG, 1, WHOLE),
        KillAt("writev", NEXT, 1, 20),
        KillAt("writev", NEXT, 1, WHOLE),
    ],
    "as it ends its run": [
        KillAt("fchmod", LAST, 2),
        KillAt("rename", LAST, 1, WHOLE),
        KillAt("fchmod", SMD, 2, WHOLE),
        KillAt("rename", SMD, 1),
        KillAt("rename", SMD, 1, WHOLE),
    ],
}
RANDOM_KILLS = 8


@dataclass(frozen=True)
class Remains:
    """The files of a run: the big ones one after the other, where each begins in that, and the smd file."""

    big: PlainFile
    starts: list[int]
    smd: PlainFile


def remains(command: DrpCommand, run: int, folder: Path) -> Remains:
    """Read the files of a run; nothing may be wrong with them but that the last ones end within a dgram."""
    place = next(command.output.glob("*/*/xtc"))
    chunks = sorted(place.glob(f"*-r{run:04d}-*"))
    (smd,) = (place / "smalldata").glob(f"*-r{run:04d}-*")
    cut = [path for path in (*chunks, smd) if not is_whole(path)]
    assert {*cut} <= {chunks[-1], smd}
    assert all(path.name.endswith(".inprogress") for path in cut)
    starts, big = [], folder / "whole.xtc2"
    with big.open("wb") as out:
        for path in chunks:
            starts.append(out.tell())
            out.write(path.read_bytes())
    left = Remains(PlainFile(big), starts, PlainFile(smd))
    assert sum(1 for _ in Stream(chunks[0])) == len(left.big.dgrams)
    return left


def is_whole(path: Path) -> bool:
    found = list(check_file(path))
    assert [str(one) for one in found if one.kind != "tail"] == []
    return not found


def check_remains(left: Remains, folder: Path) -> tuple[int, int]:
    """Every event up to the last is there, and the smd file speaks of none that is not; returns how many each holds."""
    if len(left.big.dgrams) < 2:
        assert left.smd.dgrams == []
        return 0, 0
    verdict = judge(folder / "whole.xtc2", ended=False)
    assert verdict.damaged == {}
    twins = left.smd.events
    assert len(twins) <= len(verdict.events)
    for twin, event in zip(twins, verdict.events, strict=False):
        (told,) = twin.values.values()
        start = max(one for one in left.starts if one <= event.offset)
        assert twin.timestamp == event.timestamp
        assert (told["intOffset"], told["intDgramSize"]) == (event.offset - start, event.size)
    return len(verdict.events), len(twins)


class Dying:
    """Runs that are killed one after the other, in one folder, each under a number of its own."""

    def __init__(self, drp: Start, folder: Path) -> None:
        self.drp, self.folder = drp, folder
        self.script = write_script(folder)
        self.run = 0
        self.dead: list[int] = []

    def start(self, events: int, **variables: str) -> DrpCommand:
        self.run += 1
        options = (*SIM, "-n", str(events), "--run", str(self.run))
        return self.drp(self.script, *options, output=self.folder / "out", environment=variables)

    def bury(self, command: DrpCommand, what: object) -> None:
        """Check what a killed run left, and that it told of the one before."""
        assert command.wait(60) == -signal.SIGKILL, f"{what}: it was not killed\n{command.log}"
        assert command.left(files=False) == [], what
        assert len(list((self.folder / "run" / "drp").iterdir())) == 1
        self.hear(command)
        self.dead.append(command.pid)
        held = check_remains(remains(command, self.run, self.folder), self.folder)
        print(f"\n{what}: {held[0]} events in the big files, {held[1]} of them in the smd file", end="")

    def hear(self, command: DrpCommand) -> None:
        for pid in self.dead[-1:]:
            assert f"(pid {pid}) was killed" in command.log

    def until_written(self, command: DrpCommand, size: int) -> None:
        """Wait until the big files of the run have that many bytes."""

        def there() -> bool:
            total = 0
            for path in command.output.glob(f"*/*/xtc/*-r{self.run:04d}-*"):
                # It may just be given its name, and is there under that the next time.
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size
            return total >= size

        command.until(there, f"{size} bytes of its files")

    def rest(self) -> None:
        """End with a run that nobody kills."""
        command = self.start(EVENTS)
        assert command.wait(60) == 0, command.log
        self.hear(command)
        assert check_remains(remains(command, self.run, self.folder), self.folder) == (EVENTS, EVENTS)
        assert command.left() == []


@pytest.mark.parametrize("when", POINTS)
def test_a_drp_killed_at_a_store_to_its_files_leaves_them_right(drp: Start, folder: Path, when: str) -> None:
    library = compile_library(folder)
    dying = Dying(drp, folder)
    for point in POINTS[when]:
        dying.bury(dying.start(EVENTS, **point.environment(library)), point)
    dying.rest()


def test_a_drp_killed_at_any_time_at_full_rate_leaves_its_files_right(drp: Start, folder: Path) -> None:
    dice = random.Random(os.urandom(8))
    dying = Dying(drp, folder)
    for _ in range(RANDOM_KILLS):
        command = dying.start(1_000_000)
        size = dice.randrange(1, 8 << 20)
        dying.until_written(command, size)
        command.signal(signal.SIGKILL)
        dying.bury(command, f"after {size} bytes")
    dying.rest()
