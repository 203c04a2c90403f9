"""The timing stream's own drp: a child that is a member of the partition as any other, with the triggers themselves for data.

It has the alias of timing, at level drp. One that ends is started again, after a while that grows; it ends with this process, however that ends.
Whoever waits for timing to stand (`drp.link.ready`) hears it from the child, which stands last.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SCRIPT = Path(__file__).with_name("ts_script.py")
LOOK_S = 0.5
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0
STEADY_S = 60.0
STOP_S = 20.0
_COMMAND = """\
import os, signal, sys
from drp.script.process import set_parent_death_signal
set_parent_death_signal(signal.SIGTERM)
if os.getppid() != {parent}:
    sys.exit(1)
from drp_start import drp
sys.exit(drp())
"""

_ALIAS = re.compile(r"\w_\d+\Z")

log = logging.getLogger("drp.timing")


def words_of(
    *,
    instrument: str,
    platform: int,
    control_host: str,
    alias: str,
    keys: str | None = None,
    folder: Path | None = None,
) -> list[str]:
    """Return the options of the drp of a timing stream; its alias is DETECTOR_SEGMENT, also where timing's own is not."""
    alias = alias if _ALIAS.search(alias) else f"{alias}_0"
    words = ["-P", instrument, "-p", str(platform), "-C", control_host or "localhost", "-u", alias]
    words += ["-p", shlex.quote(str(SCRIPT)), "--source", "ts", "-W", "1"]
    words += ["--keys", keys] if keys else []
    return words + (["-o", str(folder)] if folder else [])


class Stream:
    """The child. Used by one thread; nothing blocks but `close`."""

    def __init__(self, words: Sequence[str], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._words = [sys.executable, "-c", _COMMAND.format(parent=os.getpid()), *words]
        self._clock_s = clock_s
        self._look_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._ended = False
        self._start()

    def look(self) -> None:
        """Start the child again where it has ended."""
        now = self._clock_s()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        if self._process.poll() is None:
            return
        if not self._ended:
            self._ended = True
            if now - self._began > STEADY_S:
                self._pause_s = FIRST_PAUSE_S
            log.error(
                "the drp of the timing stream ended with %d; it is started again in %g s",
                self._process.returncode,
                self._pause_s,
            )
            self._look_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
            return
        self._start()

    def close(self) -> None:
        """End the child: in good order, or after STOP_S at once."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL)
        self._began = self._clock_s()
        self._ended = False
