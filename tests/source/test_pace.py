"""When events are due, on a clock in the test's hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.source.pace import ARREARS_S, UNLIMITED, Pace


def test_without_a_rate_everything_is_due_at_once(clock: Any) -> None:
    pace = Pace(None, clock)
    assert pace.due() == UNLIMITED
    pace.went(1000)
    assert pace.due() == UNLIMITED
    assert pace.wait_s() == 0


def test_the_first_event_is_due_at_once_and_the_next_a_period_later(clock: Any) -> None:
    pace = Pace(100.0, clock)
    assert pace.due() == 1
    pace.went(1)
    assert pace.due() == 0
    assert pace.wait_s() == pytest.approx(0.01)
    clock.forward(0.0099)
    assert pace.due() == 0
    clock.forward(0.0001)
    assert pace.due() == 1
    assert pace.wait_s() == 0


def test_what_was_not_taken_stays_due(clock: Any) -> None:
    pace = Pace(100.0, clock)
    pace.due()
    clock.forward(0.05)
    assert pace.due() == 6
    pace.went(2)
    assert pace.due() == 4


def test_catching_up_after_a_stall_is_bounded_and_the_rate_goes_on_from_there(clock: Any) -> None:
    pace = Pace(1000.0, clock)
    pace.due()
    pace.went(1)
    clock.forward(60.0)
    bound = int(1000 * ARREARS_S)
    assert pace.due() == bound
    pace.went(bound)
    assert pace.due() == 0
    clock.forward(0.001)
    assert pace.due() == 1


@given(rate=st.floats(0.5, 1e6), steps=st.lists(st.floats(0, 0.1), max_size=30))
def test_events_never_run_ahead_of_the_rate(rate: float, steps: list[float]) -> None:
    now = [5]
    pace = Pace(rate, lambda: now[0])
    gone = pace.due()
    pace.went(gone)
    for step in steps:
        now[0] += int(step * 1e9)
        due = pace.due()
        pace.went(due)
        gone += due
        assert gone <= (now[0] - 5) * rate / 1e9 + 1.001
        assert pace.due() == 0
