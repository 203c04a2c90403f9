"""A user's script that attacks drp through all that a worker holds: its rings and arena, the bells, the pebble.

`write(folder, place, attack)` makes a script that does `attack` once in one worker, at Configure, at BeginStep or at event 20 of a run of
`sim:digitizer`, with these words: `answer(...)` publishes any out-entry, `say(...)` a result block of any content and ends, `u64` and `u32` read
and write words of the segment, `linger()` hangs.
"""

from __future__ import annotations

from pathlib import Path

WORDS = """
import ctypes, json, os, random, struct, sys, time
import numpy as np
from drp import AlgDef, DataSource, DetectorDef

RINGS = 2 * 1024 * 64
MARK = os.path.dirname(os.path.abspath(__file__)) + "/attacked"
OUT_HEAD, TAKEN, ASLEEP, STATE = 192, 128, 136, 140

def segments(mode):
    for line in open("/proc/self/maps"):
        if "/SYSV" in line and line.split()[1].startswith(mode):
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            yield begin, end - begin

def first():
    try:
        os.close(os.open(MARK, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

BASE, SIZE = next((begin, size) for begin, size in segments("rw") if size > 4096)
BELLS = next(begin for begin, size in segments("rw") if size == 4096)
PEBBLE, PEBBLE_SIZE = next(segments("r-"))
ARENA = BASE + 256 + RINGS
# Where no result of this run comes to lie, so that what was published before stays what it is.
ASIDE = (SIZE - 256 - RINGS) // 2 & ~7

def u64(at, value=None):
    place = ctypes.cast(BASE + at, ctypes.POINTER(ctypes.c_uint64))
    if value is not None:
        place[0] = value & (1 << 64) - 1
    return place[0]

def u32(at, value):
    ctypes.cast(BASE + at, ctypes.POINTER(ctypes.c_uint32))[0] = value

def linger():
    time.sleep(1000)

def answer(position=ASIDE, block=0, desc=0, status=0, data=b"", seq=None, bump=1):
    n = u64(OUT_HEAD)
    if seq is None:
        seq = u64(256 + n % 1024 * 64)
    ctypes.memmove(ARENA + position, data, len(data))
    ctypes.memmove(BASE + 256 + RINGS // 2 + n % 1024 * 64, struct.pack("<QQIIII", seq, position, block, desc, status, 1), 32)
    u64(OUT_HEAD, n + bump)

def encode(text=b"", drops=(), adds=(), damage=0, user=0, flags=0, json_bytes=None):
    out = struct.pack("<IIHBBI", len(drops), len(adds), damage, user, flags, len(text) if json_bytes is None else json_bytes)
    out += text + bytes(-len(text) % 4) + struct.pack(f"<{len(drops)}I", *drops)
    for index, shapes, data in adds:
        out += struct.pack("<IIQ", index, len(shapes), len(data))
        out += b"".join(struct.pack("<5I", *shape, *[0] * (5 - len(shape))) for shape in shapes)
    out += bytes(-len(out) % 8)
    return out, b"".join(data for _, _, data in adds)

def say(text=b"", status=0, **fields):
    desc, data = encode(text, **fields)
    answer(block=len(desc) + len(data), desc=len(desc), status=status, data=desc + data)
    time.sleep(0.3)
    os._exit(0)

def names(segment="0", alg='"a"', version="[0,0,1]", fields='[["x","UINT16",0]]', role="null", reduce="[]"):
    one = f'"det":"d","dettype":"t","detid":"i","segment":{segment},"alg":{alg},"version":{version},"node_id":null,"names_id":null'
    return ('{"names":[{' + one + f',"fields":{fields},"role":{role}' + '}],"reduce":' + reduce + '}').encode()
"""
DECLARE = """\
ds = DataSource()
info = ds.drp_info
definition = DetectorDef(info.det_name, info.det_type, info.det_id)
fex = ds.add_detector(definition, AlgDef("fex", 0, 0, 1), {"index": (np.uint64, 0)})
for run in ds.runs():
"""
LOOPS = {
    "configure": "{attack}\n"
    + DECLARE
    + "    for evt in run.events():\n        fex.fex.index = evt.index\n        ds.add_data(fex.fex)\n",
    "step": (
        DECLARE
        + "    for step in run.steps():\n{attack}\n        for evt in step.events():\n            fex.fex.index = evt.index\n            ds.add_data(fex.fex)\n"
    ),
    "event": DECLARE
    + "    for evt in run.events():\n{attack}\n        fex.fex.index = evt.index\n        ds.add_data(fex.fex)\n",
}
DEPTHS = {"configure": 0, "step": 8, "event": 8}


def write(folder: Path, place: str, attack: str) -> Path:
    """Write the script and return its path; the file `attacked` beside it says that it came to it."""
    condition = "if evt.index == 20 and first():" if place == "event" else "if first():"
    lines = [condition, *(f"    {line}" for line in attack.splitlines())]
    pad = " " * DEPTHS[place]
    path = folder / "hostile.py"
    path.write_text(WORDS + LOOPS[place].replace("{attack}", "\n".join(pad + line for line in lines)))
    return path
