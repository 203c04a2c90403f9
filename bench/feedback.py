"""Closed-loop feedback: from the moment a source makes an event to the moment a subscriber has its trigger words, at 1 kHz.

A source stamps each event as it puts it; one worker's script sets a word; a `teb` process decides, by a condition or by a Python trigger script, and publishes;
a subscriber in a process of its own takes the time as it gets the event from `drp.words`. All is on this machine, nothing is recorded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench._common import Setting, Table, say_where, setting, turns
from drp.core.config import DrpConfig
from drp.engine.reducer import Reducer, make_nursery
from drp.engine.spawn import Nursery
from drp.engine.teblink import Me, TebLinks
from drp.link.sockets import well_known
from drp.source import END, Slots
from xtc import Alg, DataType, Field, Names, TransitionId, encode_dgram, encode_shapes_data

RATE_HZ = 1000.0
SECONDS = 10.0
WARM_UP = 500
LIMIT_S = 30.0
NAME = "feedback"
GOAL_US = 1000.0
RAW = Names(
    1 << 8 | 1, "digitizer", "digi", "bench", 0, Alg("raw", (1, 0, 0)), (Field("raw", DataType.UINT16, 1),)
)
SCRIPT = """
import numpy as np
from drp import DataSource
ds = DataSource()
ds.add_trigger({"mean": np.float32})
for run in ds.runs():
    raw = run.Detector("digi").raw
    for evt in run.events():
        ds.set_trigger(mean=raw.raw(evt).mean())
"""
TRIGGER = """
from drp import TriggerDataSource
ds = TriggerDataSource()
for event in ds.events():
    ds.result(event["digi_0"].mean > 0, 0)
"""


class Stamped:
    """A source whose pulse ids are the monotonic clock, in ns, when it put them."""

    max_event_bytes = 1024
    max_transition_bytes = 4096

    def __init__(self, events: int) -> None:
        samples = encode_shapes_data(RAW, {"raw": np.arange(64, dtype=np.uint16)})
        self._event = bytearray(encode_dgram(TransitionId.L1Accept, 0, [samples], env=1))
        self._left = events
        self._due_s = 0.0
        self._begun = False

    def fill(self, slots: Slots) -> int:
        """Put what is due."""
        if not self._begun:
            self._begun = slots.put(encode_dgram(TransitionId.Configure, 1, [RAW.encode()], env=1), 1)
            self._due_s = time.monotonic() + 1.0
            return int(self._begun)
        if self._left == 0:
            return END
        if self.wait_s() > 0 or not slots.events_free:
            return 0
        now_ns = time.monotonic_ns()
        self._event[:8] = (now_ns // 10**9 << 32 | now_ns % 10**9).to_bytes(8, "little")
        slots.put(self._event, now_ns)
        self._left -= 1
        self._due_s += 1 / RATE_HZ
        return 1

    def wait_s(self) -> float:
        """Return how long it is until the next event is due."""
        return max(0.0, self._due_s - time.monotonic())

    def close(self) -> None:
        """Nothing is held."""

    def describe(self) -> str:
        """Say what it is."""
        return "stamped events"


def measure(settings: Setting) -> Table:
    """Measure with a condition, and with a Python trigger script."""
    table = Table(f"source to subscriber at {RATE_HZ:g} Hz, one worker, one teb")
    events = settings.events(int(SECONDS * RATE_HZ), least=2000)
    with tempfile.TemporaryDirectory() as name, make_nursery(()) as nursery:
        folder = Path(name)
        os.environ["XDG_RUNTIME_DIR"] = name
        (folder / "script.py").write_text(SCRIPT)
        (folder / "trigger.py").write_text(TRIGGER)
        nursery.start_begin()

        def at(what: str, *words: str) -> None:
            took_us, lost = one_turn(folder, nursery, events, words)
            for quantile in (50, 99, 99.9):
                table.add(f"{what}: p{quantile:g}", "us", float(np.percentile(took_us, quantile)))
            table.add(f"{what}: largest", "us", float(took_us.max()))
            table.add(f"{what}: lost", "events", lost)

        turns(
            settings,
            lambda: at("condition", "--keep-if", "mean > 0"),
            lambda: at("Python trigger", "-p", str(folder / "trigger.py")),
        )
    p99 = table.rows["Python trigger: p99"].median
    print(f"p99 with a Python trigger: {p99:.0f} us, goal {GOAL_US:.0f} us")
    return table


def one_turn(folder: Path, nursery: Nursery, events: int, words: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return the times in us, the first ones left out, and how many events the subscriber lost."""
    with (
        started("drp_start", "teb", "--lone", "digi_0", "--serve", NAME, *words),
        listening(events) as child,
    ):
        config = DrpConfig(str(folder / "script.py"), sources=("stamped",), workers=1, events=events)
        judge = TebLinks([well_known(NAME)], Me("digi_0", "digi", 0, 0, 1), groups=1, required=True)
        report = Reducer(config, judge=judge).reduce(nursery, Stamped(events), {})
        if report.exit_code:
            raise SystemExit(f"bench: the run failed: {report.error}")
        text, _ = child.communicate(timeout=LIMIT_S)
    told = json.loads(text)
    return np.array(told["took_us"][WARM_UP:]), int(told["lost"])


@contextmanager
def started(module: str, call: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, for the length of the block."""
    code = f"import {module}, sys; sys.exit({module}.{call}())"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LIMIT_S)


@contextmanager
def listening(events: int) -> Iterator[subprocess.Popen[str]]:
    """A subscriber, once it is there."""
    words = [sys.executable, "-m", "bench.feedback", "--subscribe", str(events)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_S)


def subscribe(events: int) -> None:
    """Be the subscriber: print a line once there, and at the end what was taken."""
    import drp  # noqa: PLC0415 - the other role needs it in another process

    stream = drp.words([well_known(f"words-{NAME}")], limit_s=10.0)
    print("there", flush=True)
    took_us = []
    for event in stream:
        took_us.append((time.monotonic_ns() - event.pulse_id) / 1e3)
        if len(took_us) + stream.lost >= events:
            break
    print(json.dumps({"took_us": took_us, "lost": stream.lost}))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark, or its subscriber."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--subscribe"]:
        subscribe(int(words[1]))
        return
    settings = setting(words, doc=__doc__)
    say_where()
    measure(settings).print()


if __name__ == "__main__":
    main()
