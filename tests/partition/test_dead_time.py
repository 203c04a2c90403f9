"""What cannot be recorded or triggered for a while is dead time: nothing is dropped, it is counted, and the run ends as any other."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drp_fixtures import folder_in_memory
from tests.support.partition import World, partition
from tests.support.small_disk import small_disk
from xtc import Damage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
KIB = 1 << 10
KEEP = """
from drp import DataSource
for run in DataSource().runs():
    for evt in run.events():
        pass
"""
TROUBLE = Damage.DroppedContribution | Damage.TimedOut | Damage.MissingData


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with folder_in_memory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        with partition(folder) as made:
            yield made


def camera(world: World, name: str, *words: object, out: Path | None = None) -> None:
    fixed = ("--source", "sim:digitizer:1000,frames=8", "-W", 1, "-k", "pebbleBufCount=256")
    world.member(name, "drp", *fixed, "-o", out or world.out, "-p", world.script(KEEP), *words)


def assert_whole(world: World, run: int) -> None:
    """Both files have what was triggered, no event is damaged by the partition, and the ledger closes."""
    triggered = world.triggered(run)
    for stream in (0, 1):
        assert world.recorded(run, stream) == triggered
        assert not any(one.damage & TROUBLE for one in world.events(run, stream))
    ledger = world.ledger(run)
    assert ledger["closes"], ledger


def test_a_full_disk_of_one_drp_holds_the_triggers_back_until_there_is_room(world: World) -> None:
    world.out.mkdir()
    disk = world.out / "disk"
    with small_disk(disk, 32 << 20):
        filler = disk / "filler"
        filler.write_bytes(bytes(30 << 20))
        world.member("teb0", "teb")
        world.timing("--rate", 1000)
        camera(world, "cam_0")
        camera(world, "cam_1", out=disk)
        world.lead("-T", 20000)
        world.go("running")
        world.until(lambda: "No space left" in world.log("cam_1"), "a full disk")

        def stands() -> bool:
            before = len(world.triggered(1))
            time.sleep(0.3)  # what is looked for is that nothing comes
            return len(world.triggered(1)) == before

        world.until(stands, "no more triggers")
        filler.unlink()
        before = len(world.triggered(1))
        world.until(lambda: len(world.triggered(1)) > before + 500, "triggers again")
        world.go("configured")
        inhibited = world.ledger(1)["inhibited"]
        assert inhibited["cam_1"] > 200
        assert inhibited["cam_0"] < inhibited["cam_1"] / 2, "a busy machine may hold it up, too"
        assert_whole(world, 1)
        world.run(2, 300)
        assert_whole(world, 2)
        world.go("unallocated")
        world.close()


def test_a_timing_that_stands_still_is_named_and_goes_on(world: World) -> None:
    world.member("teb0", "teb")
    world.timing("--rate", 1000)
    camera(world, "cam_0")
    camera(world, "cam_1")
    world.lead()
    world.go("running")
    world.until(lambda: len(world.triggered(1)) > 300, "triggers")
    world.kill("timing", signal.SIGSTOP)
    world.until(lambda: "timing" in world.log("control").split("running")[-1], "timing named")
    world.kill("timing", signal.SIGCONT)
    before = len(world.triggered(1))
    world.until(lambda: len(world.triggered(1)) > before + 500, "triggers again")
    world.go("configured")
    assert sum(world.ledger(1)["inhibited"].values()) < 1000, (
        "the pulses of over a second are skipped, and nobody's fault"
    )
    assert_whole(world, 1)
    world.run(2, 300)
    assert_whole(world, 2)
