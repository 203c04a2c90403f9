"""GB/s of 4.4 MB events through drp, beside memcpy.

Input: 64 distinct frames of a simulated epixHR of 2.2 Mpixel, 283 MB together and so larger than any cache, dealt as fast as they are
taken: each byte is read from the set and written into a slot of the pebble. The rival copies the same bytes, frame by frame and with one
thread, between two buffers of that size; beside what is recorded stands a loop that writes the frames to a file. Bytes count once, as they
come in; time from the first event handed in to the last one recorded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench._common import Setting, Table, run_drp, say_where, scratch, setting, turns

SOURCE = "sim:epixhr"
FRAMES = 64
EVENT_BYTES = 20 * 144 * 768 * 2
EVENTS = 4000
RECORDED_EVENTS = 800
MEMCPY = "memcpy"
WRITTEN = "write() to tmpfs"
DROPPED = "drp, raw dropped without looking"
KEPT = "drp, raw kept and recorded"
SUMMED = "drp, all pixels read, raw dropped"


class Memcpy:
    """Two buffers of the size of the set, both touched."""

    def __init__(self) -> None:
        self._from = np.random.default_rng(1).integers(0, 256, (FRAMES, EVENT_BYTES), np.uint8)
        self._to = np.ones_like(self._from)

    def bytes_per_s(self, events: int) -> float:
        """Copy `events` frames; return the rate."""
        began = time.perf_counter()
        for event in range(events):
            np.copyto(self._to[event % FRAMES], self._from[event % FRAMES])
        return events * EVENT_BYTES / (time.perf_counter() - began)

    def written_bytes_per_s(self, events: int) -> float:
        """Write `events` frames to a file on tmpfs, one call each; return the rate."""
        with scratch() as folder, (folder / "frames").open("wb", buffering=0) as file:
            began = time.perf_counter()
            for event in range(events):
                file.write(self._from[event % FRAMES])
            return events * EVENT_BYTES / (time.perf_counter() - began)


def measure(settings: Setting) -> Table:
    """Measure memcpy and the three things a script may do."""
    table = Table(f"big events: {SOURCE}, {EVENT_BYTES / 1e6:.1f} MB each, one worker, output on tmpfs")
    rival = Memcpy()

    def drp(name: str, what: str, usual: int) -> None:
        events = settings.events(
            usual, usual // 2
        )  # fewer, and the first touch of the slots is what is measured
        report = run_drp("big.py", SOURCE, "-n", str(events), "-W", "1", arguments=what)
        table.add(name, "GB/s", report["bytes_in"] / report["run_s"] / 1e9)

    turns(
        settings,
        lambda: drp(DROPPED, "look-not", EVENTS),
        lambda: table.add(MEMCPY, "GB/s", rival.bytes_per_s(settings.events(EVENTS)) / 1e9),
        lambda: drp(SUMMED, "sum", EVENTS),
        lambda: drp(KEPT, "keep", RECORDED_EVENTS),
        lambda: table.add(
            WRITTEN,
            "GB/s",
            rival.written_bytes_per_s(settings.events(RECORDED_EVENTS, RECORDED_EVENTS // 2)) / 1e9,
        ),
    )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    settings = setting(argv, doc=__doc__)
    say_where()
    measure(settings).print(
        [(DROPPED, MEMCPY), (SUMMED, MEMCPY), (KEPT, WRITTEN)], {f"{DROPPED} / {MEMCPY}": "0.8"}
    )


if __name__ == "__main__":
    main()
