"""Slots that keep what is put in them, and a clock that stands still until told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.source import END
from xtc import Dgram


class Basket:
    """What a batch of slots is to a source, with room for `events` and `transitions`."""

    def __init__(self, events: int = 1 << 40, transitions: int = 1 << 40) -> None:
        self.events_free = events
        self.transitions_free = transitions
        self.dgrams: list[bytes] = []
        self.pulse_ids: list[int] = []

    def put(self, dgram: Any, pulse_id: int = 0) -> bool:
        raw = bytes(dgram)
        if raw[11] & 0xF == 12:
            if not self.events_free:
                return False
            self.events_free -= 1
        else:
            if not self.transitions_free:
                return False
            self.transitions_free -= 1
        self.dgrams.append(raw)
        self.pulse_ids.append(pulse_id)
        return True

    @property
    def services(self) -> list[int]:
        return [raw[11] & 0xF for raw in self.dgrams]

    @property
    def timestamps(self) -> list[int]:
        return [Dgram(raw).timestamp for raw in self.dgrams]

    @property
    def times_ns(self) -> list[int]:
        return [(stamp >> 32) * 10**9 + (stamp & 0xFFFFFFFF) for stamp in self.timestamps]

    def pairs(self) -> Iterator[tuple[bytes, int]]:
        return zip(self.dgrams, self.pulse_ids, strict=True)


class Clock:
    """A monotonic clock in the test's hand."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_basket() -> Callable[..., Basket]:
    return Basket


@pytest.fixture
def drain() -> Callable[..., Basket]:
    """Fill a basket until the source ends, or `events` L1Accepts are in it."""

    def run(source: Any, events: int | None = None) -> Basket:
        basket = Basket(events=1 << 40 if events is None else events)
        for _ in range(100_000):
            put = source.fill(basket)
            if put == END or basket.events_free == 0:
                return basket
        raise AssertionError("the source neither ended nor gave the events wanted")

    return run


@pytest.fixture
def data(xtc2_data: Path) -> Path:
    """Folder of the real xtc2 files."""
    return xtc2_data
