"""Everything at once: workers killed from outside, a script that raises and hangs, and still every event is there once, in order, and right.

The source is the simulator, live at 500 events/s, with a SlowUpdate that counts before every 5th event. The truth is an offline run of the same
script, where nothing goes wrong, on a file of what the same simulator with the same seed makes.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from drp.source import SourceOptions, open_source
from tests.support.drp_command import DrpCommand, children, shared_memory, state_of, write_script
from tests.support.judge import counters_follow, judge
from tests.support.plain_xtc2 import L1_ACCEPT, PlainDgram, PlainFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

Start = Callable[..., DrpCommand]
KILL_PERIOD_S = 0.1
SOURCE, RATE_HZ = "sim:digitizer,slow=100", 500

FIELDS = "'counter': (np.uint64, 0), 'sum': (np.uint64, 0), 'head': (np.uint16, 1)"
BEFORE = """\
marks = sys.argv[1] if len(sys.argv) > 1 else ""
helpers = [subprocess.Popen(["sleep", "1000"], start_new_session=apart) for apart in (False, True)] if marks else []
def mark(evt):
    # Whole or not there: the storm may strike between any two of these.
    with open(f"{marks}.{os.getpid()}", "w") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, f"{marks}/{evt.index}")
"""
BEGUN = "counter, det = run.Detector('counter'), run.Detector(info.det_name)"
EVENT = """\
wave = det.raw.waveform(evt)
fex.fex.counter, fex.fex.sum, fex.fex.head = counter(evt), int(wave.sum()), wave[:32] * np.uint16(3)
if marks:
    if evt.index == hang_at:
        mark(evt)
        time.sleep(1000)
    if evt.index >= calm_from and not os.path.exists(f"{marks}.calm"):
        open(f"{marks}.calm", "w").close()
    time.sleep(random.uniform(0, 0.02))
    if evt.index % 97 == 96:
        mark(evt)
        raise ValueError("every 97th")
