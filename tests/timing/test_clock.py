"""Pulse ids follow real time, and never go back: not when the clock does, not over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from drp.core import beam
from drp.core.errors import DrpError
from drp.timing.clock import PulseClock

S = 1_000_000_000
NOW = 1_800_000_000 * S


def at(path: Path | None, real_ns: int, monotonic_ns: int = 5 * S) -> PulseClock:
    return PulseClock(path, monotonic_ns=lambda: monotonic_ns, real_ns=lambda: real_ns)


def test_it_is_real_time_since_1990() -> None:
    assert at(None, NOW)() == NOW - beam.EPOCH_UNIX_S * S


def test_the_last_pulse_survives_and_time_goes_on_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tst-p0.pulse"
    first = at(path, NOW)
    first.gave(beam.pulse_at(first() + 3 * S))
    again = at(path, NOW)
    assert again.last_pulse == first.last_pulse
    assert beam.pulse_at(again()) > first.last_pulse
    assert "went back by 3.0" in caplog.text


def test_a_last_pulse_that_is_far_in_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tst-p0.pulse"
    at(path, NOW).gave(beam.pulse_at(NOW))
    with pytest.raises(DrpError, match="remove the file"):
        at(path, NOW)


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(DrpError, match="cannot be kept"):
        at(tmp_path / "no" / "tst.pulse", NOW)
