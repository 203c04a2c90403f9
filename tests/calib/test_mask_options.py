"""The options of masks: what they cannot be is said in a sentence, before any mask is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calib import CalibError
from calib.detectors.mask import MaskOptions, combine

SHAPE = (2, 6, 8)
STATUS = np.zeros((3, *SHAPE), np.uint64)
STATUS[1, 0, 2, 3] = 4


def masked(**options: Any) -> list[tuple[int, ...]]:
    """The pixels that options mask."""
    mask = combine(MaskOptions.of(options), SHAPE, (1, 2), {"pixel_status": STATUS})
    return [tuple(int(one) for one in at) for at in np.argwhere(mask == 0)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gain_range_inds": 1}, "gain_range_inds=1 is no list"),
        ({"gain_range_inds": "01"}, "is no list"),
        ({"gain_range_inds": ("a",)}, "'a' is no whole number"),
        ({"gain_range_inds": (0.5,)}, "0.5 is no whole number"),
        ({"gain_range_inds": (-1,)}, "-1 is no whole number"),
        ({"gain_range_inds": (3, 4)}, "(3, 4) names none of the 3 gain ranges"),
        ({"gain_range_inds": ()}, "names none"),
        ({"rad": "x", "neighbors": True}, "rad='x' is no whole number"),
        ({"rad": -1}, "rad=-1"),
        ({"rad": 1.5}, "rad=1.5"),
        ({"edge_rows": None}, "edge_rows=None"),
        ({"width": -2}, "width=-2"),
        ({"center_cols": 1 << 40}, "center_cols="),
        ({"status_bits": -1}, "status_bits=-1"),
        ({"stextra_bits": 1 << 64}, "stextra_bits="),
        ({"ptrn": 5}, "ptrn=5"),
        ({"umask": "all"}, "umask is no array of numbers"),
        ({"umask": [[1, 0], [1]]}, "umask is no array of numbers"),
        ({"umask": np.ones((2, 8, 6))}, "umask has shape (2, 8, 6)"),
        ({"umask": np.ones((6, 8))}, "umask has shape (6, 8)"),
    ],
)
def test_what_an_option_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(CalibError) as failure:
        masked(**options)
    assert said in str(failure.value)


def test_options_may_be_what_scripts_have_at_hand() -> None:
    bad = [(0, 2, 3)]
    assert masked() == masked(gain_range_inds=[1]) == masked(gain_range_inds=np.arange(5)) == bad
    assert masked(gain_range_inds=(0, 2)) == masked(status_bits=np.uint64(3)) == []
    user = np.ones(SHAPE, bool)
    user[1, 5, 7] = False
    assert masked(umask=user.tolist()) == masked(umask=user.reshape(12, 8)) == [*bad, (1, 5, 7)]
    assert len(masked(neighbors=True, rad=np.int32(1))) == 5
    assert MaskOptions(gain_range_inds=np.arange(2)) != MaskOptions()
    assert not MaskOptions(gain_range_inds=np.arange(2)).default
