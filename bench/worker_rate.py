"""Events/s of one worker on real rings, without drp: a model of drp's end keeps the in-ring full and throws results away.

    python bench/worker_rate.py [EVENTS]

Each script is run on the same small event, one segment of 8 x 6 u16. What is measured is taking, the script, and publishing.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
from dgrams import Builder
from ring_parent import DEPTH, IN_RING, OUT_HEAD, OUT_RING, RingParent

from xtc import TransitionId

HEAD = """
import numpy as np
from drp import AlgDef, DataSource, DetectorDef
ds = DataSource()
fex = ds.add_detector(DetectorDef("cam", "epixhr", "serial0"), AlgDef("fex", 0, 0, 1), {"x": (np.uint32, 0)})
for run in ds.runs():
    det = run.Detector("cam")
    for evt in run.events():
"""
SCRIPTS = {
    "nothing at all": "        pass\n",
    "read the array": "        a = det.raw.raw(evt)\n",
    "add a scalar": "        fex.fex.x = 5\n        ds.add_data(fex.fex)\n",
    "read a pixel, add it, drop raw": (
        "        a = det.raw.raw(evt)\n        fex.fex.x = a[3, 2]\n        ds.add_data(fex.fex)\n        ds.remove_data('cam', 'raw')\n"
    ),
    "sum 48 pixels, add it, drop raw": (
        "        a = det.raw.raw(evt)\n        fex.fex.x = a.sum()\n        ds.add_data(fex.fex)\n        ds.remove_data('cam', 'raw')\n"
    ),
}
INFO = {"det_name": "cam", "det_type": "epixhr", "det_id": "serial0"}


def cpu_s(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(script: str, events: int) -> tuple[float, float]:
    """Return events/s, and the worker's processor time per event in microseconds."""
    builder = Builder(segments=1)
    parent = RingParent(arena_bytes=1 << 22)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_text(HEAD + script)
        parent.start(parent.spec([str(path)], INFO))
        for dgram in (
            builder.configure(),
            builder.begin_run(),
            builder.begin_step(),
            builder.bare(TransitionId.Enable),
        ):
            parent.push(dgram)
        parent.answers(4)
        event = builder.event(1)
        entry = struct.pack(
            "<QQQQIIBB", 0, 0, 0, parent.place(event), len(event), 1 << 16, TransitionId.L1Accept, 0
        ).ljust(64, b"\0")
        base = parent.pushed
        ring = np.frombuffer(parent.memory[IN_RING:OUT_RING], np.uint8).reshape(DEPTH, 64)
        ring[:] = np.frombuffer(entry, np.uint8)
        before = cpu_s(parent.process.pid)
        start = time.perf_counter()
        done = 0
        while done < events:
            parent.pushed = min(base + done + DEPTH // 2, base + events)
            parent.publish()
            head = parent.longs[OUT_HEAD]
            if head > base + done:
                done = head - base
                position, size = struct.unpack_from(
                    "<QI", parent.memory, OUT_RING + (head - 1) % DEPTH * 64 + 8
                )
                parent.give_back(position + size)
            time.sleep(0.0002)
        rate = events / (time.perf_counter() - start)
        cpu_us = (cpu_s(parent.process.pid) - before) / events * 1e6
        parent.stop()
        parent.answers(0)
        parent.exit_code()
    return rate, cpu_us


def main() -> None:
    """Print events/s and processor time per event of each script."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    for name, script in SCRIPTS.items():
        runs = [measure(script, events) for _ in range(3)]
        rate, cpu_us = max(rate for rate, _ in runs), min(cpu for _, cpu in runs)
        print(f"{name:36s} {rate:10,.0f} events/s  {cpu_us:6.2f} us of its core per event")


if __name__ == "__main__":
    main()
