"""Mutated files, by the thousand here and by the million under `-m slow`: never a crash, a hang, or a read
outside the buffer.

Every input ends at a page without access. What a mutation does is random with a fixed seed; hypothesis
shrinks in `test_walk`.
"""

from __future__ import annotations

import random
import struct
import time

import pytest

from tests.xtc import builders as b
from tests.xtc.guard import GuardedBuffer
from tests.xtc.hostile import corpus
from xtc import Config, Dgram, Scan, XtcError, _walk

WORDS = (0, 1, 2, 11, 12, 13, 20, 24, 255, 0x7FFFFFEF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF4, 0xFFFFFFFF)
GUARD = GuardedBuffer(1 << 16)
SECONDS_PER_INPUT = 1.0
_KINDS = [
    ("n", b.UINT16, 0), ("a", b.UINT8, 2), ("s", b.CHARSTR, 1), ("f", b.FLOAT, 3), ("On:e", b.ENUMDICT, 0),
    ("v:e", b.ENUMVAL, 0), ("z", b.DOUBLE, 4),
]  # fmt: skip


def sample_event() -> bytes:
    """An event of 300 bytes with nested Parents and fields of many kinds."""
    shapes = [b.shape(2, 3), b.shape(4), b.shape(1, 2, 2), b.shape(1, 1, 1, 1)]
    body = b"\1\2" + bytes(6) + b"abc\0" + bytes(16) + struct.pack("<ii", 1, 1) + bytes(8)
    one = b.shapes_data(1, shapes, body)
    return b.dgram(
        b.L1ACCEPT,
        b.xtc(b.PARENT, one + b.xtc(b.PARENT, b"")) + b.shapes_data(1, shapes, body, data_first=True),
    )


def mutate(raw: bytes, chance: random.Random) -> bytes:
    """Return `raw` with a few words, bytes or lengths changed."""
    out = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not out:
            break
        at = chance.randrange(len(out))
        how = chance.randrange(5)
        if how == 0:
            out[at] = chance.randrange(256)
        elif how <= 2 and len(out) >= 4:
            struct.pack_into("<I", out, min(at & ~1, len(out) - 4), chance.choice(WORDS))
        elif how == 3:
            del out[at : at + chance.randrange(1, 40)]
        else:
            out[at:at] = out[: chance.randrange(1, 40)]
    return bytes(out)


def read_event(held: memoryview, config: Config) -> None:
    try:
        _walk.children(held)
        dgram = Dgram(held, config=config)
        for value in dgram.fields():
            bytes(memoryview(value.value)) if hasattr(value.value, "nbytes") else value.value
    except (XtcError, _walk.WalkFault):
        pass


def read_file(held: memoryview) -> None:
    scan = Scan(held)
    try:
        for dgram in scan:
            dgram.fields()
    except XtcError:
        pass


def fuzz_events(count: int, seed: int) -> None:
    chance = random.Random(seed)
    config = Dgram(b.dgram(b.CONFIGURE, b.names(1, _KINDS))).config
    assert config is not None
    event = sample_event()
    assert len(Dgram(event, config=config).fields()) == 2 * len(_KINDS)
    for _ in range(count):
        raw = mutate(event, chance)
        start = time.perf_counter()
        read_event(GUARD.place(raw), config)
        assert time.perf_counter() - start < SECONDS_PER_INPUT, raw.hex()


def fuzz_files(count: int, seed: int) -> None:
    chance = random.Random(seed)
    files = [b.small_file(2), *(case.raw for case in corpus())]
    for _ in range(count):
        raw = mutate(chance.choice(files), chance)
        start = time.perf_counter()
        read_file(GUARD.place(raw))
        assert time.perf_counter() - start < SECONDS_PER_INPUT, raw.hex()


def test_mutated_events_are_read_or_refused() -> None:
    fuzz_events(20_000, seed=1)


def test_mutated_files_are_read_or_refused() -> None:
    fuzz_files(5_000, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_mutated_inputs_are_read_or_refused() -> None:
    fuzz_events(900_000, seed=3)
    fuzz_files(150_000, seed=4)
