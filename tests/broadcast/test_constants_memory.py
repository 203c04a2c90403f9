"""What constants cost: one copy for all processes, and nothing that grows from run to run. Numbers are printed (pytest -s)."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.constants_world import (
    DET,
    Panels,
    expected,
    pixels,
    put_constants,
    record,
    used,
    write_calibrating_script,
)
from tests.support.drp_command import DrpCommand
from tests.support.plain_xtc2 import PlainFile

Start = Callable[..., DrpCommand]
LIMIT_S = 90.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_runs_with_changing_constants_leave_memory_and_segments_flat(
    drp: Start, folder: Path
) -> None:
    """Every run has other constants, of 5 MB: what is held after ten of them is what is held after a hundred."""
    shape = (512, 512)
    runs = range(1, 101)
    panels = Panels({1: 11, 3: 13}, shape)
    for run in runs:
        put_constants(
            folder / "store.db",
            (11, 13),
            shape=shape,
            run=run,
            add=float(run),
            expt="tst001",
            version=f"r{run}",
        )
    source = record(folder / "in.xtc2", panels, runs=runs, events=3)
    script = write_calibrating_script(folder)
    command = drp(
        script,
        "--source",
        source,
        "-W",
        "2",
        "--calib",
        folder / "store.db",
        "--rate",
        "30",
        "-k",
        "pebbleBufCount=8",
    )
    looks: list[tuple[int, int, int, int, int]] = []
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(command, looks, stop), daemon=True)
    thread.start()
    assert command.wait(240) == 0, command.log
    stop.set()
    thread.join(5)
    files = sorted(path for path in command.output.rglob("*.xtc2") if "smd" not in path.name)
    assert len(files) == 100
    for run, path in zip(runs, files, strict=True):
        file = PlainFile(path)
        assert pixels(file) == [expected(11, 13, add=run)] * 3, run
        assert json.loads(used(file)[0]["constants"])[DET]["pedestals"]["version"] == f"r{run}"
    assert len({one["digest"] for one in command.report["constants"]}) == 100
    assert command.report["restarts"] == 0
    late = [one for one in looks if one[0] >= 10]
    first, last = ([one for one in late if low <= one[0] < high] for low, high in ((10, 30), (80, 100)))
    print("\nruns begun, segments, PSS of drp in kB, of its workers, descriptors of drp")
    print(*(looks[:: max(1, len(looks) // 12)]), sep="\n")
    # Pebble, doorbells and three rings; the set in force, the next one, and for a moment one that each process still has.
    assert max(one[1] for one in looks) <= 5 + 2 + 3
    assert min(one[1] for one in last) <= min(one[1] for one in first)
    for column in (2, 3):
        assert max(one[column] for one in last) < 1.1 * max(one[column] for one in first) + 8000
    assert max(one[4] for one in last) <= max(one[4] for one in first) + 2
    assert command.left(files=False) == []


def _watch(command: DrpCommand, looks: list[tuple[int, int, int, int, int]], stop: threading.Event) -> None:
    while not stop.wait(0.05) and command.running:
        begun = command.log.count("constants of run ")
        try:
            workers = sum(pss_kb(pid) for pid in command.workers())
            descriptors = len(os.listdir(f"/proc/{command.pid}/fd"))
            looks.append((begun, len(command.segments()), pss_kb(command.pid), workers, descriptors))
        except OSError:
            continue


def pss_kb(pid: int) -> int:
    """What a process holds, but for the recorded files that it reads in place."""
    total, is_file = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            is_file = line.endswith(".xtc2")
        elif words[0] == "Pss:" and not is_file:
            total += int(words[1])
    return total


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixteen_workers_and_a_large_set_cost_one_copy(drp: Start, folder: Path) -> None:
    """A set of 400 MB, every page of it read by every worker: what all processes hold together is one set."""
    shape = (2048, 2048)
    numbers = (11, 13, 14, 15)
    put_constants(folder / "store.db", numbers, shape=shape)
    panels = Panels({place: number for place, number in enumerate(numbers)}, shape)
    source = record(folder / "in.xtc2", panels, events=1)
    begun = (
        "from drp.script.constants import current\n"
        "    mine = current(ds._session)['cam']\n"
        "    total = sum(float(one.sum(dtype=np.float64)) for one in (*mine.constants.values(), *mine.derived.values()))\n"
        "    open(f'{sys.argv[1]}/read-{info.worker_num}', 'w').close()\n"
        "    while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.05)"
    )
    script = write_calibrating_script(folder, begun=begun)
    command = drp(
        f"{script} {folder}", "--source", source, "-W", "16", "--spares", "0", "--calib", folder / "store.db",
        "-k", "pebbleBufCount=4",
    )  # fmt: skip
    command.until(lambda: len(list(folder.glob("read-*"))) == 16, "sixteen workers that read it all", 100)
    segment = int(command.log.partition("in a new segment ")[2].split(",")[0])
    found = [of_segment(pid, segment) for pid in (command.pid, *command.workers())]
    size_kb, shares = found[0][0], [pss_kb for _, pss_kb in found]
    print(f"\nsegment of {size_kb} kB, mapped by {len(found)} processes; PSS of it, kB: {shares}")
    print(f"in all {sum(shares)} kB: {sum(shares) / size_kb:.4f} copies")
    (folder / "go").touch()
    assert command.wait(LIMIT_S) == 0, command.log
    assert len(found) == 17
    assert size_kb > 390_000
    assert all(shares) and 0.99 * size_kb < sum(shares) <= 1.001 * size_kb
    assert command.left(files=False) == []


def of_segment(pid: int, segment: int) -> tuple[int, int]:
    """The size and the PSS, in kB, of one SysV segment in one process; its id is the inode of the mapping."""
    size_kb = pss_kb = 0
    is_it = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            is_it = "/SYSV" in line and int(words[4]) == segment
        elif is_it and words[0] in ("Size:", "Pss:"):
            size_kb += int(words[1]) if words[0] == "Size:" else 0
            pss_kb += int(words[1]) if words[0] == "Pss:" else 0
    return size_kb, pss_kb
