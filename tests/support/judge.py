"""What a recorded file of simulated events must be, by the independent reader: every event of the source once, in order, whole or marked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.plain_xtc2 import (
    BEGIN_RUN,
    CONFIGURE,
    END_RUN,
    L1_ACCEPT,
    SLOW_UPDATE,
    PlainDgram,
    PlainFile,
)

FRAMES = 64
CAUSES = ("none", "raised", "timed_out", "died", "truncated", "nonsense", "left", "no_worker")
TRUNCATED, TIMED_OUT = 1 << 0, 1 << 6
BITS = {"truncated": TRUNCATED, "timed_out": TIMED_OUT}


@dataclass
class Verdict:
    """What was found. `damaged` gives the cause of each damaged event by its place in the source."""

    file: PlainFile
    events: list[PlainDgram]
    damaged: dict[int, str] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)

    @property
    def causes(self) -> dict[str, int]:
        return dict(Counter(self.damaged.values()))


def judge(path: Path, *, ended: bool = True, frames: int = FRAMES, first_pulse: int | None = None) -> Verdict:
    """Check a recording of `sim:digitizer` made with a script of `write_script`; AssertionError says what is wrong.

    `ended`: the run was closed; else the file may stop anywhere, at most in the middle of its last dgram.
    """
    file = PlainFile(path)
    services = file.services
    assert services[:2] == [CONFIGURE, BEGIN_RUN], services[:4]
    if ended:
        assert services[-1] == END_RUN, services[-4:]
        assert file.tail_bytes == 0
    stamps = [one.timestamp for one in file.dgrams]
    assert stamps == sorted(stamps), "time goes backwards"
    verdict = Verdict(file, file.events)
    raw_of: dict[int, bytes] = {}
    pulse = first_pulse
    for place, event in enumerate(verdict.events):
        told = event.find("drpinfo")
        assert told is not None, f"event {place} has no drpinfo"
        if place == 1 and pulse is not None and first_pulse is None:
            step = told["pulse_id"] - pulse
        if place >= 1 and pulse is not None and file_is_one_step(services):
            assert told["pulse_id"] - pulse == step, f"event {place} does not follow the one before it"
        pulse = told["pulse_id"]
        raw = event.find("raw")
        assert raw is not None, f"event {place} has no raw data"
        assert raw["frame"] == place % frames, f"event {place} is frame {raw['frame']}"
        whole = next(data for (_, alg, _), data in event.raw.items() if alg == "raw")
        assert raw_of.setdefault(raw["frame"], whole) == whole, (
            f"the raw data of event {place} are not those of the source"
        )
        check_fate(verdict, place, event, told)
    return verdict


def file_is_one_step(services: list[int]) -> bool:
    return services.count(6) == 1


def check_fate(verdict: Verdict, place: int, event: PlainDgram, told: dict[str, int]) -> None:
    """An event has what the script gave it, or nothing of it and the reason why."""
    cause = CAUSES[told["cause"]]
    fex = event.find("fex")
    assert event.user_damage == told["cause"], (
        f"event {place}: user damage {event.user_damage}, cause {told['cause']}"
    )
    assert event.damage & 0xFFF == BITS.get(cause, 0), f"event {place}: damage {event.damage:#x} for {cause}"
    if cause == "none":
        assert fex is not None, f"event {place} is not damaged and has no fex"
        assert fex["index"] == place, f"event {place} has index {fex['index']}"
        assert told["worker"] == 0xFFFF, f"event {place} is not damaged, and names worker {told['worker']}"
        return
    assert fex is None, f"event {place} is damaged, and has fex data"
    verdict.damaged[place] = cause
    verdict.workers[place] = told["worker"]


def counters_follow(verdict: Verdict) -> int:
    """Check that each undamaged event copied the counter of the last SlowUpdate before it; returns how many SlowUpdates there are."""
    counter, seen = 0, 0
    place = 0
    for dgram in verdict.file.dgrams:
        if dgram.service == SLOW_UPDATE:
            counter = dgram.values[("epics", "raw", 0)]["counter"]
            seen += 1
        elif dgram.service == L1_ACCEPT:
            fex = dgram.find("fex")
            if fex is not None:
                assert fex["counter"] == counter, (
                    f"event {place} has counter {fex['counter']}, the SlowUpdate before it {counter}"
                )
            place += 1
    return seen
