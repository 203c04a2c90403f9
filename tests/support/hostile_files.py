"""Hostile files for the whole command: what is wrong is in a Configure or transition that drp itself reads, or is put anywhere by chance."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from tests.xtc import builders as b

WORD = struct.pack("<I", 7)
ONE = [("n", b.UINT32, 0)]
BASE = b.names(1, ONE)
CHUNK = [("filename", b.CHARSTR, 1), ("chunkid", b.UINT32, 0)]
EVIL_WORDS = (0, 1, 11, 12, 13, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
EVIL_BYTES = (0, 1, 127, 128, 255)


def event(time: int, payload: bytes | None = None) -> bytes:
    return b.dgram(b.L1ACCEPT, b.shapes_data(1, [], WORD) if payload is None else payload, time=time)


def run(
    *more_names: bytes,
    begin_run: bytes = b"",
    begin_step: bytes = b"",
    enable: bytes = b"",
    events: Sequence[bytes] | None = None,
) -> bytes:
    """A whole file of five events, with what is given in its place."""
    head = b.dgram(b.CONFIGURE, BASE + b"".join(more_names), time=1) + b.dgram(b.BEGINRUN, begin_run, time=2)
    head += b.dgram(b.BEGINSTEP, begin_step, time=3) + b.dgram(b.ENABLE, enable, time=4)
    return head + b"".join(event(5 + i) for i in range(5) if events is None) + b"".join(events or ())


def _books(det: str, fields: Sequence[b.FieldSpec], copies: int = 1) -> bytes:
    return b"".join(b.names(2 + i, fields, det=det, alg=det, segment=i) for i in range(copies))


def _runinfo(fields: Sequence[b.FieldSpec], shapes: Sequence[bytes], data: bytes) -> bytes:
    return run(_books("runinfo", fields), begin_run=b.shapes_data(2, shapes, data))


def _pulse(kind: int, rank: int, shapes: Sequence[bytes], data: bytes) -> bytes:
    fields = [("pulse_id", kind, rank), ("cause", b.UINT8, 0), ("worker", b.UINT16, 0)]
    return run(_books("drpinfo", fields), events=[event(9, b.shapes_data(2, shapes, data + b"\0\0\0"))])


def _chunk(name: bytes) -> bytes:
    return run(_books("chunkinfo", CHUNK), enable=b.shapes_data(2, [b.shape(len(name))], name + WORD))


def special() -> dict[str, tuple[bytes, set[int]]]:
    """Files by name, each with the exit codes that are right for it."""
    text = b.shape(4)
    broken = b.xtc(b.SHAPES_DATA, extent=5)
    slow = b.dgram(b.SLOWUPDATE, b.xtc(b.SHAPES_DATA, b"\1" * 30, src=1), time=20) + event(21)
    expt, run_ = ("expt", b.CHARSTR, 1), ("runnum", b.UINT32, 0)
    cases: dict[str, tuple[bytes, set[int]]] = {
        "drpinfo whose pulse id is an array": (_pulse(b.UINT64, 1, [b.shape(2)], bytes(16)), {0}),
        "drpinfo whose pulse id is text": (_pulse(b.CHARSTR, 1, [text], b"abc\0"), {0}),
        "drpinfo whose pulse id is negative": (_pulse(b.INT64, 0, [], b"\xff" * 8), {0}),
        "drpinfo whose pulse id is no number": (_pulse(b.DOUBLE, 0, [], b"\xff" * 8), {0}),
        "drpinfo of twenty segments": (run(_books("drpinfo", [("pulse_id", b.UINT64, 0)], 20)), {1}),
        "chunkinfo of twenty segments": (run(_books("chunkinfo", CHUNK, 20)), {1}),
        "experiment that is an array": (_runinfo([("expt", b.UINT8, 1), run_], [text], b"abc\0" + WORD), {0}),
        "experiment that leads elsewhere": (_runinfo([expt, run_], [b.shape(8)], b"../../x\0" + WORD), {1}),
        "experiment that is no text": (
            _runinfo([expt, run_], [b.shape(8)], b"\xff\xfe\x1b[2J\0\0" + WORD),
            {1},
        ),
        "run number that is an array": (
            _runinfo([expt, ("runnum", b.UINT32, 1)], [text, b.shape(2)], b"abc\0" + 2 * WORD),
            {0},
        ),
        "run number that is no number": (
            _runinfo([expt, ("runnum", b.DOUBLE, 0)], [text], b"abc\0" + b"\xff" * 8),
            {0},
        ),
        "run number beyond all": (
            _runinfo([expt, ("runnum", b.UINT64, 0)], [text], b"abc\0" + b"\xff" * 8),
            {1},
        ),
        "runinfo longer than its data": (_runinfo([expt, run_], [b.shape(400)], b"abc\0"), {1}),
        "BeginRun with unknown Names": (run(begin_run=b.shapes_data(77, [], WORD)), {1}),
        "BeginStep with a broken extent": (run(begin_step=broken), {0}),
        "Enable with a broken extent": (run(enable=broken), {1, 2}),
        "EndRun with a broken extent": (run() + b.dgram(b.ENDRUN, broken, time=99), {0, 1}),
        "SlowUpdate with a broken extent": (run() + slow, {0}),
        "next chunk elsewhere": (_chunk(b"../x\0"), {2}),
        "next chunk without a name": (_chunk(b"\0"), {2}),
        "next chunk with a name too long": (_chunk(b"x" * 5000 + b"\0"), {2}),
        "next chunk that is itself": (_chunk(b"hostile.xtc2\0"), {0, 1, 2}),
        "no detector": (b.dgram(b.CONFIGURE) + event(3), {0, 1}),
        "times at the end of time": (
            b"".join(b.dgram(s, BASE * (s == 2), time=(1 << 64) - 1) for s in (2, 4, 6, 8, 12)),
            {0},
        ),
        "names of Python": (
            run(b.names(2, [("__class__", b.UINT8, 0)], det="__class__", alg="__init__")),
            {0},
        ),
        "node without room": (run(*(b.names(i, ONE, segment=i) for i in range(2, 256))), {1}),
        "services that are not of a run": (run() + b"".join(b.dgram(s, time=50) for s in (0, 1, 11)), {1}),
    }
    return cases


def mutate(raw: bytes, dice: random.Random) -> bytes:
    """Return the file with a few words or bytes written over, dgrams missing, doubled or moved, or its end cut off."""
    out = bytearray(raw)
    places = list(dgrams(raw))
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        at, size = dice.choice(places)
        inside = [at + 24 + 4 * i for i in range(min(20, (size - 28) // 4))] or [at]
        where = dice.choice(
            [dice.randrange(at + 8, at + 24), dice.randrange(at, at + size), dice.choice(inside)]
        )
        if dice.random() < 0.5:
            out[where] = dice.choice((*EVIL_BYTES, dice.randrange(256)))
        else:
            struct.pack_into(
                "<I",
                out,
                min(where, len(out) - 4),
                dice.choice((*EVIL_WORDS, len(out), dice.getrandbits(32))),
            )
    at, size = dice.choice(places)
    whole = bytes(out[at : at + size])
    match dice.randrange(12):
        case 0:
            del out[dice.randrange(len(out)) :]
        case 1:
            del out[at : at + size]
        case 2:
            out[at:at] = whole
        case 3:
            other, _ = dice.choice(places)
            out[other:other] = whole
    return bytes(out)


def dgrams(raw: bytes) -> Sequence[tuple[int, int]]:
    """(offset, size) of each dgram of a good file."""
    found, at = [], 0
    while at < len(raw):
        size = 12 + struct.unpack_from("<I", raw, at + 20)[0]
        found.append((at, size))
        at += size
    return found
