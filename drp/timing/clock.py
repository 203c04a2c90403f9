"""Time that does not go back: real time at the start, from there on the monotonic clock, and after a restart never before the last pulse given."""

from __future__ import annotations

import logging
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from drp.core import beam
from drp.core.errors import DrpError

_BYTES = 8
_SECOND_NS = 1_000_000_000
MAX_AHEAD_S = 3600.0

log = logging.getLogger("drp.timing")


class PulseClock:
    """Nanoseconds since 1990, and the last pulse id given, which is kept in a file where one is named (8 bytes; a kill cannot lose it).

    DrpError: the file cannot be used, or says a pulse of over an hour from now.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        real_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._memory: mmap.mmap | bytearray = bytearray(_BYTES) if path is None else _mapped(path)
        now = real_ns() - beam.EPOCH_UNIX_S * _SECOND_NS
        ahead_s = (beam.time_ns(self.last_pulse) - now) / _SECOND_NS if self.last_pulse else 0.0
        if ahead_s > MAX_AHEAD_S:
            raise DrpError(
                f"{path} says that the last pulse is {ahead_s:.0f} s from now, and pulse ids never go back",
                hint="Set the clock of this machine right; or, where the last run was made with a wrong one, remove the file",
            )
        if ahead_s > 0:
            log.warning(
                "the clock of this machine went back by %.3f s: pulses go on from the last one", ahead_s
            )
            now += int(ahead_s * _SECOND_NS) + _SECOND_NS // 1000
        self._offset_ns = now - monotonic_ns()

    def __call__(self) -> int:
        """Return now, in ns since 1990."""
        return self._monotonic_ns() + self._offset_ns

    @property
    def last_pulse(self) -> int:
        """The last pulse id given."""
        return int.from_bytes(self._memory[:_BYTES], "little")

    def gave(self, pulse_id: int) -> None:
        """Keep it that a pulse was given."""
        self._memory[:_BYTES] = pulse_id.to_bytes(_BYTES, "little")


def _mapped(path: Path) -> mmap.mmap:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            if os.fstat(fd).st_size < _BYTES:
                os.posix_fallocate(fd, 0, _BYTES)
            return mmap.mmap(fd, _BYTES)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        raise DrpError(f"{path}: the last pulse id cannot be kept there: {error}") from error
