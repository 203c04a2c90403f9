"""A drp of a partition whose source is told by lines on its standard input what to give, where a real one is told by timing.

    python stepped.py ENDPOINT SCRIPT FOLDER ALIAS

A line is the name of a transition, or how many events.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from drp.cli.options import prepared
from drp.core.config import DrpConfig
from drp.link.sockets import Endpoint
from drp.member.plan import Place
from drp.member.process import Process
from drp.source import END, Slots, Source
from xtc import Dgram, DgramHeader, TransitionId, encode_dgram


class Stepped:
    """Gives what `asked` says. The first Configure is the inner source's own."""

    def __init__(self, inner: Source, edit: Callable[[bytes], bytes], asked: deque[str]) -> None:
        self.inner = inner
        self.edit = edit
        self.asked = asked
        self.now = 1000 << 32
        self.kept: deque[bytes] = deque()
        self.events_free = self.transitions_free = 1

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def put(self, dgram: bytes, pulse_id: int = 0) -> bool:
        """Keep what the inner source gives."""
        self.kept.append(bytes(dgram))
        return len(self.kept) == 1

    def take(self, service: TransitionId) -> bytes:
        """Return the next of its dgrams of this kind."""
        while True:
            while self.kept:
                if Dgram(dgram := self.kept.popleft()).service == service:
                    return dgram
            self.inner.fill(self)

    def fill(self, slots: Slots) -> int:
        """Put one of what was asked for."""
        if not self.asked:
            return 0
        self.now += 1 << 20
        word = self.asked[0]
        if word.isdecimal():
            if not slots.events_free:
                return 0
            dgram = self.take(TransitionId.L1Accept)
            self.asked[0] = str(int(word) - 1)
            if int(word) == 1:
                self.asked.popleft()
        else:
            service = TransitionId[self.asked.popleft()]
            made = encode_dgram(service, 0, env=1)
            dgram = self.edit(self.take(service)) if service == TransitionId.Configure else made
        header = bytearray(dgram)
        header[:8] = (self.now & 0xFFFFFFFF).to_bytes(4, "little") + (self.now >> 32).to_bytes(4, "little")
        assert DgramHeader.decode(header).timestamp == self.now
        slots.put(header, self.now >> 20)
        return END if word == "Unconfigure" and not self.asked else 1

    def wait_s(self) -> float:
        """Look again soon."""
        return 0.001

    def close(self) -> None:
        """Nothing is asked any more."""
        self.asked.clear()
        self.inner.close()


class Lines:
    """The links of a drp that has no timing: what it is to give comes by lines."""

    def __init__(self) -> None:
        self.asked: deque[str] = deque()

    def read(self) -> None:
        for line in sys.stdin:
            self.asked.append(line.strip())

    def source(self, inner: Source, place: Place, epoch: int, edit: Callable[[bytes], bytes]) -> Source:
        return Stepped(inner, edit, self.asked)  # type: ignore[return-value]

    def judge(self, place: Place, epoch: int) -> None:
        return None

    def monitor(self, place: Place, epoch: int) -> None:
        return None

    def disconnect(self) -> None:
        return None


def main() -> int:
    """Run until a signal comes."""
    address, script, folder, alias = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    detector, _, segment = alias.rpartition("_")
    config = DrpConfig(
        script if script != "-" else "",
        sources=("sim:epixhr:1panel",),
        workers=1,
        instrument="tst",
        control="",
        det_name=detector,
        det_segment=int(segment),
        out_dir=Path(folder),
        event_timeout_s=0.5,
        stop_timeout_s=5.0,
    )
    lines = Lines()
    process = Process(config, Endpoint(address), lines, prepare=prepared)
    threading.Thread(target=lines.read, daemon=True).start()
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