"""


@dataclass
class Storm:
    """Kills random workers of a command, and looks now and then at what the command holds."""

    command: DrpCommand
    until: Callable[[], bool]
    hanging: Path
    killed: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    family: list[int] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def rage(self) -> None:
        dice = random.Random(os.urandom(8))
        zombies: set[int] = set()
        look = due = time.monotonic()
        while self.command.running and not self.until():
            due += KILL_PERIOD_S
            time.sleep(max(0.0, due - time.monotonic()))
            self.kill_one(dice)
            if time.monotonic() >= look:
                look = time.monotonic() + 1.0
                zombies = self.look(zombies)

    def kill_one(self, dice: random.Random) -> None:
        workers = list(self.command.workers())
        self.seen.update(workers)
        # One that was killed a moment ago may not have come to die yet.
        workers = [pid for pid in workers if pid not in self.killed]
        if self.hanging.exists():
            # Its end is to come from drp.
            workers = [pid for pid in workers if str(pid) != self.hanging.read_text()]
        if not workers:
            return
        pid = dice.choice(workers)
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if state_of(pid) not in ("Z", "X", ""):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self.killed.append(pid)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)

    def look(self, before: set[int]) -> set[int]:
        """Note what drp holds; a zombie that was one a second ago already is stale. Returns the zombies of now."""
        pid = self.command.pid
        nursery = self.command.nursery()
        kin = children(pid) + (children(nursery) if nursery else [])
        zombies = {one for one in kin if state_of(one) == "Z"}
        self.stale += zombies & before
        self.descriptors.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        self.threads.append(len(list(Path(f"/proc/{pid}/task").iterdir())))
        self.family.append(len(self.command.family()))
        self.segments.append(sum(maker == pid for _, maker in shared_memory()))
        return zombies


class FileSlots:
    """What a batch of slots is to a source, with room for `events`: whatever is put goes into a file."""

    def __init__(self, file: BinaryIO, events: int) -> None:
        self.file = file
        self.events_free = events
        self.transitions_free = 1 << 40

    def put(self, dgram: Buffer, pulse_id: int = 0) -> bool:
        data = bytes(dgram)
        if data[11] & 15 == L1_ACCEPT:
            if not self.events_free:
                return False
            self.events_free -= 1
        self.file.write(data)
        return True


def simulate(folder: Path, events: int) -> Path:
    """Write what the live source will make, as fast as that goes: its clock is a second later at every look."""
    path = folder / "source.xtc2"
    seconds = itertools.count(1)
    options = SourceOptions(RATE_HZ, events=events, instrument="drp", clock_ns=lambda: next(seconds) * 10**9)
    source = open_source(SOURCE, options)
    with path.open("wb") as file:
        slots = FileSlots(file, events)
        while slots.events_free:
            source.fill(slots)
    return path


@pytest.mark.parametrize(
    ("events", "kills"),
    [
        pytest.param(2_000, 20, id="short", marks=pytest.mark.timeout(120)),
        pytest.param(20_000, 300, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(400)]),
    ],
)
def test_a_storm_of_failures_loses_no_event(
    drp: Start, folder: Path, good_second_run: Callable[[], None], events: int, kills: int
) -> None:
    source = simulate(folder, events)
    script = write_script(
        folder,
        EVENT,
        fields=FIELDS,
        before=f"hang_at, calm_from = {events // 2}, {events * 9 // 10}\n{BEFORE}",
        begun=BEGUN,
    )
    calm = drp(script, "--offline", "--source", str(source), output=folder / "calm")
    assert calm.wait(120) == 0, calm.log
    truth = PlainFile(calm.file())
    marks = folder / "marks"
    marks.mkdir()

    limits = ("--first-event-timeout", "3")
    command = drp(
        f"{script} {marks}",
        "--source",
        SOURCE,
        "--rate",
        str(RATE_HZ),
        "-n",
        str(events),
        "-W",
        "4",
        *limits,
        output=folder / "hurt",
    )
    command.until_recording()
    # Who is killed when the run is over already is no restart: the last tenth is left alone.
    calm_now = folder / "marks.calm"
    storm = Storm(command, calm_now.exists, marks / str(events // 2))
    raging = threading.Thread(target=storm.rage)
    raging.start()
    try:
        code = command.wait(300)
    finally:
        command.process.poll()
        raging.join(10)

    verdict = judge(command.file())
    report = command.report
    marked = {int(path.name): int(path.read_text()) for path in marks.iterdir()}
    ended = set(storm.killed) | set(marked.values())
    print(
        f"\n{events} events, {report['elapsed_s']:.1f} s: {len(storm.killed)} kills, {len(marked)} raised or hung, "
        f"{len(ended)} processes ended, {report['restarts']} restarts ({report['spare_restarts']} of spares), "
        f"{len(verdict.damaged)} damaged {verdict.causes}, {events - len(verdict.events)} lost; descriptors {storm.descriptors[:1]}.."
        f"{storm.descriptors[-1:]} (most {max(storm.descriptors)}), segments at most {max(storm.segments)}, "
        f"processes at most {max(storm.family)}"
    )
    assert code == 1, command.log
    assert report["closes"], report
    assert len(verdict.events) == report["ledger"]["total"] == events
    assert len(storm.killed) >= kills
    assert len(set(storm.killed)) == len(storm.killed)
    assert report["restarts"] == len(ended)
    assert len(verdict.damaged) <= len(ended)
    assert report["damage"]["drp"]["events"] == len(verdict.damaged)
    # The storm may strike the one that hangs before it sees that it does.
    hung = marked[events // 2] not in storm.killed
    assert set(verdict.causes) == {"raised", "died"} | ({"timed_out"} if hung else set())
    assert verdict.causes.get("timed_out", 0) == hung
    assert counters_follow(verdict) > events / 6
    same_as(verdict.events, truth.events, set(verdict.damaged))

    assert command.left() == []
    assert storm.stale == []
    assert [pid for pid in storm.seen if state_of(pid)] == []
    assert max(storm.threads) == storm.threads[0]
    half = len(storm.descriptors) // 2
    assert max(storm.descriptors[half:]) <= max(storm.descriptors[:half]) + 6
    # Pebble, bells, five workers, and a few that are just being buried: nobody's waits for its results to be recorded.
    assert max(storm.segments) <= 24
    # The nursery, five workers with two helpers each, and a few that are just being buried or made.
    assert max(storm.family) <= 30
    good_second_run()


def same_as(found: list[PlainDgram], wanted: list[PlainDgram], damaged: set[int]) -> None:
    """Recorded events, raw data, fex and all, are those of the offline run, but for those that are damaged.

    Only drpinfo differs: a file of raw data has no pulse ids. What else it says is judged with the rest.
    """
    assert [one.timestamp for one in found] == [one.timestamp for one in wanted]
    for place, (one, truth) in enumerate(zip(found, wanted, strict=True)):
        if place not in damaged:
            assert without_drpinfo(one) == without_drpinfo(truth), f"event {place} is not what it is offline"
            assert (one.env, one.damage, one.names_ids) == (truth.env, truth.damage, truth.names_ids), (
                f"event {place}"
            )


def without_drpinfo(event: PlainDgram) -> dict[tuple[str, str, int], bytes]:
    return {key: data for key, data in event.raw.items() if key[1] != "drpinfo"}
