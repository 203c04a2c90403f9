"""What algorithms take for a frame, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from drp.fex.errors import FexError
from drp.fex.frames import segments_of
from tests.calib.detector_frames import constants_of, frame_of, made, setup_of

SHAPE = (2, 512, 1024)


def test_arrays_and_calibrated_segments_give_the_same_read_only_segments() -> None:
    raw = frame_of(SHAPE, [1], 14, 0x3FFF)
    correction = made(setup_of("jungfrau", 2), constants_of((3, *SHAPE), [41.5, -1.39, -0.11]))
    arrays = list(segments_of(correction.calib(raw), SHAPE))
    count = 0
    for one, whole in zip(segments_of(correction.segments(raw), SHAPE), arrays, strict=True):
        assert np.array_equal(one, whole)
        assert not one.flags.writeable
        assert not whole.flags.writeable
        count += 1
    assert count == 2


def test_one_segment_may_come_without_its_axis() -> None:
    (one,) = segments_of(np.zeros((3, 4), np.float32), (1, 3, 4))
    assert one.shape == (3, 4)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (np.zeros((2, 3, 4)), "a frame is float64"),
        (np.zeros((2, 4, 3), np.float32), r"expected is float32 \(2, 3, 4\)"),
        (np.zeros((2, 4, 3), np.float32).swapaxes(1, 2), "C order"),
        (None, "a NoneType, neither"),
    ],
)
def test_what_is_no_frame_is_told(frame: object, says: str) -> None:
    with pytest.raises(FexError, match=says) as caught:
        segments_of(frame, (2, 3, 4))  # type: ignore[arg-type]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
