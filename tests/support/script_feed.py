"""A feed for a FeedLink: deals a list of dgrams and keeps the answers, decoded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drp.script._link import FeedLink
from drp.script.info import DrpInfo
from drp.script.worker import serve
from xtc import TransitionId

INFO = DrpInfo(det_name="cam", det_type="epixhr", det_id="serial0", det_segment=0, pebble_bufsize=1 << 16)


@dataclass
class Arrival:
    dgram: bytes
    service: int
    index: int = 0
    pulse_id: int = 0
    bound_bytes: int = 1 << 20
    replay: bool = False


@dataclass
class Answered:
    service: TransitionId
    status: int
    desc: bytes
    data: bytes
    json: dict[str, Any] = field(default_factory=dict)


class ListFeed:
    """Deals `dgrams` one by one; `answers` are in the same order. `before(n)` is called before dgram n is dealt."""

    def __init__(
        self, dgrams: Iterable[bytes], *, bound: int = 1 << 20, before: Callable[[int], None] = lambda n: None
    ) -> None:
        self.arrivals = []
        index = 0
        for dgram in dgrams:
            service = dgram[11] & 0xF
            index = 0 if service == TransitionId.BeginRun else index
            self.arrivals.append(Arrival(dgram, service, index, 5000 + index, bound))
            index += service == TransitionId.L1Accept
        self.answers: list[Answered] = []
        self.before = before
        self.dealt = 0

    def next(self) -> Arrival | None:
        self.before(self.dealt)
        if self.dealt == len(self.arrivals):
            return None
        self.dealt += 1
        return self.arrivals[self.dealt - 1]

    def answer(self, status: int, block: memoryview, desc_bytes: int, service_ns: int) -> None:
        whole = bytes(block)
        desc, data = whole[:desc_bytes], whole[desc_bytes:]
        text = desc[16 : 16 + int.from_bytes(desc[12:16], "little")] if desc else b""
        service = TransitionId(self.arrivals[self.dealt - 1].service)
        self.answers.append(Answered(service, status, desc, data, json.loads(text) if text else {}))

    def of(self, service: TransitionId) -> list[Answered]:
        return [one for one in self.answers if one.service == service]


class Script:
    """Runs a script's text on dgrams, as a worker would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        text: str,
        dgrams: Iterable[bytes] | ListFeed,
        *args: str,
        info: DrpInfo = INFO,
        check_views: bool = False,
        check_jit: bool = False,
        bound: int = 1 << 20,
    ) -> tuple[int, ListFeed]:
        path = self.folder / "script.py"
        path.write_text(text)
        feed = dgrams if isinstance(dgrams, ListFeed) else ListFeed(dgrams, bound=bound)
        code = serve(FeedLink(feed), info, [str(path), *args], check_views=check_views, check_jit=check_jit)
        return code, feed
