"""Errors say what, where and what to do, and come through pickling whole."""

import pickle

import pytest

from drp.core import errors as e

EVERY = [
    e.DrpError("it broke", hint="Mend it"),
    e.ConfigError("must be positive", option="--event-timeout", value=-1, hint="Give seconds, such as 2"),
    e.SourceError("cannot be read", source="a.xtc2", position=3, hint="Check the path"),
    e.OrderError(
        "out of order", service="L1Accept", state="unconfigured", recent=("Configure",), source="a.xtc2"
    ),
    e.ScriptError("raised", worker=3, transition="BeginRun", kind="ValueError", traceback="Traceback ..."),
    e.RecorderError("no space left", path="out/a.xtc2", errno=28),
    e.SegmentError("wrong cookie", segment_id=77, offset=16),
    e.WorkerError("wrong sequence", worker=1, incarnation=9, expected=5, found=6),
    e.RunStopped("a result did not fit", policy="--on-overflow stop"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling_with_its_fields_and_notes(error: e.DrpError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert isinstance(again, e.DrpError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EVERY[1], "--event-timeout -1: must be positive. Give seconds, such as 2"),
        (e.DrpError("it said: no.", hint="Mend it"), "it said: no. Mend it"),
        (EVERY[2], "a.xtc2, dgram 3: cannot be read. Check the path"),
        (EVERY[3], "a.xtc2: out of order (before it: Configure)"),
        (EVERY[4], "the script in worker 3, at BeginRun: raised\nTraceback ..."),
        (EVERY[5], "out/a.xtc2: no space left"),
        (EVERY[6], "shared memory segment 77, byte 0x10: wrong cookie"),
        (EVERY[7], "worker 1, incarnation 9: wrong sequence (expected 5, found 6)"),
        (EVERY[8], "--on-overflow stop: a result did not fit"),
    ],
)
def test_text_names_place_and_remedy(error: e.DrpError, text: str) -> None:
    assert str(error) == text
