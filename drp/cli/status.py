"""The status line: one line rewritten in place on a terminal, a plain line now and then elsewhere.

It formats a Snapshot and writes to the stream it is given. It knows no clock and no engine; log lines that
share the terminal go through `above`, so that the two do not garble each other.
"""

from __future__ import annotations

import os
from typing import TextIO

from drp.core.report import Snapshot
from drp.core.units import si

PLAIN_EVERY_S = 10.0
LIVE_EVERY_S = 0.2
HEAD_WORTH_TELLING_S = 0.5
USUAL_WIDTH = 120
_CLEAR = "\r\x1b[K"


def line(snapshot: Snapshot) -> str:
    """Return the line that tells `snapshot`; what is zero and ought to be is left out."""
    used = 100 * snapshot.slots_used / snapshot.slots if snapshot.slots else 0.0
    parts = [
        f"{snapshot.state} {_clock(snapshot.elapsed_s)}",
        f"{snapshot.events:,} events",
        si(snapshot.events_per_s, "Hz"),
        si(snapshot.bytes_per_s, "B/s"),
        f"in flight {snapshot.in_flight:,}",
        f"pebble {used:.0f}%",
    ]
    for name, count in (
        ("damaged", snapshot.damaged),
        ("lost", snapshot.lost),
        ("restarts", snapshot.restarts),
    ):
        if count:
            parts.append(f"{name} {count:,}")
    if snapshot.head_worker is not None and snapshot.head_s >= HEAD_WORTH_TELLING_S:
        parts.append(f"worker {snapshot.head_worker} holds the order for {snapshot.head_s:.1f} s")
    if snapshot.trouble:
        parts.append(snapshot.trouble.upper())
    return " | ".join(parts)


def _clock(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


class StatusLine:
    """Show snapshots on `stream`; `live` rewrites one line of `width` columns (None: those of the terminal),
    else a plain line stands every 10 s.
    """

    def __init__(self, stream: TextIO, *, live: bool, width: int | None = None) -> None:
        self._stream = stream
        self._live = live
        self._width = width
        self._shown = ""
        self._broken = False
        self._next_s = 0.0 if live else PLAIN_EVERY_S

    def show(self, snapshot: Snapshot) -> None:
        """Show `snapshot`, unless the last one shown is too recent by its `elapsed_s`."""
        if snapshot.elapsed_s < self._next_s:
            return
        text = line(snapshot)
        if self._live:
            self._next_s = snapshot.elapsed_s + LIVE_EVERY_S
            self._shown = text[: self._columns() - 1]
            self._put(_CLEAR + self._shown)
        else:
            self._next_s = snapshot.elapsed_s + PLAIN_EVERY_S
            self._put(text + "\n")

    def above(self, text: str) -> None:
        """Write `text`, which needs no newline at its end, and put the live line under it again."""
        self._put(f"{_CLEAR}{text}\n{self._shown}" if self._live else f"{text}\n")

    def close(self) -> None:
        """Take the live line away."""
        if self._shown:
            self._shown = ""
            self._put(_CLEAR)

    def _columns(self) -> int:
        """Return the width of the line: one that the terminal wraps cannot be rewritten."""
        if self._width is not None:
            return self._width
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or USUAL_WIDTH
        except OSError:
            return USUAL_WIDTH

    def _put(self, text: str) -> None:
        """Write and flush. That nobody reads any more, or a full disk, must not end a run: then nothing more is shown."""
        if self._broken:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._broken = True
